"""What each technique brought: the best that the same trials found with and without it, and what the table says."""

import math
from collections.abc import Callable, Sequence

from autocompress.measurement import ModelFacts
from autocompress.recipe import Recipe
from autocompress.result import AttributionRow, TrialRecord, TrialState
from autocompress.search.allocation.allocate import Allocation
from autocompress.search.full_recovery import has_few_bits
from autocompress.search.goal import Goal
from autocompress.search.outer import FEW_BITS, Outer, parts_of

NEVER_WITHOUT = "every trial within the budget uses it"
NEVER_WITH = "no trial within the budget uses it"
NOT_IN_TABLE = "not a choice of single parts, so that the table cannot say"
NOT_ALLOCATED = "the table's allocation does not use it"
OUT_OF_REACH = "without it the table finds nothing within the budget"
NO_TIME = "there was no time to ask the table without it"


def attribution(
    goal: Goal,
    records: Sequence[TrialRecord],
    techniques: Sequence[str],
    outer: Outer | None,
    has_time: Callable[[], bool] = lambda: True,
) -> tuple[AttributionRow, ...]:
    """A row for each technique that was allowed.

    Args:
        goal: judges trials.
        records: of the search; those that came to the end of their recovery count, controls among them.
        techniques: names of the passes of the space.
        outer: has the table; None where the search went without one.
        has_time: whether the table may be asked once more.
    """
    judged = [record for record in records if _counts(goal, record)]
    free = None if outer is None else outer.allocation(outer.neutral())
    names = _named(techniques, outer)
    losses = {} if outer is None else {name: _without(outer, free, name, has_time) for name in names}
    # What is found without a technique is allowed with it, too: the solver need not have found it.
    known = [loss for loss, _ in losses.values() if loss is not None]
    together = min([free.loss, *known]) if free is not None else min(known, default=None)
    rows = (_row(goal, judged, name, losses.get(name, (None, ""))) for name in names)
    return tuple(row.model_copy(update={"table_loss": together}) for row in rows)


def uses(recipe: Recipe, technique: str) -> bool:
    """Whether a recipe has the pass, or integers of few bits."""
    return has_few_bits(recipe) if technique == FEW_BITS else any(step.name == technique for step in recipe.passes)


def _counts(goal: Goal, record: TrialRecord) -> bool:
    """Whether it was trained to its end within every limit, floors of the accuracy among them."""
    if record.state is not TrialState.COMPLETE or record.facts is None or record.facts.accuracy_val is None:
        return False
    return bool(record.within_budget) and (not goal.minimizes_cost or goal.clears_floors(record.facts))


def _named(techniques: Sequence[str], outer: Outer | None) -> list[str]:
    """The passes, and integers of few bits where parts may become such."""
    has_few = outer is not None and any(FEW_BITS in parts_of(each) for row in outer.allocator.choices for each in row)
    return [*techniques, *([FEW_BITS] if has_few else [])]


def _row(
    goal: Goal, judged: Sequence[TrialRecord], technique: str, by_table: tuple[float | None, str]
) -> AttributionRow:
    """Without the loss of everything together."""
    without, note = by_table
    used = [record for record in judged if uses(record.recipe, technique)]
    others = [record for record in judged if not uses(record.recipe, technique)]
    best, best_other = _best(goal, used), _best(goal, others)
    words = [NEVER_WITH] if judged and not used else [NEVER_WITHOUT] if judged and not others else []
    return AttributionRow(
        technique=technique,
        accuracy_with=None if best is None else best.accuracy_val,
        accuracy_without=None if best_other is None else best_other.accuracy_val,
        cost_with=_cost(goal, best),
        cost_without=_cost(goal, best_other),
        trials_with=len(used),
        trials_without=len(others),
        table_loss_without=without,
        note="; ".join([*words, *([note] if note else [])]),
    )


def _best(goal: Goal, records: Sequence[TrialRecord]) -> ModelFacts | None:
    return min((record.facts for record in records if record.facts), key=goal.rank, default=None)


def _cost(goal: Goal, facts: ModelFacts | None) -> float | None:
    """What is minimized, where accuracy is only a floor."""
    if facts is None or not goal.minimizes_cost:
        return None
    value = goal.minimize.of(facts)
    return None if value is None or math.isnan(value) else float(value)


def _without(
    outer: Outer, free: Allocation | None, technique: str, has_time: Callable[[], bool]
) -> tuple[float | None, str]:
    """The loss of the table's allocation without a technique, None where there is none; and a note."""
    parts = outer.parts_of_choices
    if not any(technique in used for row in parts for used in row):
        return None, NOT_IN_TABLE
    if free is not None and not any(technique in row[at] for row, at in zip(parts, free.picks, strict=True)):
        return free.loss, NOT_ALLOCATED
    if not has_time():
        return None, NO_TIME
    found = outer.allocation(outer.neutral(), without=technique)
    return (None, OUT_OF_REACH) if found is None else (found.loss, "")
