"""The knapsack's solution is the best one, checked by trying all."""

from itertools import product

import numpy as np
import pytest

from autocompress.search.allocation import solve as solving
from autocompress.search.allocation.solve import Solution, relaxed


def made_up(units: int, choices: int, metrics: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Choices that cost less lose more, by and large; the first changes nothing."""
    rng = np.random.default_rng(seed)
    losses, costs = [], []
    for _ in range(units):
        kept = np.sort(rng.uniform(0.05, 1.0, choices))[::-1]
        size = rng.lognormal()
        cost = size * kept[:, None] * rng.uniform(0.5, 1.2, (choices, metrics))
        cost[0] = 1.2 * size
        loss = rng.lognormal() * (1 - kept) ** 2 * rng.uniform(0.3, 1.5, choices)
        loss[0] = 0.0
        losses.append(loss)
        costs.append(cost)
    return losses, costs


def solve(losses, costs, limits, time_limit_s: float = 0.6, relative_gap: float = 1e-3) -> Solution | None:
    found = relaxed(losses, costs, limits)
    return None if found is None else found.solved(time_limit_s=time_limit_s, relative_gap=relative_gap)


def by_trying_all(losses, costs, limits) -> float:
    return min(
        (
            sum(loss[at] for loss, at in zip(losses, picks, strict=True))
            for picks in product(*(range(len(loss)) for loss in losses))
            if np.all(sum(cost[at] for cost, at in zip(costs, picks, strict=True)) <= limits)
        ),
        default=np.inf,
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_nothing_feasible_loses_less(seed, share):
    losses, costs = made_up(units=4, choices=5, metrics=3, seed=seed)
    limits = share * sum(cost[0] for cost in costs) * np.array([1.0, 0.8, np.inf])

    found = solve(losses, costs, limits, relative_gap=0.0)

    best = by_trying_all(losses, costs, limits)
    if found is None:
        assert best == np.inf
        return
    assert found.loss == pytest.approx(best, rel=1e-6, abs=1e-9)
    assert np.all(found.costs <= limits * (1 + 1e-6))
    assert found.costs == pytest.approx(sum(cost[at] for cost, at in zip(costs, found.picks, strict=True)))
    assert found.optimal


@pytest.mark.parametrize("few", [False, True], ids=["listed", "by branch and cut"])
@pytest.mark.parametrize("seed", range(40))
def test_nothing_feasible_loses_less_where_costs_fit_exactly(monkeypatch, seed, few):
    """On a grid many selections meet a limit to the last digit."""
    if few:
        monkeypatch.setattr(solving, "BEAM", 1)
        monkeypatch.setattr(solving, "LISTED", 1)
    rng = np.random.default_rng(seed)
    losses = [rng.integers(3, 30, 5) / 10 for _ in range(4)]
    costs = [rng.integers(0, 11, (5, 1)) / 10 for _ in range(4)]
    limits = np.array([1.6])

    found = solve(losses, costs, limits, relative_gap=0.0)

    best = by_trying_all(losses, costs, limits + 1e-9)
    if found is None:
        assert best == np.inf
        return
    assert found.loss == pytest.approx(best, abs=1e-9)
    assert found.optimal
    rough = relaxed(losses, costs, limits)
    assert rough is not None
    assert 0 < rough.bound <= best + 1e-6


def test_a_selection_that_uses_a_limit_up_is_not_lost_to_rounding():
    losses = [np.array(row) for row in ([2.1, 1.4, 0.9, 2.5, 2.0], [0.9, 1.6, 2.8, 2.6, 2.4], [2.2, 1.8, 1.2, 0.5, 1.4],
                                        [1.2, 1.4, 0.5, 2.6, 0.5])]  # fmt: skip
    costs = [np.array([row]).T for row in ([0.1, 0.4, 0.5, 0.1, 0.6], [0.2, 0.5, 0.1, 0.7, 0.7],
                                           [0.5, 0.2, 0.4, 1.0, 0.8], [0.0, 0.3, 0.7, 0.7, 0.0])]  # fmt: skip
    limits = np.array([1.6])
    found = solve(losses, costs, limits)
    assert found is not None
    assert found.loss == pytest.approx(by_trying_all(losses, costs, limits + 1e-9))


def test_limits_below_what_is_possible_have_no_solution():
    losses, costs = made_up(units=4, choices=5, metrics=2, seed=0)
    least = sum(cost.min(axis=0) for cost in costs)
    assert solve(losses, costs, least * np.array([0.99, 10.0])) is None


def test_limits_that_only_together_are_too_low_have_no_solution():
    loss = [np.zeros(2)]
    costs = [np.array([[1.0, 3.0], [3.0, 1.0]])]
    assert solve(loss, costs, np.array([2.0, np.inf])) is not None
    assert solve(loss, costs, np.array([2.0, 2.0])) is None


def test_where_no_unit_mixes_the_relaxed_selection_is_the_best_one():
    losses, costs = made_up(units=6, choices=5, metrics=2, seed=0)
    found = relaxed(losses, costs, np.array([1e3, np.inf]))
    assert found is not None
    assert found.picks.tolist() == [int(loss.argmin()) for loss in losses]
    assert found.bound == pytest.approx(0.0)


def test_copies_of_choices_and_choices_that_others_beat_change_nothing(monkeypatch):
    """They would fill the list of selections, so that branch and cut had to decide."""
    losses, costs = made_up(units=8, choices=6, metrics=2, seed=1)
    limits = 0.4 * sum(cost[0] for cost in costs)
    more = [np.concatenate([loss, loss, 2 * loss + 1]) for loss in losses]
    dear = [np.vstack([cost, cost, 1.5 * cost]) for cost in costs]
    alone = solve(losses, costs, limits, relative_gap=0.0)
    monkeypatch.delattr(solving, "milp")

    found = solve(more, dear, limits, relative_gap=0.0)

    assert found is not None
    assert alone is not None
    assert found.picks.tolist() == alone.picks.tolist()
    assert found.optimal


def test_choices_of_infinite_loss_are_not_picked():
    loss, costs = [np.array([0.0, np.inf, 2.0])], [np.array([[3.0], [np.nan], [1.0]])]
    found = solve(loss, costs, np.array([1.5]))
    assert found is not None
    assert found.picks.tolist() == [2]


def test_a_unit_without_any_choice_is_refused():
    with pytest.raises(ValueError, match="each unit needs a choice of finite loss, unit 1 has none of 2"):
        solve([np.zeros(2), np.full(2, np.inf)], [np.ones((2, 1))] * 2, np.array([5.0]))


@pytest.mark.parametrize("cost", [np.nan, np.inf])
@pytest.mark.parametrize("solver", [solve, relaxed])
def test_a_cost_that_is_no_finite_number_is_refused(solver, cost):
    with pytest.raises(ValueError, match="costs must be finite, those of unit 1 are not"):
        solver([np.zeros(1)] * 2, [np.ones((1, 1)), np.array([[cost]])], np.ones(1))


def test_choices_that_others_of_their_unit_beat_are_left_out():
    """Whether they stand before or behind; of equal ones the first stays, and what is worth its cost."""
    loss = np.array([3.0, 1.0, 1.0, 2.0, 0.0])
    cost = np.array([[5.0], [5.0], [5.0], [4.0], [9.0]])
    problem = solving._posed([loss, np.zeros(1)], [cost, np.full((1, 1), 99.0)], np.array([100.0]))
    assert problem.undominated(np.ones(6, dtype=bool)).tolist() == [False, True, False, True, True, True]
    only = np.array([True, False, False, False, True, True])
    assert problem.undominated(only).tolist() == only.tolist()


def test_sixty_units_of_forty_choices_under_three_budgets_end_near_the_best_and_print_nothing(capfd):
    """What the time allows is near what slightly larger budgets allow."""
    losses, costs = made_up(units=60, choices=40, metrics=3, seed=0)
    limits = 0.3 * sum(cost[0] for cost in costs) * np.array([1.0, 0.9, 0.8])

    found = solve(losses, costs, limits, time_limit_s=0.6)

    assert found is not None
    assert np.all(found.costs <= limits * (1 + 1e-6))
    looser = solve(losses, costs, limits * 1.02, time_limit_s=0.6)
    assert looser is not None
    assert found.loss <= 1.15 * looser.loss
    assert capfd.readouterr() == ("", "")
