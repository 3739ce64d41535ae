"""The simple alternatives that every run tries under its own rules: if one of them wins, it is the answer."""

from collections.abc import Mapping, Sequence

from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.recipe import Recipe
from autocompress.result import ControlRow, TrialRecord
from autocompress.search.allocation.uniform_selections import at_random, uniforms
from autocompress.search.goal import Goal
from autocompress.search.ladder import HALF, Ladder
from autocompress.search.outer import Outer
from autocompress.search.parameters import Value
from autocompress.search.setting import Setting
from autocompress.search.space import SearchSpace

ORIGINAL = "original"
UNIFORM_INT8 = "uniform int8"
UNIFORM_PRUNING = "uniform pruning + int8"
UNIFORM_PRUNING_FLOAT = "uniform pruning"
LEAST_PRUNED = 0.25  # of the channels, where int8 alone fits already: a control must differ from the other
BEST_UNIFORM = "best uniform combination"
BARE_TABLE = "the table's own allocation"
AT_RANDOM = "random within the budget"
NOTES = {
    UNIFORM_INT8: "every layer in int8",
    UNIFORM_PRUNING: "the same share of every layer's channels, as little as fits, and int8",
    UNIFORM_PRUNING_FLOAT: "the same share of every layer's channels, as little as fits",
    BEST_UNIFORM: "one treatment for all parts, of those that fit the one that loses least by the table",
    BARE_TABLE: "part by part what loses least by the table, nothing learned from trials",
    AT_RANDOM: "part by part at random, as far as it fits",
}
NOT_MADE = "was not tried: nothing of this kind meets the costs, or time was up"
ANSWER = "the answer: this one is returned"
STEPS = (0.0, 0.04, 0.08)  # beyond the interpolated ratio, tried at once: the least that fits is taken


def control_values(setting: Setting, ladder: Ladder, *, has_time: bool = True) -> dict[str, dict[str, Value]]:
    """Name → parameters of the controls that the space can express; without time, what the ladder says fits."""
    builder, found = setting.builder, {}
    passes = builder.space.passes
    precision = _control_precision(builder.space)
    if precision is Format.INT8:
        found[UNIFORM_INT8] = builder.uniform(0.0, precision)
    ratio = ladder.feasible_ratio(setting.goal, precision) if passes.prune_channels else None
    if ratio is not None:
        ratio = HALF if setting.goal.minimizes_cost else max(ratio, LEAST_PRUNED)
        name = UNIFORM_PRUNING if precision is Format.INT8 else UNIFORM_PRUNING_FLOAT
        found[name] = _least_that_fits(setting, ladder, ratio, precision, has_time=has_time)
    return found


def fitting_first(
    controls: Mapping[str, Mapping[str, Value]], anchors: Sequence[Mapping[str, Value]]
) -> list[tuple[Mapping[str, Value], str | None]]:
    """Parameters to try in turn, with the control's name: those that fit as measured, then the other controls.

    Args:
        controls: name → parameters.
        anchors: parameters of the uniform recipes that fit; one that is a control, too, is tried as that.
    """
    named = [(values, name) for name, values in controls.items()]
    fit = [pair for pair in named if pair[0] in anchors]
    others = [(values, None) for values in anchors if values not in controls.values()]
    return [*fit, *others, *(pair for pair in named if pair not in fit)]


def outer_controls(outer: Outer, seed: int) -> dict[str, Recipe]:
    """Name → recipe of the controls that the sensitivity table gives."""
    neutral = outer.neutral()
    picks: dict[str, tuple[int, ...] | None] = {
        BEST_UNIFORM: next(iter(uniforms(outer.allocator, outer.limits, 1)), None),
        BARE_TABLE: found.picks if (found := outer.allocation(neutral)) else None,
        AT_RANDOM: at_random(outer.allocator, outer.limits, seed),
    }
    return {
        name: outer.remember(outer.recipe_of(each, neutral), each) for name, each in picks.items() if each is not None
    }


def control_rows(
    records: tuple[TrialRecord, ...], goal: Goal, expected: Sequence[str] = (), winner: str | None = None
) -> tuple[ControlRow, ...]:
    """The original and every control, for the report.

    Args:
        records: of the search.
        goal: says who meets the budget.
        expected: names of controls that get a row even if they were not tried.
        winner: the control that is returned.
    """
    rows = [
        ControlRow(
            name=ORIGINAL,
            facts=goal.baseline,
            met=goal.within_costs(goal.baseline) and _floors_met(goal, goal.baseline),
            note="as it came",
        )
    ]
    for record in records:
        if record.control is not None:
            met = record.facts is not None and goal.within_costs(record.facts) and _floors_met(goal, record.facts)
            note = f"{NOTES.get(record.control, 'a simple alternative')}: {record.summary}"
            note = f"{ANSWER}; {note}" if record.control == winner else note
            rows.append(ControlRow(name=record.control, facts=record.facts, met=met, note=note))
    names = {row.name for row in rows}
    rows += [ControlRow(name=name, facts=None, met=None, note=NOT_MADE) for name in expected if name not in names]
    return tuple(rows)


def expected_controls(space: SearchSpace, outer: Outer | None) -> tuple[str, ...]:
    """Those that the space can express, and with a table those that it gives: short runs have none."""
    passes = space.passes
    int8 = _control_precision(space) is Format.INT8
    pruned = UNIFORM_PRUNING if int8 else UNIFORM_PRUNING_FLOAT
    names = [*([UNIFORM_INT8] if int8 else []), *([pruned] if passes.prune_channels else [])]
    return (*names, *((BEST_UNIFORM, BARE_TABLE, AT_RANDOM) if outer is not None else ()))


def _control_precision(space: SearchSpace) -> Format:
    """Int8 where the space has it, whatever comes first there."""
    formats = space.passes.quantize.precision if space.passes.quantize else (Format.FP32,)
    return Format.INT8 if Format.INT8 in formats else formats[0]


def _floors_met(goal: Goal, facts: ModelFacts) -> bool:
    return all(row.met for row in goal.budget.rows(facts, goal.baseline, "val") if not row.metric.is_cost)


def _least_that_fits(
    setting: Setting, ladder: Ladder, ratio: float, precision: Format, *, has_time: bool
) -> dict[str, Value]:
    """The mildest uniform recipe near ``ratio`` that fits as measured; the rung of the ladder that does if none."""
    fitting = [rung for rung in ladder.rungs if setting.goal.within_costs(rung.facts) and rung.precision is precision]
    pruned = [rung for rung in fitting if rung.only_pruned and rung.ratio >= LEAST_PRUNED]
    if pruned and not has_time:
        return min(pruned, key=lambda rung: rung.ratio).values
    tried = {key: setting.builder.uniform(ratio + step, precision) for key, step in enumerate(STEPS)}
    recipes = {key: setting.builder.recipe(values) for key, values in tried.items()}
    costed = setting.cost(recipes, "the least uniform pruning that fits")
    found = [key for key, facts in costed.facts.items() if setting.goal.within_costs(facts)]
    if found:
        return tried[min(found)]
    sure = next((rung.values for rung in ladder.anchors(setting.goal) if rung.precision is precision), None)
    return sure or tried[0]
