"""A few uniform recipes of rising strength, measured untrained: what a network can reach on this machine at all."""

import math
import time
from dataclasses import dataclass

from autocompress.budget import Metric
from autocompress.errors import RunError
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.recipe import Recipe
from autocompress.search.goal import Goal
from autocompress.search.parameters import RecipeBuilder, Value
from autocompress.search.setting import Costed, Setting
from autocompress.search.summary import summary

RATIOS = (0.0, 0.5, 0.75, 0.95)  # clipped to the space; the last one is its strongest
STRONG_RANK = 0.2
HALF = 0.5  # of the channels: where to look when no cost is limited
MARGIN = 0.98  # aim a little under a limit: interpolation between rungs is not exact


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """One uniform recipe that is to be measured; ``only_pruned``: nothing but channels and precisions changed."""

    values: dict[str, Value]
    ratio: float
    precision: Format
    recipe: Recipe
    only_pruned: bool = True


@dataclass(frozen=True, kw_only=True)
class Rung(_Draft):
    """One uniform recipe and what its untrained file costs."""

    facts: ModelFacts

    @property
    def name(self) -> str:
        """The recipe in a few words."""
        return summary(self.recipe)


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The measured rungs; ``seconds`` is what building and measuring them took."""

    rungs: tuple[Rung, ...]
    seconds: float

    @property
    def each_s(self) -> float:
        """Seconds of one rung, about, of those that were built side by side."""
        return max(1e-3, self.seconds / len(self.rungs))

    def reachable(self, metric: Metric) -> float | None:
        """The lowest value of a cost over all rungs."""
        values = [value for rung in self.rungs if (value := metric.of(rung.facts)) is not None]
        return min(values, default=None)

    def int8_pays(self) -> bool | None:
        """Whether int8 is faster than fp32 at the same widths; None when that was not measured."""
        times = {rung.precision: rung.facts.latency_ms for rung in self.rungs if rung.ratio == 0.0 and rung.only_pruned}
        int8, fp32 = times.get(Format.INT8), times.get(Format.FP32)
        return None if int8 is None or fp32 is None else int8 < fp32

    def nearest(self, goal: Goal) -> Rung:
        """The rung whose worst violation of the costs is least."""
        return min(
            self.rungs, key=lambda rung: max(goal.budget.violation(rung.facts, goal.baseline).values(), default=0)
        )

    def anchors(self, goal: Goal) -> list[Rung]:
        """The mildest rung of each precision that meets the costs as measured, the mildest of these first."""
        fitting = sorted((rung for rung in self.rungs if goal.within_costs(rung.facts)), key=lambda rung: rung.ratio)
        mildest = {(rung.precision, rung.only_pruned): rung for rung in reversed(fitting)}
        return sorted(mildest.values(), key=lambda rung: (not rung.only_pruned, rung.ratio))

    def starts(self, goal: Goal, builder: RecipeBuilder) -> list[dict[str, Value]]:
        """Uniform recipes to look around: per precision the mildest that should fit; half where no cost is limited."""
        measured = dict.fromkeys(rung.precision for rung in self.rungs)
        ratios = {each: self.feasible_ratio(goal, each) for each in measured}
        if goal.minimizes_cost:
            ratios = dict.fromkeys(ratios, HALF)
        return [builder.uniform(ratio, precision) for precision, ratio in ratios.items() if ratio is not None]

    def feasible_ratio(self, goal: Goal, precision: Format) -> float | None:
        """The least uniform ratio that should meet every cost limit, interpolated; None when no rung does."""
        rungs = sorted(
            (rung for rung in self.rungs if rung.precision is precision and rung.only_pruned),
            key=lambda rung: rung.ratio,
        )
        worst = [max(goal.budget.violation(rung.facts, goal.baseline).values(), default=-1.0) for rung in rungs]
        aim = MARGIN - 1
        if worst and worst[0] <= 0:
            return rungs[0].ratio
        for (a, va), (b, vb) in zip(
            zip(rungs, worst, strict=True), list(zip(rungs, worst, strict=True))[1:], strict=False
        ):
            if vb <= aim:
                return a.ratio + (b.ratio - a.ratio) * (va - aim) / (va - vb)
            if vb <= 0:
                return b.ratio
        return None


def climb(setting: Setting, limit_s: float = math.inf) -> Ladder:
    """Build and measure the rungs; within ``limit_s``, the mildest and the strongest and what there is time for.

    Raises:
        RunError: not one rung could be exported; with the first cause.
    """
    started = time.monotonic()
    drafts = _drafts(setting.builder)
    costed = _costed(setting, drafts, limit_s)
    if not costed.facts:
        raise RunError(f"no recipe could be exported; the first cause: {next(iter(costed.errors.values())).strip()}")
    rungs = tuple(
        Rung(
            values=draft.values,
            ratio=draft.ratio,
            precision=draft.precision,
            recipe=draft.recipe,
            facts=costed.facts[key],
            only_pruned=draft.only_pruned,
        )
        for key, draft in enumerate(drafts)
        if key in costed.facts
    )
    return Ladder(rungs=rungs, seconds=time.monotonic() - started)


def _costed(setting: Setting, drafts: list[_Draft], limit_s: float) -> Costed:
    """Costs by places in ``drafts``: of all at once, or first of the ends, whose pace says how many more may follow."""
    recipes = {place: draft.recipe for place, draft in enumerate(drafts)}
    what = "uniform recipes"
    if limit_s == math.inf:
        return setting.cost(recipes, what, always=recipes)
    started = time.monotonic()
    strongest = max(recipes, key=lambda place: (not drafts[place].only_pruned, drafts[place].ratio, place))
    ends = {place: recipes[place] for place in {0, strongest}}
    costed = setting.cost(ends, what, always=ends)
    gone_s = max(1e-3, time.monotonic() - started)
    at_once = max(len(ends), setting.launcher.slots())
    count = max(0, int((limit_s / gone_s - 1) * at_once))
    others = dict([each for each in recipes.items() if each[0] not in ends][:count])
    if others:
        costed = costed.with_others(setting.cost(others, what, always=others))
    built = len(ends) + len(others)
    if built < len(recipes):
        setting.observer.note(f"{built} of {len(recipes)} {what} were built; for more, give more --time")
    return costed


def _drafts(builder: RecipeBuilder) -> list[_Draft]:
    """Distinct uniform recipes: int8 at all ratios, fp32 at the ends, and the strongest of everything."""
    passes = builder.space.passes
    prune, quantize, factorize = passes.prune_channels, passes.quantize, passes.factorize
    ratios = sorted({prune.ratio.clip(ratio) for ratio in RATIOS}) if prune else [0.0]
    formats = quantize.precision if quantize else (Format.FP32,)
    wanted = [(ratio, formats[0], 1.0, False) for ratio in ratios]
    wanted += [(ratio, other, 1.0, False) for other in formats[1:] for ratio in (ratios[0], ratios[-1])]
    if factorize:
        wanted += [(ratio, formats[0], factorize.rank.clip(STRONG_RANK), False) for ratio in (ratios[-1], ratios[0])]
    if any(knob.strongest is not None for knob in builder.knobs()):
        wanted += [(ratio, formats[0], 1.0, True) for ratio in (ratios[-1], ratios[0])]
    found: dict[str, _Draft] = {}
    for ratio, precision, rank, strongest in wanted:
        values = builder.uniform(ratio, precision, rank, strongest=strongest)
        recipe = builder.recipe(values)
        only_pruned = rank == 1.0 and not strongest
        draft = _Draft(values=values, ratio=ratio, precision=precision, recipe=recipe, only_pruned=only_pruned)
        found.setdefault(recipe.structure_digest(), draft)
    return list(found.values())
