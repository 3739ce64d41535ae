"""The simple alternatives that every run tries under its own rules: if one of them wins, it is the answer."""

from autocompress.events import Observer
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.result import ControlRow, TrialRecord
from autocompress.search.costing import Costing
from autocompress.search.goal import Goal
from autocompress.search.ladder import Ladder
from autocompress.search.launcher import Job, Launcher, Work
from autocompress.search.parameters import RecipeBuilder, Value
from autocompress.trial import Bench

ORIGINAL = "original"
UNIFORM_INT8 = "uniform int8"
UNIFORM_PRUNING = "uniform pruning + int8"
UNIFORM_PRUNING_FLOAT = "uniform pruning"
STEPS = (0.0, 0.04, 0.08)  # beyond the interpolated ratio, tried at once: the least that fits is taken


def control_values(
    bench: Bench,
    builder: RecipeBuilder,
    ladder: Ladder,
    goal: Goal,
    costing: Costing,
    launcher: Launcher,
    observer: Observer,
) -> dict[str, dict[str, Value]]:
    """Name → parameters of the controls that the space can express."""
    passes, found = builder.space.passes, {}
    precision = passes.quantize.precision[0] if passes.quantize else Format.FP32
    if passes.quantize and precision is Format.INT8:
        found[UNIFORM_INT8] = builder.uniform(0.0, precision)
    if passes.prune_channels:
        ratio = ladder.feasible_ratio(goal, precision)
        if ratio:
            sure = next((rung.ratio for rung in ladder.anchors(goal) if rung.precision is precision), ratio)
            name = UNIFORM_PRUNING if precision is Format.INT8 else UNIFORM_PRUNING_FLOAT
            observer.progress(0, 1, "the least uniform pruning that fits")
            found[name] = builder.uniform(
                _least_that_fits(ratio, sure, precision, bench, builder, goal, costing, launcher), precision
            )
    return found


def control_rows(records: tuple[TrialRecord, ...], goal: Goal) -> tuple[ControlRow, ...]:
    """The original and every control that was tried, for the report."""
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
            rows.append(ControlRow(name=record.control, facts=record.facts, met=met, note=record.summary))
    return tuple(rows)


def _floors_met(goal: Goal, facts: ModelFacts) -> bool:
    return all(row.met for row in goal.budget.rows(facts, goal.baseline, "val") if not row.metric.is_cost)


def _least_that_fits(
    ratio: float,
    sure: float,
    precision: Format,
    bench: Bench,
    builder: RecipeBuilder,
    goal: Goal,
    costing: Costing,
    launcher: Launcher,
) -> float:
    """The least of a few ratios that fits as measured; the rung of the ladder that does, when none of them."""
    ratios = [ratio + step for step in STEPS]
    jobs = [
        Job(key=key, work=Work.STRUCTURE, recipe=builder.recipe(builder.uniform(each, precision)))
        for key, each in enumerate(ratios)
    ]
    files = {
        done.key: (done.product.file, done.product.facts)
        for done in launcher.run(bench, jobs)
        if done.product is not None and done.product.file is not None
    }
    fitting = [key for key, facts in costing.measure(files).items() if goal.within_costs(facts)]
    return ratios[min(fitting)] if fitting else sure
