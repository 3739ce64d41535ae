"""Student architectures as arms of the race: for any limits, a network of a family that should just meet them.

Members of a family are drawn and counted, not built. What they take is estimated from their layers and set right by
what students of this run were measured at; bytes follow from parameters. Of those within the limits, the ones with the
most parameters and MACs go first: counting parameters is a strong ranking among scores that need no training (Li et al.
2023, https://arxiv.org/abs/2301.11300).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autocompress.budget import Metric
from autocompress.errors import AutocompressError
from autocompress.measurement import ModelFacts
from autocompress.passes import Student
from autocompress.precision import INT8, Format
from autocompress.recipe import Base, PassStep, Recipe, Recovery
from autocompress.search.candidates.draw import Counted, Pool, RoughTimes, Sizes, counted, set_right
from autocompress.students.build import build
from autocompress.students.family import Architecture, load_family
from autocompress.students.recovery import student_recovery

MEMBERS = 48  # of each family that are drawn
OVERHEAD_BYTES = 12_000  # of a file beside its weights
BYTES_A_WEIGHT = {Format.INT8: 1.05, Format.FP32: 4.0}
DRAWS = tuple(str(number) for number in range(8))  # of a family's best that fit, the first, second, ...


@dataclass
class StudentArms:
    """``known`` are students whose milliseconds were measured or forecast.

    ``ms_a_rough``: of one rough millisecond, until there are any.
    """

    families: tuple[str, ...]
    sizes: Sizes
    base: Base
    recovery: Recovery
    seed: int
    precision: Format
    ms_a_rough: float
    known: list[tuple[Counted, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pool = Pool({name: load_family(name) for name in self.families}, self.sizes, seed=self.seed)

    def members(self, family: str) -> list[Counted]:
        """Those of a family, drawn when they are first asked for."""
        found = self._of(family)
        if len(found) < MEMBERS:
            alone = Pool({family: load_family(family)}, self.sizes, seed=self.seed)
            alone.draw(MEMBERS, lambda: False)
            self._pool.members |= alone.members
            found = self._of(family)
        return found

    def recipe(self, family: str, draw: int, limits: Mapping[Metric, float]) -> Recipe | None:
        """The ``draw``-th of the largest members of a family that should meet ``limits``; None where there is none."""
        times = self._times()
        fitting = [each for each in self.members(family) if self._fits(each, times, limits)]
        fitting.sort(key=lambda each: -(math.log(each.params) + math.log(max(each.macs, 1))))
        if not fitting:
            return None
        return self.recipe_of(fitting[min(draw, len(fitting) - 1)].architecture)

    def recipe_of(self, architecture: Architecture) -> Recipe:
        """The student, trained under the base, quantized where the space says so."""
        steps = [PassStep(name=Student.name, settings=Student.of(architecture).model_dump(mode="json"))]
        if self.precision is Format.INT8:
            settings = {"default": INT8.model_dump(mode="json", exclude_none=True)}
            steps.append(PassStep(name="quantize", settings=settings))
        network = build(architecture, shape=self.sizes.shape, n_outputs=self.sizes.n_outputs, seed=self.seed)
        recovery = student_recovery(self.recovery, network)
        return Recipe(base=self.base, passes=tuple(steps), recovery=recovery, seed=self.seed)

    def learn(self, recipes: Sequence[tuple[Recipe, ModelFacts]]) -> None:
        """Take in what students cost."""
        for recipe, facts in recipes:
            ms = facts.latency_predicted_ms if facts.latency_ms is None else facts.latency_ms
            settings = recipe.settings_of(Student.name)
            if ms is None or not settings.get("family"):
                continue
            try:
                member = counted(Architecture.model_validate(settings), self.sizes)
            except AutocompressError:
                continue
            if all(member.key != other.key for other, _ in self.known):
                self.known.append((member, ms))

    def _of(self, family: str) -> list[Counted]:
        return [each for each in self._pool.members.values() if each.architecture.family == family]

    def _times(self) -> RoughTimes:
        if self.known:
            return set_right(self.known)
        return RoughTimes(factors={}, overall=self.ms_a_rough, spread=1.0)

    def estimates(self) -> list[dict[Metric, float]]:
        """The costs, estimated, of all members that were drawn so far; the smallest of each family is among them."""
        times = self._times()
        return [self._costs(each, times) for family in self.families for each in self._of(family)]

    def estimate(self, architecture: Architecture) -> dict[Metric, float]:
        """The costs of one member, estimated."""
        return self._costs(counted(architecture, self.sizes), self._times())

    def _fits(self, member: Counted, times: RoughTimes, limits: Mapping[Metric, float]) -> bool:
        costs = self._costs(member, times)
        return all(costs[metric] <= limit for metric, limit in limits.items() if metric in costs)

    def _costs(self, member: Counted, times: RoughTimes) -> dict[Metric, float]:
        return {
            Metric.LATENCY: times.ms(member),
            Metric.SIZE: member.params * BYTES_A_WEIGHT[self.precision] + OVERHEAD_BYTES,
            Metric.MACS: member.macs,
            Metric.PARAMS: member.params,
        }
