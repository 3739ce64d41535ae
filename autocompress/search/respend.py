"""A candidate again, with what its file left of the limits spent, or what it takes beyond them taken back.

Allocations go by costs as they are calculated, at the upper end of what files turn out to take. Once a file is there
it is known how far off that was near it, so the same question is asked with limits that are as far off.
"""

from collections.abc import Mapping

import numpy as np

from autocompress.budget import Metric
from autocompress.measurement import ModelFacts
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.goal import Goal
from autocompress.search.setting import Setting
from autocompress.search.summary import summary

SLACK = 0.03  # of a limit, below which nothing is worth asking for again
SAFE = 0.99  # of a limit is what is aimed at: the next file is a little off again
TRIES = 2
LEAST_GAIN = 0.01  # of the loss


def respent(setting: Setting, record: TrialRecord, number: int) -> TrialRecord | None:
    """A candidate of its own, untrained, whose file surely meets the costs; None where there is no better one.

    Args:
        setting: with an outer search that ``record`` came from.
        record: its costs were measured.
        number: of the new candidate.
    """
    outer, goal, facts = setting.outer, setting.goal, record.facts
    known = None if outer is None else outer.known(record.recipe)
    if outer is None or known is None or facts is None or outer.leaves_open or not outer.limits:
        return None
    picks, values = known
    taken = _taken(goal, facts, outer.limits)
    exceeds = not goal.is_surely_within(facts)
    if taken is None or (not exceeds and max(1 - share for share in taken.values()) <= SLACK):
        return None
    (calculated,) = outer.allocator.model.upper(np.array([picks]))
    costs = dict(zip(outer.allocator.model.metrics, calculated.tolist(), strict=True))
    limits = {metric: SAFE * costs[metric] / share for metric, share in taken.items()}
    most_loss = np.inf if exceeds else (1 - LEAST_GAIN) * outer.loss_of(picks, values)
    for _ in range(TRIES):
        found = outer.allocation(values, limits=limits, start=picks)
        if found is None or found.picks == picks or found.loss > most_loss:
            return None
        recipe = outer.remember(outer.recipe_of(found.picks, values), found.picks, values)
        made = setting.cost({number: recipe}, "what is left of the limits", always=[number])
        fresh = made.facts.get(number)
        shares = None if fresh is None else _taken(goal, fresh, outer.limits)
        if fresh is None or shares is None:
            return None
        if goal.is_surely_within(fresh):
            done = "its excess taken back" if exceeds else "what it left of the limits spent"
            return TrialRecord(
                number=number,
                kind=TrialKind.SEARCH,
                state=TrialState.COMPLETE,
                summary=f"{summary(recipe)} (trial {record.number}, {done})",
                recipe=recipe,
                facts=fresh,
                within_budget=True,
                step_s=record.step_s,
                notes=made.notes.get(number, ()),
            )
        limits = {metric: limit * min(1.0, SAFE / shares[metric]) for metric, limit in limits.items()}
    return None


def _taken(goal: Goal, facts: ModelFacts, limits: Mapping[Metric, float]) -> dict[Metric, float] | None:
    """What share of each limit a file takes, latency at the upper end of its interval; None where one is not known."""
    found = {}
    for metric, limit in limits.items():
        value = goal.upper_ms(facts) if metric is Metric.LATENCY else metric.of(facts)
        if not value:
            return None
        found[metric] = value / limit
    return found
