"""A few outer parameters, and the full recipe that each choice of them means: one choice for every unit of the network.

Samplers are weak in dozens of per-layer dimensions (``research/search.md``). So the study sees some twenty at most: how
much of each limit to use, and factors by which the measured losses of the sensitivity table are taken for more or less
than they are, by stage and by technique; the recipe is what then loses least within the limits. All factors at 1 give
the table's own allocation. The same idea, by layer: Frantar and Alistarh 2022, https://arxiv.org/abs/2201.13096.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from autocompress.budget import Metric
from autocompress.graph.anatomy import Anatomy
from autocompress.graph.units import Unit
from autocompress.measurement import ModelFacts
from autocompress.passes import ShareLayers
from autocompress.recipe import Recipe, Recovery
from autocompress.result import TrialRecord, TrialState
from autocompress.search.allocation.allocate import Allocation, Allocator
from autocompress.search.allocation.choices import Choice, values_of
from autocompress.search.allocation.correction import Result, factors, shares_of
from autocompress.search.parameters import Knob, RecipeBuilder
from autocompress.search.space import Range
from autocompress.search.steps import UNUSED, Value
from autocompress.search.student_arms import DRAWS, StudentArms

Floats = npt.NDArray[np.float64]

AIM = Range(low=0.8, high=1.0)  # of a limit
WIDE_AIM = Range(low=0.05, high=1.0)  # of the original's cost, where accuracy is what is limited
FACTOR = Range(low=-1.0, high=1.0)  # powers of ``BASE``
BASE = 4.0
OPEN_AIMS = (0.5, 0.35, 0.25, 0.7)
STAND_IN_AIMS = (0.7, 0.5, 0.35, 1.0)
RATE = Range(low=-1.0, high=1.0)  # powers of ``RATE_BASE``
RATE_BASE = 3.0
FEW_BITS = "few_bits"  # integers of less than eight bits
SHARE = Range(low=0.0, high=1.0)
STUDENTS_FROM = 0.8  # of the knob: one in five random candidates is a student
REPEATS = 8
TIGHTER = 0.95  # of what the recipe before costs
NOISE = 0.5
TIE = "tie"
STORED = {Metric.SIZE, Metric.PARAMS}  # what blocks that share weights have less of
MOST_RESULTS = 200  # the latest, that factors are fitted on: they need no more, and every trial fits them anew
PARTS = ("drop_blocks", "prune_channels", "factorize", "prune_weights", "share_weights", FEW_BITS)


@dataclass(kw_only=True)
class Outer:
    """``builder`` is that of the network by units; ``stages`` gives the stage of each unit; ``limits`` are the costs'.

    ``open_ended`` says that ``limits`` are the original's costs, of which any share may be aimed at. ``students`` are
    other networks in the same race. ``original_accuracy`` is the validation accuracy that losses count from.
    ``stand_ins`` are those whose limit stands in for one that only a file shows, so that less may have to be aimed at.
    """

    builder: RecipeBuilder
    allocator: Allocator
    stages: tuple[int, ...]
    limits: Mapping[Metric, float]
    original_accuracy: float
    open_ended: bool = False
    stand_ins: frozenset[Metric] = frozenset()
    students: StudentArms | None = None
    factors: dict[str, float] = field(default_factory=dict)
    _picks: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    _values: dict[str, dict[str, Value]] = field(default_factory=dict, repr=False)
    _given: set[str] = field(default_factory=set, repr=False)
    _learned: int = field(default=0, repr=False)
    _results: list[Result] = field(default_factory=list, repr=False)
    _last: tuple[int, ...] | None = field(default=None, repr=False)

    @property
    def can_choose(self) -> bool:
        """Whether any part of the network may become anything else."""
        return any(len(row) > 1 for row in self.allocator.choices)

    def with_recovery(self, recovery: Recovery) -> "Outer":
        """A copy whose recipes are recovered so."""
        students = None if self.students is None else replace(self.students, recovery=recovery)
        return replace(self, builder=replace(self.builder, recovery=recovery), students=students)

    def knobs(self) -> tuple[Knob, ...]:
        """Every parameter, in a fixed order."""
        return tuple(self._knobs())

    def neutral(self, aim: float | None = None) -> dict[str, Value]:
        """The parameters at which the table decides alone; ``aim`` is the share of limits that leave one open."""
        share = self.aims[0] if aim is None else aim
        found: dict[str, Value] = {knob.name: knob.choices[0] if knob.range is None else 0.0 for knob in self.knobs()}
        return found | {f"aim.{metric}": share if self._is_open(metric) else 1.0 for metric in self.limits}

    @property
    def leaves_open(self) -> bool:
        """Whether a limit may be aimed far below: what a file leaves of it says nothing."""
        return self.open_ended or bool(self.stand_ins)

    @property
    def aims(self) -> tuple[float, ...]:
        """Shares of the limits at which the table's allocation is tried first."""
        if self.open_ended:
            return OPEN_AIMS
        return STAND_IN_AIMS if self.stand_ins else (1.0,)

    def recipe(self, values: Mapping[str, Value]) -> Recipe | None:
        """The recipe that ``values`` mean; None where nothing that is known meets the limits.

        Where that recipe was given before, one beside it: with the losses of single choices a little off, at lower
        costs. Where limits are wide nothing else would ever be tried.
        """
        if self.students is not None and float(values.get("student", 0.0)) > STUDENTS_FROM:
            return self.students.recipe(str(values["family"]), int(values["draw"]), self._limits(values))
        recipe, limits = None, self._limits(values)
        for repeat in range(REPEATS):
            found = self._allocation_of_ties(values, NOISE * min(repeat, 2), limits)
            if found is None:
                break
            recipe = self.recipe_of(found.picks, values)
            if recipe.structure_digest() not in self._given:
                self._given.add(recipe.structure_digest())
                return self.remember(recipe, found.picks, values)
            limits = {metric: TIGHTER * min(limit, found.costs[metric]) for metric, limit in limits.items()}
        return recipe

    def recipe_of(self, picks: Sequence[int], values: Mapping[str, Value]) -> Recipe:
        """The recipe of a selection of choices, with what ``values`` say beside it."""
        parameters = values_of({unit: self.allocator.choices[unit][place] for unit, place in enumerate(picks)})
        recipe = self.builder.recipe(parameters | _of_all(values))
        rate = recipe.recovery.learning_rate * RATE_BASE ** float(values.get("rate", 0.0))
        return recipe.model_copy(update={"recovery": recipe.recovery.model_copy(update={"learning_rate": rate})})

    def _allocation_of_ties(
        self, values: Mapping[str, Value], noise: float, limits: Mapping[Metric, float]
    ) -> Allocation | None:
        """The selection, whose costs are those of blocks that share nothing; what sharing them spares is spent.

        Where the larger selection's blocks are no longer alike enough to share as much, it stays the smaller one.
        """
        found = self.allocation(values, noise=noise, limits=limits)
        if found is None or str(values.get(TIE, UNUSED)) == UNUSED:
            return found
        left = self._left_by_ties(found, values)
        wider = {metric: limit / left if metric in STORED else limit for metric, limit in limits.items()}
        more = self.allocation(values, noise=noise, limits=wider)
        return more if more is not None and self._left_by_ties(more, values) <= left else found

    def _left_by_ties(self, found: Allocation, values: Mapping[str, Value]) -> float:
        """The share of a selection's bytes that is stored."""
        parameters = values_of(found.choices(self.allocator.choices)) | _of_all(values)
        return 1 - self.builder.steps(parameters).tied_share

    def allocation(
        self,
        values: Mapping[str, Value],
        without: str | None = None,
        noise: float = 0.0,
        *,
        limits: Mapping[Metric, float] | None = None,
        start: Sequence[int] | None = None,
    ) -> Allocation | None:
        """The selection that ``values`` mean; ``without`` a pass or a part of ``PARTS`` if one is named.

        ``noise``: standard deviation of the logarithm of what each choice's loss is taken times. ``limits`` stand in
        for those that the values mean; ``start``: see ``Allocator``, by default the selection that was found last.
        """
        forbid = None if without is None else [[without in each for each in row] for row in self.parts_of_choices]
        if forbid is not None and any(all(row) for row in forbid):
            return None
        coefficients = self._coefficients(values)
        if noise:
            rng = np.random.default_rng((len(self._picks), int(noise * 1000)))
            coefficients = [row * np.exp(rng.normal(0.0, noise, len(row))) for row in coefficients]
        wanted = self._limits(values) if limits is None else limits
        start = self._last if start is None else start
        found = self.allocator.allocate(wanted, coefficients=coefficients, forbid=forbid, start=start)
        if found is not None and without is None and not noise:
            self._last = found.picks
        return found

    def learn(self, records: Sequence[TrialRecord]) -> None:
        """Take in what candidates cost and lost; the earlier records are known already.

        Those of a session before this one say themselves which selections they were.
        """
        new, self._learned = records[self._learned :], len(records)
        for record in new:
            self._recall(record)
        self.learn_costs([(record.recipe, record.facts) for record in new if record.facts is not None])
        if new:
            self._results += self._results_of(new)
            self.factors = factors(self._results[-MOST_RESULTS:])

    def _recall(self, record: TrialRecord) -> None:
        """Know a record's recipe as that of its selection, if that is one of this search."""
        rows, digest = self.allocator.choices, record.recipe.structure_digest()
        if record.picks is None or digest in self._picks or len(record.picks) != len(rows):
            return
        is_here = all(place < len(row) for place, row in zip(record.picks, rows, strict=True))
        if is_here and self.recipe_of(record.picks, record.parameters or {}).structure_digest() == digest:
            self.remember(record.recipe, record.picks, record.parameters)
            self._given.add(digest)

    def learn_costs(self, made: Sequence[tuple[Recipe, ModelFacts]]) -> None:
        """Take in what files cost."""
        for recipe, facts in made:
            picks = self._picks_of(recipe)
            if picks is not None:
                costs = {metric: [_cost(metric, facts)] for metric in (Metric.LATENCY, Metric.SIZE)}
                self.allocator.model.learn(np.array([picks]), costs)
            elif self.students is not None:
                self.students.learn([(recipe, facts)])

    def _picks_of(self, recipe: Recipe) -> tuple[int, ...] | None:
        """The selection whose costs and losses a recipe shows; None where it is none, or blocks share weights in it."""
        is_tied = bool(recipe.settings_of(ShareLayers.name))
        return None if is_tied else self._picks.get(recipe.structure_digest())

    def samples(self, count: int) -> list[Recipe]:
        """The table's own recipe, and some beside it; each once, and free to be asked for again."""
        found: dict[str, Recipe] = {}
        for number in range(count):
            allocation = self.allocation(self.neutral(), noise=NOISE * number)
            if allocation is not None:
                recipe = self.recipe_of(allocation.picks, self.neutral())
                found[recipe.structure_digest()] = self.remember(recipe, allocation.picks)
        return list(found.values())

    def remember(self, recipe: Recipe, picks: Sequence[int], values: Mapping[str, Value] | None = None) -> Recipe:
        """The recipe, known as that of a selection: what it comes to is learned from."""
        digest = recipe.structure_digest()
        self._picks[digest] = tuple(picks)
        self._values[digest] = dict(self.neutral() if values is None else values)
        return recipe

    def known(self, recipe: Recipe) -> tuple[tuple[int, ...], dict[str, Value]] | None:
        """The selection that a recipe was remembered as, and the parameters that led to it."""
        digest = recipe.structure_digest()
        return (self._picks[digest], self._values[digest]) if digest in self._picks else None

    def loss_of(self, picks: Sequence[int], values: Mapping[str, Value]) -> float:
        """What a selection loses by the table, as ``values`` take its losses."""
        rows = zip(self.allocator.loss, self._coefficients(values), picks, strict=True)
        return float(sum(loss[at] * factors[at] for loss, factors, at in rows))

    def _is_open(self, metric: Metric) -> bool:
        return self.open_ended or metric in self.stand_ins

    def _limits(self, values: Mapping[str, Value]) -> dict[Metric, float]:
        return {metric: limit * float(values.get(f"aim.{metric}", 1.0)) for metric, limit in self.limits.items()}

    def _results_of(self, records: Sequence[TrialRecord]) -> list[Result]:
        """Of selections that came to the end of their recovery."""
        found = []
        for record in records:
            picks = self._picks_of(record.recipe)
            if picks is not None and record.state is TrialState.COMPLETE and record.facts is not None:
                accuracy = record.facts.accuracy_val
                if accuracy is not None:
                    shares = shares_of(self.allocator.loss, self._parts, picks)
                    found.append(Result(shares=shares, lost=self.original_accuracy - accuracy))
        return found

    @cached_property
    def parts_of_choices(self) -> list[list[frozenset[str]]]:
        """Of each unit and choice its passes, with what of ``PARTS`` it uses."""
        return [[choice.technique_names | parts_of(choice) for choice in row] for row in self.allocator.choices]

    def _knobs(self) -> Iterator[Knob]:
        for metric in self.limits:
            yield Knob(name=f"aim.{metric}", range=WIDE_AIM if self._is_open(metric) else AIM)
        if len(set(self.stages)) > 1:
            for stage in sorted(set(self.stages)):
                yield Knob(name=f"stage.{stage}", range=FACTOR)
        used = {part for row in self._parts for parts in row for part in parts}
        for part in PARTS:
            if part in used:
                yield Knob(name=f"part.{part}", range=FACTOR)
        pruning = self.builder.space.passes.prune_channels
        if "prune_channels" in used and pruning and len(pruning.criterion) > 1:
            yield Knob(name="criterion", choices=tuple(pruning.criterion))
        tying = self.builder.space.passes.share_layers
        if tying and self.builder.anatomy.alike:
            yield Knob(name=TIE, choices=(UNUSED, *map(str, tying.blocks)))
        yield Knob(name="rate", range=RATE)
        if self.students is not None:
            yield Knob(name="student", range=SHARE)
            yield Knob(name="family", choices=self.students.families)
            yield Knob(name="draw", choices=DRAWS)

    @cached_property
    def _parts(self) -> list[list[frozenset[str]]]:
        return [[parts_of(choice) for choice in row] for row in self.allocator.choices]

    @cached_property
    def _uses(self) -> list[Floats]:
        """``[choices, PARTS]`` of each unit: 1 where a choice uses a part."""
        return [np.array([[part in parts for part in PARTS] for parts in row], dtype=np.float64) for row in self._parts]

    def _coefficients(self, values: Mapping[str, Value]) -> list[Floats]:
        """Of each unit and choice, what its loss is taken times."""
        parts = [float(values.get(f"part.{part}", 0.0)) + math.log(self.factors.get(part, 1.0), BASE) for part in PARTS]
        stages = [float(values.get(f"stage.{stage}", 0.0)) for stage in self.stages]
        return [BASE ** (stage + uses @ np.array(parts)) for stage, uses in zip(stages, self._uses, strict=True)]


def _of_all(values: Mapping[str, Value]) -> dict[str, Value]:
    """What of parameters holds for the whole network."""
    return {name: values[name] for name in ("criterion", TIE) if name in values}


def parts_of(choice: Choice) -> frozenset[str]:
    """What of ``PARTS`` a choice uses."""
    used = set(choice.technique_names & set(PARTS))
    bits = choice.precision.bits
    return frozenset(used | ({FEW_BITS} if bits is not None and bits < 8 else set()))


def stages_of_units(anatomy: Anatomy, units: Sequence[Unit]) -> tuple[int, ...]:
    """The stage of ``anatomy`` in which each unit begins; of channels alone, that of the unit before them."""
    found: list[int] = []
    for unit in units:
        here = [anatomy.stage_of[name] for name in unit.layers if name in anatomy.stage_of]
        found.append(min(here) if here else (found[-1] if found else 0))
    return tuple(found)


def _cost(metric: Metric, facts: ModelFacts) -> float:
    """As measured or counted; not a number where it is not known: predictions correct nothing."""
    value = facts.latency_ms if metric is Metric.LATENCY else metric.of(facts)
    return math.nan if value is None else float(value)
