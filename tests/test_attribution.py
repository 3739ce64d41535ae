"""What each technique brought: measured by the same trials, estimated by the table."""

import pytest
from made_up_outer import UNIT_BYTES, made_up_outer

from autocompress.budget import Budget, Metric
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.recipe import PassStep, Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.allocation.choices import Choice
from autocompress.search.attribution import (
    NEVER_WITH,
    NEVER_WITHOUT,
    NO_TIME,
    NOT_ALLOCATED,
    NOT_IN_TABLE,
    OUT_OF_REACH,
    attribution,
    uses,
)
from autocompress.search.goal import Goal

BASELINE = ModelFacts(size_bytes=1000, macs=1, params=1, latency_ms=10.0, accuracy_val=0.95)
INT8 = {"quantize": {"default": {"weights": "int8", "activations": "int8"}}}
PRUNED = {"prune_channels": {"ratios": {"a": 0.5}}}
PASSES = ("student", "drop_blocks", "prune_channels", "quantize")


def goal_of(budget: str = "size<=500B") -> Goal:
    return Goal(budget=Budget.parse(budget), baseline=BASELINE)


def trial(passes: dict, accuracy: float | None, *, size: int = 400, state=TrialState.COMPLETE) -> TrialRecord:
    facts = ModelFacts(size_bytes=size, macs=1, params=1, latency_ms=size / 100, accuracy_val=accuracy)
    steps = tuple(PassStep(name=name, settings=settings) for name, settings in passes.items())
    return TrialRecord(
        number=0, kind=TrialKind.SEARCH, state=state, summary="", recipe=Recipe(passes=steps), facts=facts,
        within_budget=size <= 500,
    )  # fmt: skip


def rows_of(records, outer=None, budget="size<=500B", **more):
    return {row.technique: row for row in attribution(goal_of(budget), records, PASSES, outer, **more)}


def test_the_best_trials_with_and_without_a_technique_are_told_apart():
    rows = rows_of([trial(INT8, 0.8), trial(INT8 | PRUNED, 0.9), trial(PRUNED, 0.7), trial(INT8, 0.6)])
    found = rows["quantize"]
    assert (found.accuracy_with, found.accuracy_without, found.trials_with, found.trials_without) == (0.9, 0.7, 3, 1)
    found = rows["prune_channels"]
    assert (found.accuracy_with, found.accuracy_without, found.trials_with, found.trials_without) == (0.9, 0.8, 2, 2)
    assert [row.table_loss for row in rows.values()] == [None] * 4


def test_only_trials_within_the_budget_that_came_to_their_end_count():
    spoiled = [trial(PRUNED, 0.99, size=600), trial(PRUNED, 0.98, state=TrialState.PRUNED), trial(PRUNED, None)]
    found = rows_of([trial(INT8, 0.8), *spoiled])
    assert (found["prune_channels"].accuracy_with, found["prune_channels"].note) == (None, NEVER_WITH)
    assert (found["quantize"].accuracy_without, found["quantize"].note) == (None, NEVER_WITHOUT)


def test_where_accuracy_is_a_floor_the_cheapest_above_it_counts():
    trials = [trial(INT8, 0.9, size=300), trial(INT8, 0.95, size=400), trial(PRUNED, 0.92, size=350)]
    found = rows_of([*trials, trial(PRUNED, 0.5, size=100)], budget="accuracy>=0.85")["quantize"]
    assert (found.accuracy_with, found.cost_with, found.accuracy_without, found.cost_without) == (0.9, 3.0, 0.92, 3.5)


def test_the_table_loses_no_less_without_what_its_allocation_uses():
    outer = made_up_outer({Metric.SIZE: UNIT_BYTES})
    rows = rows_of([], outer)
    for name in ("quantize", "prune_channels", "drop_blocks"):
        row = rows[name]
        if row.note != OUT_OF_REACH:
            assert row.table_loss_without >= row.table_loss > 0
    assert rows["student"].note == NOT_IN_TABLE
    assert rows["student"].table_loss_without is None


def test_what_the_allocation_does_not_use_is_not_asked_about():
    outer = made_up_outer({Metric.SIZE: 1e9})
    rows = rows_of([], outer, has_time=lambda: pytest.fail("asked"))
    assert {rows[name].note for name in ("quantize", "prune_channels")} == {NOT_ALLOCATED}
    assert rows["quantize"].table_loss_without == rows["quantize"].table_loss == 0


def test_a_technique_without_which_nothing_fits_is_said_to_be_so():
    outer = made_up_outer({Metric.SIZE: 1e9}, (Choice(), Choice(precision=Format.INT8)))
    outer.limits = {Metric.SIZE: 0.9 * outer.allocation(outer.neutral()).costs[Metric.SIZE]}
    assert outer.allocation(outer.neutral()) is not None
    row = rows_of([], outer)["quantize"]
    assert (row.table_loss_without, row.note) == (None, OUT_OF_REACH)


def test_when_time_is_up_the_table_is_not_asked():
    outer = made_up_outer({Metric.SIZE: UNIT_BYTES})
    assert NO_TIME in {row.note for row in rows_of([], outer, has_time=lambda: False).values()}


def test_integers_of_few_bits_are_told_from_int8():
    few = {"quantize": {"default": {"weights": "int4", "activations": "int8"}}}
    assert uses(trial(few, 0.9).recipe, "few_bits")
    assert not uses(trial(INT8, 0.9).recipe, "few_bits")
    assert not uses(trial(PRUNED, 0.9).recipe, "few_bits")
