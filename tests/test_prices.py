"""Prices of limits, against the linear program that they are the dual of."""

import numpy as np
import pytest
from scipy.optimize import linprog

from autocompress.search.allocation.prices import Priced

INFEASIBLE = 2  # of ``linprog``


def made_up(seed: int) -> Priced:
    """Up to eleven units, four limits; losses and costs of several kinds, ties and costs below 0 among them."""
    rng = np.random.default_rng(seed)
    metrics, counts = rng.integers(0, 5), rng.integers(1, 9, rng.integers(1, 12))
    choices = counts.sum()
    shape = (choices, metrics)
    losses = [rng.random(choices), rng.lognormal(0, 3, choices), np.zeros(choices), 1.0 * rng.integers(0, 3, choices)]
    kinds = [rng.random(shape), rng.lognormal(0, 2, shape), 1.0 * rng.integers(-1, 3, shape), -rng.random(shape)]
    starts = np.cumsum(counts) - counts
    costs = kinds[seed % 4]
    low, high = (each.reduceat(costs, starts).sum(axis=0) for each in (np.minimum, np.maximum))
    limits = low + (high - low) * rng.uniform(-0.05, 1.0, metrics)
    scale = np.maximum(np.abs(limits), 1e-3)
    return Priced(loss=losses[seed // 4 % 4], costs=costs / scale, limits=limits / scale + 1e-9, starts=starts)


def least_of_mixtures(problem: Priced) -> float | None:
    """The least loss where choices may be mixed, by a linear program."""
    counts = np.diff(problem.starts, append=len(problem.loss))
    one_each = np.repeat(np.eye(len(counts)), counts, axis=1)
    found = linprog(
        problem.loss, A_ub=problem.costs.T, b_ub=problem.limits, A_eq=one_each, b_eq=np.ones(len(counts)),
        method="highs",
    )  # fmt: skip
    return None if found.status == INFEASIBLE else found.fun


def loss_at(problem: Priced, prices: np.ndarray) -> float:
    priced = np.minimum.reduceat(problem.loss + problem.costs @ prices, problem.starts)
    return priced.sum() - prices @ problem.limits


@pytest.mark.parametrize("seed", range(96))
def test_at_the_prices_all_units_together_lose_what_the_best_mixture_does(seed):
    problem = made_up(seed)

    prices = problem.prices()

    least = least_of_mixtures(problem)
    if least is None:
        assert prices is None
        return
    assert np.all(prices >= 0)
    assert loss_at(problem, prices) == pytest.approx(least, rel=1e-7, abs=1e-9)


def test_what_is_made_up_has_problems_with_and_without_a_mixture_that_fits():
    found = [least_of_mixtures(made_up(seed)) is None for seed in range(96)]

    assert 10 < sum(found) < 86


def generic(seed: int, metrics: int, worst: float) -> Priced:
    """Thirty units whose choices lose little, but for one of each; all numbers differ."""
    rng = np.random.default_rng(seed)
    loss = rng.lognormal(-4.0, 1.0, (30, 12))
    loss[:, 0] = worst * rng.uniform(0.5, 1.0, 30)
    costs = rng.uniform(0.2, 1.0, (30, 12, metrics)) / (0.45 * 30)
    costs[:, 0] = 0.05 / 30
    return Priced(
        loss=loss.ravel(), costs=costs.reshape(-1, metrics), limits=np.ones(metrics), starts=np.arange(0, 360, 12)
    )


@pytest.mark.parametrize("worst", [0.1, 10.0, 1e5])
@pytest.mark.parametrize("metrics", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_for_each_limit_that_binds_one_unit_has_two_choices_that_are_worth_as_much(seed, metrics, worst):
    problem = generic(seed, metrics, worst)

    prices = problem.prices()

    priced = (problem.loss + problem.costs @ prices).reshape(30, 12)
    more = priced - priced.min(axis=1, keepdims=True)
    assert (more <= 1e-9).sum() - 30 == np.count_nonzero(prices)
    assert np.count_nonzero(prices) > 0


@pytest.mark.parametrize(("missed_by", "fits"), [(-1e-6, True), (0.0, True), (1e-6, False)])
def test_a_limit_is_met_to_the_last_digit_or_not_at_all(missed_by, fits):
    """Two units that cost 0.4 and 0.6 at least; the second has no choice."""
    costs = np.array([[0.9], [0.4], [0.6]])
    limits = np.array([1.0 - missed_by])

    found = Priced(loss=np.array([0.0, 1.0, 0.0]), costs=costs, limits=limits, starts=np.array([0, 2])).prices()

    assert (found is not None) is fits


def test_two_limits_on_the_same_cost_are_worth_as_much_as_the_tighter_one():
    rng = np.random.default_rng(0)
    loss, cost = rng.random(40), rng.uniform(0.1, 1.0, 40) / 4
    problem = Priced(
        loss=loss, costs=np.column_stack([cost, 2 * cost]), limits=np.array([1.0, 1.9]), starts=np.arange(0, 40, 4)
    )

    prices = problem.prices()

    assert prices[0] == pytest.approx(0.0, abs=1e-9)
    assert loss_at(problem, prices) == pytest.approx(least_of_mixtures(problem), rel=1e-9)


def test_a_limit_that_is_not_reached_is_worth_nothing():
    problem = Priced(
        loss=np.array([0.0, 1.0]), costs=np.array([[1.0, 1.0], [0.2, 0.5]]), limits=np.array([0.5, 3.0]),
        starts=np.array([0]),
    )  # fmt: skip

    assert problem.prices() == pytest.approx([1 / 0.8, 0.0])


@pytest.mark.parametrize(("metrics", "most"), [(1, 20), (2, 100), (3, 500), (4, 3000)])
def test_evaluations_are_few_for_up_to_three_limits(monkeypatch, metrics, most):
    rng = np.random.default_rng(0)
    kept = rng.uniform(0.05, 1.0, 60 * 40)
    loss = rng.lognormal(0.0, 1.0, kept.size) * (1 - kept) ** 2
    costs = kept[:, None] * rng.uniform(0.5, 1.2, (kept.size, metrics)) / 20
    calls = []
    plane = Priced._plane
    monkeypatch.setattr(Priced, "_plane", lambda self, prices: calls.append(0) or plane(self, prices))

    assert (
        Priced(loss=loss, costs=costs, limits=np.ones(metrics), starts=np.arange(0, kept.size, 40)).prices() is not None
    )

    assert len(calls) <= most
