"""What a file leaves of the limits is spent, what it takes beyond them taken back."""

from dataclasses import replace

import pytest
from made_up_outer import UNIT_BYTES, file_of, made_up_outer, setting_with

from autocompress.budget import Metric
from autocompress.recipe import Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.respend import respent

LIMIT = 2.4 * UNIT_BYTES


def record_of(outer, off: float, aim: float = 1.0) -> TrialRecord:
    """The trial of the table's allocation at a share of the limit, its file ``off`` times what is calculated."""
    recipe = outer.recipe({**outer.neutral(), "aim.size": aim})
    facts = file_of(outer, recipe, off).model_copy(update={"accuracy_val": 0.8})
    return TrialRecord(
        number=3, kind=TrialKind.SEARCH, state=TrialState.COMPLETE, summary="", recipe=recipe, facts=facts
    )


@pytest.fixture
def outer():
    return made_up_outer({Metric.SIZE: LIMIT})


BUDGET = f"size<={LIMIT:.0f}B"


def test_a_file_with_room_to_spare_is_followed_by_one_that_loses_less(outer):
    record = record_of(outer, 0.6)
    made = respent(setting_with(outer, BUDGET, 0.6), record, 9)
    assert made is not None
    assert (made.number, made.within_budget) == (9, True)
    assert record.facts.size_bytes < made.facts.size_bytes <= LIMIT
    (before, values), (after, _) = outer.known(record.recipe), outer.known(made.recipe)
    assert outer.loss_of(after, values) < outer.loss_of(before, values)
    assert "trial 3, what it left of the limits spent" in made.summary


def test_a_file_beyond_the_limit_is_followed_by_one_within(outer):
    record = record_of(outer, 1.5)
    assert record.facts.size_bytes > LIMIT
    made = respent(setting_with(outer, BUDGET, 1.5), record, 9)
    assert made is not None
    assert made.facts.size_bytes <= LIMIT
    assert "its excess taken back" in made.summary


def test_a_file_near_its_limit_is_left_as_it_is(outer):
    full = record_of(outer, 1.0)
    near = full.facts.model_copy(update={"size_bytes": round(0.98 * LIMIT)})
    assert respent(setting_with(outer, BUDGET), full.model_copy(update={"facts": near}), 9) is None


@pytest.mark.parametrize("why", ["unknown recipe", "only accuracy is limited", "no table", "no file"])
def test_nothing_follows_where_nothing_can_be_asked(outer, why):
    record, setting = record_of(outer, 0.6), setting_with(outer, BUDGET, 0.6)
    if why == "unknown recipe":
        record = record.model_copy(update={"recipe": Recipe()})
    elif why == "no file":
        record = record.model_copy(update={"facts": None})
    setting = replace(setting, outer=None if why == "no table" else replace(outer, open_ended=why.startswith("only")))
    assert respent(setting, record, 9) is None


def test_a_file_that_misses_again_is_tried_once_more_and_no_further(outer):
    asked = []

    class Missing(type(setting_with(outer, BUDGET))):
        def cost(self, recipes, what, always=()):
            asked.append(recipes)
            return super().cost(recipes, what, always)

    record = record_of(outer, 0.6)
    setting = setting_with(outer, BUDGET, 5.0)
    setting = Missing(**{name: getattr(setting, name) for name in setting.__dataclass_fields__})
    assert respent(setting, record, 9) is None
    assert 1 <= len(asked) <= 2
