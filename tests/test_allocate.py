"""Allocations meet every limit by their own costs, also where units make each other's costs."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from made_up_costs import case_of, costs_of

from autocompress.budget import Metric
from autocompress.graph.units import Unit
from autocompress.search.allocation.allocate import Allocator, allocate
from autocompress.search.allocation.choices import Choice
from autocompress.search.allocation.costs import COSTS, CostModel
from autocompress.search.allocation.exchange import fits, repair, spend
from autocompress.search.allocation.solve import relaxed

WIDTHS = np.array([1.0, 0.75, 0.5, 0.25])


@dataclass
class Chain:
    """Layers between units that set widths: each costs the product of those on its two sides."""

    units: int
    scale: float = 100.0

    def __call__(self, picks):
        kept = WIDTHS[picks]
        size = self.scale * (kept[:, 1:] * kept[:, :-1]).sum(axis=1)
        return np.stack([0.1 * size + 1, size, 2 * size, size], axis=1)


def model_of(units: int, metrics=(Metric.LATENCY, Metric.SIZE)) -> CostModel:
    return CostModel(raw=Chain(units), n_choices=[len(WIDTHS)] * units, metrics=metrics)


def losses(units: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.lognormal() * (1 - WIDTHS) ** 1.5 for _ in range(units)]


def best_of_all(loss, model, limits) -> float:
    picks = np.array(list(product(range(len(WIDTHS)), repeat=len(loss))))
    total = sum(values[picks[:, unit]] for unit, values in enumerate(loss))
    return float(np.where(fits(model.upper(picks), limits), total, np.inf).min())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.15, 0.4, 0.7])
def test_with_coupled_costs_it_is_near_the_best_and_never_over(seed, share):
    model, loss = model_of(6), losses(6, seed)
    limits = share * model.upper(np.zeros((1, 6), dtype=np.intp))[0]

    found = allocate(loss, model, limits)

    best = best_of_all(loss, model, limits)
    assert found is not None
    assert np.all(model.upper(found.picks[None])[0] <= limits * (1 + 1e-9))
    assert found.loss <= best * 1.25 + 1e-9


def test_what_breaks_the_budget_in_the_linear_view_is_mended():
    """Around the original, two halved widths seem to save twice what one does."""
    model, loss = model_of(6), losses(6, 0)
    original = np.zeros(6, dtype=np.intp)
    limits = 0.3 * model.upper(original[None])[0]

    relaxation = relaxed(loss, model.linearized(original), limits)
    assert relaxation is not None
    by_sums = relaxation.solved(time_limit_s=0.6, relative_gap=1e-3)

    assert by_sums is not None
    assert not fits(model.upper(by_sums.picks[None])[0], limits)
    found = allocate(loss, model, limits)
    assert found is not None
    assert fits(found.costs, limits)


def test_what_cannot_be_reached_is_none():
    model, loss = model_of(5), losses(5, 0)
    least = model.upper(np.full((1, 5), 3))[0]
    assert allocate(loss, model, least * 0.98) is None
    assert allocate(loss, model, least * 1.02) is not None


def test_a_budget_that_all_meet_changes_nothing():
    model, loss = model_of(5), losses(5, 0)
    found = allocate(loss, model, np.array([np.inf, 1e9]))
    assert found is not None
    assert found.picks.tolist() == [0] * 5


def test_the_linear_view_is_exact_for_each_single_change():
    model = model_of(5)
    picks = np.array([0, 2, 1, 3, 0])
    tables = model.linearized(picks)
    for unit, place in ((0, 3), (1, 0), (4, 2)):
        changed = picks.copy()
        changed[unit] = place
        total = sum(table[at] for table, at in zip(tables, changed, strict=True))
        np.testing.assert_allclose(total, model.upper(changed[None])[0])


def test_what_is_left_is_spent_and_what_exceeds_is_repaired():
    model, loss = model_of(6), losses(6, 3)
    limits = 0.4 * model.upper(np.zeros((1, 6), dtype=np.intp))[0]
    total = lambda picks: sum(values[at] for values, at in zip(loss, picks, strict=True))  # noqa: E731

    mended = repair(np.zeros(6, dtype=np.intp), loss, model, limits)
    assert mended is not None
    assert fits(model.upper(mended[None])[0], limits)
    spent = spend(np.full(6, 3), loss, model, limits)
    assert fits(model.upper(spent[None])[0], limits)
    assert total(spent) < total([3] * 6)


def test_files_correct_the_costs_and_show_how_sure_they_are():
    rng = np.random.default_rng(0)
    model = model_of(5)
    picks = rng.integers(0, 4, (40, 5))
    before = model.costs(picks)
    noise = rng.normal(0, 0.05, 40)
    unsure = model.upper(picks) / before
    model.learn(picks, {Metric.LATENCY: 1.3 * before[:, 0] * np.exp(noise), Metric.SIZE: [np.nan] * 40})
    after = model.costs(picks)
    np.testing.assert_allclose(after[:, 0] / before[:, 0], 1.3, rtol=0.05)
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    below = np.mean(1.3 * before[:, 0] * np.exp(noise) <= model.upper(picks)[:, 0])
    assert 0.85 <= below <= 1
    assert (model.upper(picks) / after)[0, 0] < unsure[0, 0]


def test_a_forecast_takes_the_place_of_the_latency():
    model = model_of(4)
    model.forecast = lambda picks: np.where(picks[:, 0] == 0, 7.0, np.nan)
    known, unknown = model.upper(np.array([[0, 1, 1, 1], [1, 1, 1, 1]]))
    assert known[0] == 7.0
    assert unknown[0] != 7.0
    tables = model.linearized(np.array([0, 1, 1, 1]))
    assert sum(table[at, 0] for table, at in zip(tables, [0, 1, 1, 1], strict=True)) == pytest.approx(7.0)


def allocator() -> Allocator:
    choices = [tuple(Choice(prune=1 - width) for width in WIDTHS)] * 5
    units = [Unit(name=f"unit {i}") for i in range(5)]
    loss = [values.tolist() for values in losses(5, 1)]
    return Allocator(units=units, choices=choices, loss=loss, model=model_of(5))


def test_coefficients_and_forbidden_choices_are_respected():
    limits = {Metric.SIZE: 150.0}
    plain = allocator().allocate(limits)
    dear = [[1000.0] * 4 if unit == 0 else [1.0] * 4 for unit in range(5)]
    spared = allocator().allocate(limits, coefficients=dear)
    mask = [[False, True, True, True] if unit == 2 else [False] * 4 for unit in range(5)]
    kept = allocator().allocate(limits, forbid=mask)
    assert plain is not None
    assert spared is not None
    assert kept is not None
    assert spared.picks[0] == 0
    assert kept.picks[2] == 0
    assert all(found.costs[Metric.SIZE] <= 150.0 for found in (plain, spared, kept))
    assert kept.loss >= plain.loss * 0.99
    assert plain.choices(allocator().choices)[0].prune == 1 - WIDTHS[plain.picks[0]]


def test_a_limit_that_only_files_show_is_refused():
    with pytest.raises(ValueError, match="limits are of latency, size, got one of ram; leave what only a file shows"):
        allocator().allocate({Metric.RAM: 1e6})


def test_a_unit_that_may_become_nothing_is_refused():
    mask = [[unit == 3] * 4 for unit in range(5)]
    with pytest.raises(ValueError, match="each unit needs a choice that is allowed, unit 3 has none; forbid fewer"):
        allocator().allocate({Metric.SIZE: 150.0}, forbid=mask)


@pytest.mark.parametrize("name", ["residual", "vit blocks"])
def test_a_real_network_gets_within_three_budgets(name):
    case, costs = case_of(name), costs_of(name)
    model = CostModel(raw=costs, n_choices=[len(choices) for choices in case.choices])
    loss = [[(1 - c.prune * 0.5) ** -2 - 1 + 0.1 * (1 - c.rank) + c.sparse + c.drop + 0.3 / (c.codebook or 9)
             for c in choices] for choices in case.choices]  # fmt: skip
    base = dict(zip(COSTS, model.upper(np.zeros((1, len(case.units)), dtype=np.intp))[0], strict=True))
    limits = {Metric.LATENCY: 0.7 * base[Metric.LATENCY], Metric.SIZE: 0.8 * base[Metric.SIZE],
              Metric.MACS: 0.7 * base[Metric.MACS]}  # fmt: skip
    found = Allocator(units=case.units, choices=case.choices, loss=loss, model=model).allocate(limits)
    assert found is not None
    assert all(found.costs[metric] <= limit * (1 + 1e-9) for metric, limit in limits.items())
