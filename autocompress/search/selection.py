"""Which models are worth keeping beside the best, and what to say when none meets the budget."""

from collections.abc import Mapping, Sequence
from math import floor, inf

from autocompress.budget import Limit, Metric
from autocompress.measurement import ModelFacts
from autocompress.result import Diagnosis
from autocompress.search.goal import Goal
from autocompress.search.least import Least
from autocompress.units import format_quantity

UNKNOWN_ACCURACY = ", at an accuracy that is not known: nothing was trained"
_REPORTED = (Metric.LATENCY, Metric.SIZE, Metric.RAM, Metric.MACS, Metric.PARAMS)


def dominates(a: ModelFacts, b: ModelFacts) -> bool:
    """Whether ``a`` is at least as good as ``b`` in accuracy, ms and bytes, and better in one. All must be known."""
    ours, theirs = _axes(a), _axes(b)
    return all(x <= y for x, y in zip(ours, theirs, strict=True)) and ours != theirs


def front(candidates: Sequence[ModelFacts]) -> list[int]:
    """Indices of the candidates that no other dominates, the fastest first."""
    kept = [index for index, facts in enumerate(candidates) if not any(dominates(other, facts) for other in candidates)]
    return sorted(kept, key=lambda index: _axes(candidates[index])[1])


def nearest_of(goal: Goal, candidates: Sequence[ModelFacts]) -> ModelFacts:
    """The candidate whose worst violation is least; with latency and accuracy known where they are limited."""
    found = list(candidates)
    if goal.limits(Metric.LATENCY):
        found = [facts for facts in found if facts.latency_ms is not None] or found
    if goal.budget.has_accuracy_floor:
        found = [facts for facts in found if facts.accuracy_val is not None] or found
    return min(found, key=lambda facts: _worst(goal, facts))


def diagnose(
    goal: Goal, candidates: Sequence[ModelFacts], least: Least | None = None, others: Sequence[ModelFacts] = ()
) -> Diagnosis:
    """Which limits the nearest candidate misses, the best value of each metric, and the budget that it does meet.

    Limits on accuracy are left out of that budget where the accuracy of the nearest is not known.

    Args:
        goal: the budget.
        candidates: at least one, see ``nearest_of``; they may be structures without accuracy.
        least: how little could be had by calculation, where that is known.
        others: that were seen, too, and whose values are reachable; none of them is the nearest.
    """
    seen = [*candidates, *others]
    reachable = {metric: min(values) for metric in _REPORTED if (values := _values(metric, seen))}
    accuracies = [facts.accuracy_val for facts in seen if facts.accuracy_val is not None]
    if accuracies:
        reachable[Metric.ACCURACY] = max(accuracies)
    nearest = nearest_of(goal, candidates)
    known = goal.violation(nearest)
    missed = {metric: miss for metric, miss in known.items() if miss > 0}
    binding = tuple(sorted(missed, key=lambda metric: -missed[metric]))
    limits = [limit for limit in goal.budget.limits if limit.metric in known]
    budget = ",".join(_nearest_limit(limit, nearest, goal) for limit in limits)
    blind = UNKNOWN_ACCURACY if len(limits) < len(goal.budget.limits) else ""
    return Diagnosis(
        binding=binding,
        reachable=reachable,
        nearest_budget=budget,
        message=_message(goal, binding, reachable, budget, blind) + _estimate(least, reachable),
        estimated={} if least is None else least.alone,
        estimated_together={} if least is None else least.together,
    )


def _message(goal: Goal, binding: tuple[Metric, ...], reachable: dict[Metric, float], budget: str, blind: str) -> str:
    limits = {limit.metric: limit for limit in goal.budget.limits}
    named = "; ".join(_binds(limits[metric], reachable.get(metric), goal) for metric in binding)
    others = "no candidate was trained to its end" if blind else "the limits cannot be met together"
    nearest = f"; the nearest feasible budget is {budget}{blind}" if budget else ""
    return f"{named or others}{nearest}"


def _estimate(least: Least | None, reachable: Mapping[Metric, float]) -> str:
    """What was calculated to lie below all that was built."""
    alone = {} if least is None else least.alone
    lower = {metric: value for metric, value in alone.items() if value < reachable.get(metric, inf)}
    if not lower:
        return ""
    named = ", ".join(f"{metric} {format_quantity(value, metric.kind)}" for metric, value in lower.items())
    return f"; by estimate, and each for itself, {named} could be had"


def _binds(limit: Limit, best: float | None, goal: Goal) -> str:
    """One limit that the nearest candidate misses; some other may meet it and miss the rest."""
    if best is None:
        return f"{limit} binds"
    shown, bound = format_quantity(best, limit.metric.kind), limit.resolve(goal.baseline)
    if best >= bound if limit.metric.is_floor else best <= bound:
        return f"{limit} binds together with the other limits (alone, {shown} is reached)"
    return f"{limit} binds (best reachable {limit.metric}: {shown})"


def _nearest_limit(limit: Limit, facts: ModelFacts, goal: Goal) -> str:
    """The limit itself where ``facts`` meet it, else a limit at their value, rounded to the easier side."""
    violation = goal.violation(facts).get(limit.metric, 0.0)
    if violation <= 0:
        return str(limit)
    if limit.metric is Metric.ACCURACY:
        return f"accuracy>={max(0.0, (facts.accuracy_val or 0.0) - 5e-4):.3f}"
    if limit.metric is Metric.ACCURACY_DROP:
        drop = (goal.baseline.accuracy_val or 0.0) - (facts.accuracy_val or 0.0)
        return f"accuracy_drop<={100 * drop + 0.05:.1f}%"
    value = limit.metric.of(facts) or 0.0
    if limit.relative:
        return f"{limit.metric}<={floor(100 * value / (limit.resolve(goal.baseline) / limit.amount)) + 1}%"
    return f"{limit.metric}<={format_quantity(value * 1.02, limit.metric.kind).replace(' ', '')}"


def _worst(goal: Goal, facts: ModelFacts) -> float:
    return max(goal.violation(facts).values(), default=0.0)


def _values(metric: Metric, candidates: Sequence[ModelFacts]) -> list[float]:
    known = candidates if metric is not Metric.LATENCY else [each for each in candidates if each.latency_ms is not None]
    return [value for facts in known if (value := metric.of(facts)) is not None]


def _axes(facts: ModelFacts) -> tuple[float, float, float]:
    assert facts.accuracy_val is not None
    latency_ms = Metric.LATENCY.of(facts)
    assert latency_ms is not None
    return (-facts.accuracy_val, latency_ms, float(facts.size_bytes))
