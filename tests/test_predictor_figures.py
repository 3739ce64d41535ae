"""Figures of predictions against values by hand, and against SciPy's rank correlation."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from autocompress.hardware.predictor.figures import Figures, Judged, figures_by, figures_of, spearman


def judged(measured, predicted, interval=None):
    return Judged(measured_ms=measured, predicted_ms=predicted, interval_ms=interval)


FILES = [
    judged(1.0, 1.04, (0.9, 1.2)),
    judged(2.0, 1.84, (1.7, 1.99)),
    judged(4.0, 4.8, (4.0, 6.4)),
    judged(8.0, 8.0, (7.0, 9.0)),
]


def test_figures_are_those_counted_by_hand():
    found = figures_of(FILES)

    assert found.files == 4
    assert found.mape == pytest.approx((0.04 + 0.08 + 0.2 + 0.0) / 4)
    assert found.bias == pytest.approx((0.04 - 0.08 + 0.2 + 0.0) / 4)
    assert (found.within_5, found.within_10) == (0.5, 0.75)
    assert found.spearman == pytest.approx(1.0)
    assert found.coverage == 0.75
    assert found.width == pytest.approx(np.median([0.3 / 1.04, 0.29 / 1.84, 2.4 / 4.8, 2 / 8]))
    assert (found.fastest_ms, found.slowest_ms) == (1.0, 8.0)


def test_without_intervals_there_is_no_coverage():
    found = figures_of([*FILES, judged(3.0, 3.0)])

    assert found.coverage is None
    assert found.width is None


def test_figures_of_kinds_are_those_of_their_files():
    found = figures_by(FILES, lambda each: "slow" if each.measured_ms > 3 else "fast", lambda each: each)

    assert list(found) == ["fast", "slow"]
    assert found["slow"] == figures_of(FILES[2:])


@pytest.mark.parametrize("seed", range(4))
def test_rank_correlation_is_scipys_with_ties(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 8, 30), rng.integers(0, 8, 30)

    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_rank_correlation_of_equal_values_means_nothing():
    assert spearman(np.ones(5), np.arange(5)) is None


def test_figures_survive_json():
    found = figures_of(FILES)

    assert Figures.from_json(found.to_json()) == found
