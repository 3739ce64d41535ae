"""How little a network can cost, against every selection that there is."""

from itertools import product

import numpy as np
import pytest
from made_up_outer import UNIT_BYTES, made_up_outer

from autocompress.budget import Metric
from autocompress.search.allocation.cheapest import cheapest
from autocompress.search.allocation.costs import CostModel
from autocompress.search.least import least_costs

INFINITE = np.inf


def coupled(seed: int, units: int = 5, choices: int = 3) -> CostModel:
    """Two costs that are at odds, and neighbours that make each other's."""
    rng = np.random.default_rng(seed)
    first, second = rng.uniform(0.5, 2.0, (2, units, choices))

    def raw(picks):
        at = np.arange(units)
        ms, size = first[at, picks], second[at, picks]
        ms = ms + 0.3 * ms * np.roll(ms, 1, axis=1)
        return np.stack([ms.sum(1), size.sum(1), size.sum(1), size.sum(1)], axis=1)

    return CostModel(raw=raw, n_choices=[choices] * units, metrics=(Metric.LATENCY, Metric.SIZE))


@pytest.mark.parametrize("limits", [(1.0, INFINITE), (INFINITE, 1.0), (6.0, 4.0)])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_costs_much_less_than_the_cheapest(seed, limits):
    model, bounds = coupled(seed), np.array(limits)
    every = np.array(list(product(range(3), repeat=5)))
    (found,) = model.upper(cheapest(model, bounds)[None]) / bounds
    assert found.max() <= 1.1 * (model.upper(every) / bounds).max(axis=1).min()


def test_the_least_of_each_metric_is_told_apart_from_what_comes_nearest_to_all():
    model = coupled(0)
    found = least_costs(model, None, {Metric.LATENCY: 6.0, Metric.SIZE: 4.0})
    assert set(found.alone) == {Metric.LATENCY, Metric.SIZE}
    for metric, value in found.alone.items():
        assert value <= found.together[metric]
    assert len(found.selections) >= 2


def test_a_limit_that_has_no_cost_of_its_own_asks_for_the_fewest_bytes():
    outer = made_up_outer({Metric.SIZE: UNIT_BYTES})
    found = least_costs(outer.allocator.model, None, {})
    smallest = [min(range(len(row)), key=lambda at, row=row: _kept(row[at])) for row in outer.allocator.choices]
    assert found.alone[Metric.SIZE] == pytest.approx(outer.allocator.model.costs(np.array([smallest]))[0, 1])


def _kept(choice) -> float:
    return 0.0 if choice.drop else (1 - choice.prune) * (choice.precision.bits or 32)
