import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autocompress.budget import Budget, Metric
from autocompress.measurement import ModelFacts
from autocompress.search.goal import Goal
from autocompress.search.selection import UNKNOWN_ACCURACY, diagnose, dominates, front

BASELINE = ModelFacts(size_bytes=1000, macs=1000, params=1000, latency_ms=10.0, peak_ram_bytes=1000, accuracy_val=0.9)
FEW = st.integers(1, 4)  # few values, so that ties happen
FACTS = st.builds(
    lambda accuracy, latency, size: ModelFacts(
        accuracy_val=accuracy / 4, latency_ms=latency, size_bytes=size, macs=1, params=1
    ),
    FEW,
    FEW,
    FEW,
)
COSTED = st.builds(
    ModelFacts,
    accuracy_val=st.none() | st.floats(0.01, 1),
    latency_ms=st.floats(0.001, 1e4),
    size_bytes=st.integers(1, 10**9),
    macs=st.integers(1, 10**10),
    params=st.integers(1, 10**8),
    peak_ram_bytes=st.integers(1, 10**9),
)
LIMITS = {
    "latency": ["latency<=5ms", "latency<=3%", "latency<=1ns", "latency<=70us"],
    "size": ["size<=400B", "size<=33%", "size<=1B", "size<=1MB"],
    "ram": ["ram<=100B", "ram<=57%"],
    "macs": ["macs<=10k", "macs<=58%"],
    "params": ["params<=10", "params<=29%"],
    "accuracy": ["accuracy>=0.95", "accuracy>=99%"],
    "accuracy_drop": ["accuracy_drop<=1%"],
}
BUDGETS = st.lists(st.sampled_from(sorted(LIMITS)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.tuples(*(st.sampled_from(LIMITS[name]) for name in names)).map(",".join)
)


def goal_of(budget: str) -> Goal:
    return Goal(budget=Budget.parse(budget), baseline=BASELINE)


def facts_of(accuracy: float | None, latency: float, size: int) -> ModelFacts:
    return ModelFacts(accuracy_val=accuracy, latency_ms=latency, size_bytes=size, macs=50, params=40)


def better_somewhere_worse_nowhere(a: ModelFacts, b: ModelFacts) -> bool:
    pairs = [(a.accuracy_val, b.accuracy_val), (b.latency_ms, a.latency_ms), (b.size_bytes, a.size_bytes)]
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)


@given(st.lists(FACTS, max_size=12))
def test_the_front_is_what_nothing_is_better_than(candidates):
    expected = {
        index
        for index, facts in enumerate(candidates)
        if not any(better_somewhere_worse_nowhere(other, facts) for other in candidates)
    }
    found = front(candidates)
    assert set(found) == expected
    assert len(found) == len(expected)


@given(st.lists(FACTS, max_size=12))
def test_the_front_begins_with_the_fastest(candidates):
    times = [candidates[index].latency_ms for index in front(candidates)]
    assert times == sorted(times)


@given(FACTS, FACTS)
def test_of_two_models_at_most_one_dominates_and_none_itself(one, other):
    assert dominates(one, other) is better_somewhere_worse_nowhere(one, other)
    assert not (dominates(one, other) and dominates(other, one))
    assert not dominates(one, one)


@given(BUDGETS, st.lists(COSTED, min_size=1, max_size=5))
@settings(max_examples=300)
def test_the_nearest_budget_is_really_met_by_a_candidate(budget, candidates):
    goal = goal_of(budget)
    text = diagnose(goal, candidates).nearest_budget
    assume(text)  # empty where only accuracy is limited, and none is known
    nearest = goal_of(text)
    assert any(all(miss <= 0 for miss in nearest.violation(facts).values()) for facts in candidates)


@given(BUDGETS, st.lists(COSTED, min_size=1, max_size=5))
def test_the_nearest_budget_limits_the_same_metrics_and_keeps_limits_that_are_met(budget, candidates):
    goal = goal_of(budget)
    text = diagnose(goal, candidates).nearest_budget
    assume(text)
    nearest = Budget.parse(text)
    asked = {limit.metric: limit for limit in goal.budget.limits}
    floors = goal.budget.has_accuracy_floor
    judged = [facts for facts in candidates if facts.accuracy_val is not None or not floors] or candidates
    closest = min(judged, key=lambda facts: max(goal.violation(facts).values(), default=0.0))
    assert [limit.metric for limit in nearest.limits] == [
        metric for metric in asked if metric in goal.violation(closest)
    ]
    for limit in nearest.limits:
        if goal.violation(closest).get(limit.metric, 0.0) <= 0:
            assert limit == asked[limit.metric]


@given(BUDGETS, st.lists(COSTED, min_size=1, max_size=5))
def test_reachable_is_the_best_of_each_metric(budget, candidates):
    reachable = diagnose(goal_of(budget), candidates).reachable
    assert reachable[Metric.LATENCY] == min(facts.latency_ms for facts in candidates)
    assert reachable[Metric.SIZE] == min(facts.size_bytes for facts in candidates)
    accuracies = [facts.accuracy_val for facts in candidates if facts.accuracy_val is not None]
    assert reachable.get(Metric.ACCURACY) == max(accuracies, default=None)


@pytest.mark.parametrize("relative", ["latency<=29%", "latency<=58%"])
def test_a_relative_limit_moves_to_a_whole_percentage_that_is_met(relative):
    """0.58 * 100 is a little less than 58 in floating point."""
    share = float(relative.removeprefix("latency<=").removesuffix("%"))
    goal = Goal(budget=Budget.parse("latency<=1%"), baseline=BASELINE.model_copy(update={"latency_ms": 100.0}))
    facts = facts_of(None, share, 1)
    nearest = Goal(budget=Budget.parse(diagnose(goal, [facts]).nearest_budget), baseline=goal.baseline)
    assert nearest.within_costs(facts)
    assert nearest.budget.limits[0].amount <= share / 100 + 0.0101


def test_the_message_names_the_binding_metric_its_best_value_and_the_nearest_budget():
    candidates = [facts_of(None, 4.0, 300), facts_of(None, 2.0, 800)]
    diagnosis = diagnose(goal_of("latency<=1us,size<=900B"), candidates)
    assert diagnosis.binding == (Metric.LATENCY,)
    assert diagnosis.reachable[Metric.LATENCY] == 2.0
    assert diagnosis.nearest_budget == "latency<=2.04ms,size<=900B"
    assert diagnosis.message == (
        "latency<=1us binds (best reachable latency: 2 ms); the nearest feasible budget is latency<=2.04ms,size<=900B"
    )


def test_binding_limits_come_worst_first():
    diagnosis = diagnose(goal_of("latency<=3ms,size<=30B,params<=50"), [facts_of(None, 4.0, 300)])
    assert diagnosis.binding == (Metric.SIZE, Metric.LATENCY)


def test_limits_that_are_reached_one_by_one_but_not_together_are_said_to_be_so():
    candidates = [facts_of(None, 4.0, 100), facts_of(None, 1.0, 900)]
    diagnosis = diagnose(goal_of("latency<=2ms,size<=500B"), candidates)
    assert diagnosis.binding == (Metric.SIZE,)
    assert diagnosis.message.startswith("size<=500B binds together with the other limits (alone, 100 B is reached); ")


def test_a_missed_accuracy_is_moved_to_what_is_reached():
    candidates = [facts_of(0.8124, 4.0, 300), facts_of(0.7, 4.0, 300)]
    diagnosis = diagnose(goal_of("latency<=5ms,accuracy>=0.9"), candidates)
    assert diagnosis.binding == (Metric.ACCURACY,)
    assert diagnosis.nearest_budget == "latency<=5ms,accuracy>=0.812"
    assert diagnosis.reachable[Metric.ACCURACY] == 0.8124


def test_a_drop_is_moved_to_the_drop_there_is():
    diagnosis = diagnose(goal_of("accuracy_drop<=1%"), [facts_of(0.7996, 4.0, 300)])
    assert diagnosis.binding == (Metric.ACCURACY_DROP,)
    assert diagnosis.nearest_budget == "accuracy_drop<=10.1%"


def test_what_is_only_predicted_is_neither_reachable_nor_the_nearest():
    predicted = ModelFacts(accuracy_val=0.9, size_bytes=500, macs=50, params=40).with_prediction(4.0, (3.0, 5.5))
    found = diagnose(goal_of("latency<=5ms,size<=400B"), [predicted, facts_of(0.8, 7.0, 700)])
    assert found.reachable[Metric.LATENCY] == 7.0
    assert found.reachable[Metric.SIZE] == 500
    assert found.nearest_budget == "latency<=7.14ms,size<=714B"


def test_where_latency_is_not_limited_a_predicted_candidate_is_as_near_as_any():
    predicted = ModelFacts(accuracy_val=0.9, size_bytes=500, macs=50, params=40).with_prediction(4.0, (3.0, 5.5))
    assert diagnose(goal_of("size<=400B"), [predicted, facts_of(0.8, 7.0, 700)]).nearest_budget == "size<=510B"


def test_no_accuracy_is_promised_where_none_is_known():
    found = diagnose(goal_of("latency<=5ms,accuracy>=0.9"), [facts_of(None, 7.0, 700)])
    assert found.nearest_budget == "latency<=7.14ms"
    assert found.message.endswith("the nearest feasible budget is latency<=7.14ms" + UNKNOWN_ACCURACY)
    assert (
        diagnose(goal_of("accuracy>=0.9"), [facts_of(None, 7.0, 700)]).message == "no candidate was trained to its end"
    )


def test_where_accuracy_is_limited_the_nearest_is_one_whose_accuracy_is_known():
    found = diagnose(goal_of("latency<=5ms,accuracy>=0.9"), [facts_of(None, 4.0, 700), facts_of(0.8, 4.0, 700)])
    assert found.nearest_budget == "latency<=5ms,accuracy>=0.800"


def test_others_are_reachable_and_never_the_nearest():
    goal = goal_of("latency<=5ms")
    found = diagnose(goal, [facts_of(0.8, 7.0, 700)], others=[facts_of(0.9, 4.0, 300)])
    assert found.nearest_budget == "latency<=7.14ms"
    assert (found.reachable[Metric.LATENCY], found.reachable[Metric.ACCURACY]) == (4.0, 0.9)
