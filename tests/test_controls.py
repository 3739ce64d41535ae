from dataclasses import replace

import pytest
from made_up_outer import made_up_outer
from made_up_search import BASELINE, MadeUpLauncher, facts_of, latency_ms, made_up_setting

from autocompress.budget import Budget
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.recipe import Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.controls import (
    ANSWER,
    AT_RANDOM,
    BARE_TABLE,
    BEST_UNIFORM,
    LEAST_PRUNED,
    NOT_MADE,
    ORIGINAL,
    STEPS,
    UNIFORM_INT8,
    UNIFORM_PRUNING,
    UNIFORM_PRUNING_FLOAT,
    control_rows,
    control_values,
    expected_controls,
    fitting_first,
)
from autocompress.search.goal import Goal
from autocompress.search.ladder import HALF, climb


def controls_of(budget: str, techniques: tuple[str, ...] = ()):
    """The setting, and name → recipe of its controls."""
    setting = made_up_setting(budget, techniques=techniques)
    found = control_values(setting, climb(setting))
    return setting, {name: setting.builder.recipe(values) for name, values in found.items()}


def cost(recipe: Recipe) -> ModelFacts:
    return facts_of(recipe, judged=False).model_copy(update={"latency_ms": latency_ms(recipe)})


def ratios_of(recipe: Recipe) -> set[float]:
    return set(recipe.settings_of("prune_channels")["ratios"].values())


def test_int8_alone_and_uniform_pruning_with_it_are_always_tried():
    _, found = controls_of("latency<=3ms")
    assert list(found) == [UNIFORM_INT8, UNIFORM_PRUNING]
    assert [step.name for step in found[UNIFORM_INT8].passes] == ["quantize"]
    assert [step.name for step in found[UNIFORM_PRUNING].passes] == ["prune_channels", "quantize"]


@pytest.mark.parametrize("budget", ["latency<=3ms", "latency<=2ms,size<=12kB", "size<=10kB", "latency<=60%,size<=20%"])
def test_the_pruning_control_fits_and_prunes_hardly_more_than_it_must(budget):
    setting, found = controls_of(budget)
    recipe = found[UNIFORM_PRUNING]
    (ratio,) = ratios_of(recipe)
    assert setting.goal.within_costs(cost(recipe))
    milder = setting.builder.recipe(setting.builder.uniform(ratio - max(STEPS) / 2 - 0.05))
    assert ratio <= LEAST_PRUNED or not setting.goal.within_costs(cost(milder))


def test_where_int8_alone_fits_the_pruning_control_still_differs_from_it():
    _, found = controls_of("latency<=9ms")
    assert ratios_of(found[UNIFORM_PRUNING]) == {LEAST_PRUNED}


def test_with_an_accuracy_floor_alone_half_is_pruned():
    _, found = controls_of("accuracy>=0.5")
    assert ratios_of(found[UNIFORM_PRUNING]) == {HALF}


def test_without_int8_the_control_is_uniform_pruning_in_floats():
    setting, found = controls_of("latency<=6ms", ("prune_channels",))
    assert list(found) == [UNIFORM_PRUNING_FLOAT]
    assert [step.name for step in found[UNIFORM_PRUNING_FLOAT].passes] == ["prune_channels"]
    assert setting.goal.within_costs(cost(found[UNIFORM_PRUNING_FLOAT]))


def test_a_space_without_pruning_or_int8_has_no_control_but_the_original():
    assert controls_of("size<=50%", ("factorize",))[1] == {}
    assert list(controls_of("size<=50%", ("quantize",))[1]) == [UNIFORM_INT8]


def test_where_no_uniform_pruning_fits_int8_is_the_only_control():
    _, found = controls_of("latency<=1us")
    assert list(found) == [UNIFORM_INT8]


def test_where_the_interpolated_ratios_miss_the_rung_that_fits_is_taken():
    """Measured times need not lie on a line: here all but the ladder's own recipes are slow."""
    setting = made_up_setting("latency<=3ms")
    ladder = climb(setting)
    known = {rung.recipe.structure_digest() for rung in ladder.rungs}
    setting.launcher.fails = lambda recipe: recipe.structure_digest() not in known
    found = control_values(setting, ladder)
    assert setting.goal.within_costs(cost(setting.builder.recipe(found[UNIFORM_PRUNING])))


def test_the_steps_of_a_control_are_exported_and_not_trained():
    setting = made_up_setting("latency<=3ms")
    ladder = climb(setting)
    launcher = setting.launcher
    assert isinstance(launcher, MadeUpLauncher)
    launcher.jobs.clear()
    control_values(setting, ladder)
    assert [job.work.value for job in launcher.jobs] == ["structure"] * len(STEPS)


def record(control: str | None, facts: ModelFacts | None, number: int = 0) -> TrialRecord:
    return TrialRecord(
        number=number,
        kind=TrialKind.CONTROL if control else TrialKind.SEARCH,
        state=TrialState.COMPLETE if facts else TrialState.FAILED,
        summary="uniform",
        recipe=Recipe(),
        facts=facts,
        control=control,
    )


def goal_of(budget: str) -> Goal:
    return Goal(budget=Budget.parse(budget), baseline=BASELINE)


def test_rows_hold_the_original_and_each_control_with_what_became_of_it():
    fits = BASELINE.model_copy(update={"latency_ms": 4.0, "accuracy_val": 0.9})
    inaccurate = fits.model_copy(update={"accuracy_val": 0.5})
    records = (record(UNIFORM_INT8, fits), record(None, fits, 1), record(UNIFORM_PRUNING, inaccurate, 2))
    rows = control_rows((*records, record("broken", None, 3)), goal_of("latency<=5ms,accuracy>=0.8"))
    assert [(row.name, row.met) for row in rows] == [
        (ORIGINAL, False),
        (UNIFORM_INT8, True),
        (UNIFORM_PRUNING, False),
        ("broken", False),
    ]
    assert rows[0].facts == BASELINE
    assert rows[3].facts is None


def test_the_original_meets_a_budget_that_it_meets():
    assert control_rows((), goal_of("latency<=10ms,accuracy_drop<=1%"))[0].met is True


def test_a_control_without_an_accuracy_does_not_meet_a_floor():
    untrained = BASELINE.model_copy(update={"accuracy_val": None})
    row = control_rows((record(UNIFORM_INT8, untrained),), goal_of("latency<=10ms,accuracy>=0.1"))[1]
    assert row.met is False


def test_a_control_that_was_not_tried_has_a_row_that_says_so():
    records = (record(UNIFORM_INT8, BASELINE), record(BARE_TABLE, BASELINE, 1))
    rows = control_rows(records, goal_of("latency<=10ms"), (UNIFORM_INT8, AT_RANDOM, BARE_TABLE))
    assert [row.name for row in rows] == [ORIGINAL, UNIFORM_INT8, BARE_TABLE, AT_RANDOM]
    assert (rows[3].facts, rows[3].met, rows[3].note) == (None, None, NOT_MADE)
    assert all(row.note for row in rows)


def test_the_control_that_is_returned_is_named_the_answer():
    records = (record(UNIFORM_INT8, BASELINE), record(BARE_TABLE, BASELINE, 1))
    rows = control_rows(records, goal_of("latency<=10ms"), winner=BARE_TABLE)
    assert [ANSWER in row.note for row in rows] == [False, False, True]


@pytest.mark.parametrize(
    ("techniques", "names"),
    [
        ((), (UNIFORM_INT8, UNIFORM_PRUNING)),
        (("prune_channels",), (UNIFORM_PRUNING_FLOAT,)),
        (("quantize",), (UNIFORM_INT8,)),
        (("factorize",), ()),
    ],
)
def test_those_are_expected_that_the_space_can_express(techniques, names):
    space = made_up_setting("latency<=3ms", techniques=techniques).builder.space
    assert expected_controls(space, None) == names
    assert expected_controls(space, made_up_outer({})) == (*names, BEST_UNIFORM, BARE_TABLE, AT_RANDOM)


def test_int8_is_a_control_wherever_it_stands_in_the_space():
    setting = made_up_setting("latency<=3ms")
    passes = setting.builder.space.passes
    quantize = passes.quantize.model_copy(update={"precision": (Format.FP32, Format.INT8)})
    space = setting.builder.space.model_copy(update={"passes": passes.model_copy(update={"quantize": quantize})})
    setting = replace(setting, builder=replace(setting.builder, space=space))
    assert expected_controls(space, None) == (UNIFORM_INT8, UNIFORM_PRUNING)
    assert set(control_values(setting, climb(setting))) == {UNIFORM_INT8, UNIFORM_PRUNING}


def test_what_fits_as_measured_is_tried_before_controls_that_do_not():
    mild, hard, other = {"prune": 0.0}, {"prune": 0.5}, {"prune": 0.75}
    controls = {UNIFORM_INT8: mild, UNIFORM_PRUNING: hard}
    assert fitting_first(controls, [hard, other]) == [(hard, UNIFORM_PRUNING), (other, None), (mild, UNIFORM_INT8)]
    assert fitting_first(controls, []) == [(mild, UNIFORM_INT8), (hard, UNIFORM_PRUNING)]
