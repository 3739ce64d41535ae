import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_facts import facts_at

from autocompress.budget import Budget, Metric
from autocompress.evaluate import wilson_interval
from autocompress.measurement import ModelFacts
from autocompress.search.goal import FLOOR_MARGIN, Goal

BASELINE = ModelFacts(
    size_bytes=1000, macs=1000, params=1000, latency_ms=10.0, peak_ram_bytes=1000, accuracy_val=0.9, accuracy_test=0.9
)


def goal_of(budget: str, **changes) -> Goal:
    return Goal(**({"budget": Budget.parse(budget), "baseline": BASELINE} | changes))


def facts_of(
    accuracy: float | None = 0.9, latency: float | None = 5.0, size: int = 500, samples: int = 0
) -> ModelFacts:
    """``samples`` gives the accuracy its Wilson interval."""
    interval = wilson_interval(round((accuracy or 0) * samples), samples) if samples else None
    return ModelFacts(
        size_bytes=size,
        macs=100,
        params=100,
        latency_ms=latency,
        accuracy_val=accuracy,
        accuracy_val_interval=interval,
    )


def best_of(goal: Goal, *candidates: ModelFacts) -> ModelFacts:
    return min(candidates, key=goal.rank)


ACCURACIES = st.none() | st.floats(0, 1)
FACTS = st.builds(facts_of, ACCURACIES, st.none() | st.floats(0.1, 20), st.integers(1, 2000), st.sampled_from([0, 90]))
BUDGETS = st.sampled_from(
    ["latency<=5ms", "size<=50%", "latency<=5ms,size<=500B,accuracy>=0.8", "accuracy>=0.8", "accuracy_drop<=5%"]
)


@given(BUDGETS, FACTS, FACTS)
def test_what_meets_the_costs_ranks_before_what_does_not(budget, one, other):
    goal = goal_of(budget)
    if goal.within_costs(one) and not goal.within_costs(other):
        assert best_of(goal, other, one) is one


@given(BUDGETS, FACTS, FACTS)
def test_within_the_costs_what_clears_the_floors_ranks_before_what_does_not(budget, one, other):
    goal = goal_of(budget)
    if goal.within_costs(one) and goal.within_costs(other) and goal.clears_floors(one) > goal.clears_floors(other):
        assert best_of(goal, other, one) is one


@given(BUDGETS, st.lists(FACTS, min_size=1, max_size=6), st.randoms())
def test_the_best_does_not_depend_on_the_order_of_candidates(budget, candidates, random):
    goal = goal_of(budget)
    shuffled = random.sample(candidates, len(candidates))
    assert goal.rank(best_of(goal, *candidates)) == goal.rank(best_of(goal, *shuffled))


def test_among_fitting_models_the_most_accurate_wins_whatever_it_costs():
    goal = goal_of("latency<=5ms")
    slow, fast = facts_of(0.91, latency=5.0), facts_of(0.90, latency=1.0)
    assert best_of(goal, fast, slow) is slow


def test_equal_accuracy_is_decided_by_the_cost_to_minimize():
    fast, small = facts_of(latency=1.0, size=500), facts_of(latency=2.0, size=100)
    assert best_of(goal_of("latency<=5ms"), small, fast) is fast
    assert best_of(goal_of("latency<=5ms", minimize=Metric.SIZE), fast, small) is small


def test_with_an_accuracy_floor_alone_the_cheapest_model_above_it_wins():
    goal = goal_of("accuracy>=0.8")
    accurate, fast, faster = facts_of(0.95, latency=3.0), facts_of(0.85, latency=1.0), facts_of(0.79, latency=0.1)
    assert goal.minimizes_cost
    assert best_of(goal, accurate, fast, faster) is fast


def test_below_the_floor_the_most_accurate_wins():
    goal = goal_of("accuracy>=0.99")
    assert best_of(goal, facts_of(0.7, latency=0.1), accurate := facts_of(0.8, latency=9.0)) is accurate


def test_a_floor_is_cleared_by_a_standard_error_of_the_validation_accuracy():
    goal = goal_of("accuracy>=0.8")
    low, high = wilson_interval(81, 100)
    error = (high - low) / (2 * 1.96)
    assert FLOOR_MARGIN == 1.0
    assert not goal.clears_floors(facts_of(0.81, samples=100))
    assert goal.clears_floors(facts_of(0.81, samples=100_000))
    assert goal.clears_floors(facts_of(0.81))
    assert 0.81 - error < 0.8 < 0.85 - error
    assert goal.clears_floors(facts_of(0.85, samples=100))


def test_a_drop_is_cleared_by_a_standard_error_too():
    goal = goal_of("accuracy_drop<=5%")
    assert goal.clears_floors(facts_of(0.89, samples=1000))
    assert not goal.clears_floors(facts_of(0.85, samples=1000))
    assert not goal.clears_floors(facts_of(0.84))


def test_an_accuracy_that_is_not_known_clears_no_floor_but_needs_none():
    assert not goal_of("accuracy>=0.1").clears_floors(facts_of(None))
    assert goal_of("latency<=5ms").within_costs(facts_of(None))


def test_a_cost_that_is_not_known_is_not_within_its_limit():
    assert not goal_of("latency<=5ms").within_costs(facts_of(latency=None))
    assert goal_of("latency<=5ms").violation(facts_of(latency=None)) == {Metric.LATENCY: float("inf")}


def test_limits_are_met_at_their_very_value_and_relative_ones_by_the_baseline():
    goal = goal_of("latency<=50%,size<=50%")
    assert goal.within_costs(facts_of(latency=5.0, size=500))
    assert not goal.within_costs(facts_of(latency=5.0, size=501))


def test_a_violation_is_the_share_beyond_the_limit_and_not_above_zero_where_met():
    found = goal_of("latency<=4ms,size<=1000B,accuracy>=0.95,accuracy_drop<=10%").violation(facts_of(0.76, latency=5.0))
    assert found == pytest.approx(
        {Metric.LATENCY: 0.25, Metric.SIZE: -0.5, Metric.ACCURACY: 0.2, Metric.ACCURACY_DROP: 0.4}
    )


def test_without_accuracy_only_costs_are_violated():
    assert set(goal_of("latency<=4ms,accuracy>=0.95").violation(facts_of(None))) == {Metric.LATENCY}


@given(BUDGETS, FACTS)
def test_costs_are_within_exactly_where_no_cost_violates(budget, facts):
    goal = goal_of(budget)
    costs = [miss for metric, miss in goal.violation(facts).items() if metric.is_cost]
    assert goal.within_costs(facts) is all(miss <= 0 for miss in costs)


def test_the_study_is_told_what_counts():
    facts = facts_of(0.85, latency=3.0, size=123)
    assert goal_of("size<=50%").objective(facts) == 0.85
    assert goal_of("accuracy>=0.8").objective(facts) == 3.0
    assert goal_of("accuracy>=0.8", minimize=Metric.SIZE).objective(facts) == 123
    assert not goal_of("latency<=1ms,accuracy>=0.8").minimizes_cost


@pytest.mark.parametrize(
    ("budget", "interval_ms", "sure"),
    [
        ("latency<=5ms", (4.8, 4.99), True),
        ("latency<=5ms", (4.8, 5.01), False),
        ("latency<=50%", (4.7, 4.89), True),  # of a baseline between 9.8 and 10.2 ms
        ("latency<=50%", (4.7, 4.95), False),
        ("size<=1kB", (4.7, 9.0), True),
        ("accuracy>=0.5", (4.7, 9.0), True),
    ],
)
def test_a_budget_is_surely_met_where_the_interval_lies_within(budget, interval_ms, sure):
    goal = Goal(budget=Budget.parse(budget), baseline=facts_at(10.0, (9.8, 10.2)))
    facts = facts_at(4.85, interval_ms)
    assert goal.within_costs(facts)
    assert (goal.sure_violation(facts) <= 0) is sure


@pytest.mark.parametrize(
    ("budget", "share_interval", "upper_ms", "sure"),
    [
        ("latency<=50%", (0.47, 0.49), 4.949, True),  # however far both went up and down together
        ("latency<=50%", (0.47, 0.497), 5.0197, False),  # another process may find one in a hundred more
        ("latency<=50%", None, 5.6, False),
        ("latency<=5ms", (0.47, 0.49), 5.6, False),  # no share is asked for
        ("size<=1kB", (0.47, 0.51), 5.6, True),
    ],
)
def test_a_share_is_surely_met_where_the_interval_of_shares_lies_within(budget, share_interval, upper_ms, sure):
    goal = Goal(budget=Budget.parse(budget), baseline=facts_at(10.0, (8.0, 12.0)))
    facts = facts_at(4.8, (4.0, 5.6)).model_copy(update={"latency_share_interval": share_interval})
    assert (goal.sure_violation(facts) <= 0) is sure
    assert goal.upper_ms(facts) == pytest.approx(upper_ms)


def test_what_is_above_the_limit_by_its_median_is_not_surely_within_whatever_its_shares():
    goal = Goal(budget=Budget.parse("latency<=50%"), baseline=facts_at(10.0, (9.9, 10.1)))
    facts = facts_at(5.03, (5.0, 5.1)).model_copy(update={"latency_share_interval": (0.485, 0.49)})
    assert goal.sure_violation(facts) <= 0
    assert not goal.is_surely_within(facts)


def test_without_a_measurement_the_upper_end_is_that_of_the_prediction():
    goal = Goal(budget=Budget.parse("latency<=50%"), baseline=facts_at(10.0, (9.9, 10.1)))
    facts = ModelFacts(size_bytes=1, macs=1, params=1).with_prediction(4.0, (3.5, 4.5))
    assert goal.upper_ms(facts) == Metric.LATENCY.of(facts)
    assert goal.upper_ms(facts) is not None
