"""Ranges of activations from histograms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import composite, integers, sampled_from

from autocompress.linalg import ranges
from autocompress.linalg.ranges import Histogram, entropy, min_max, mse, percentile, rounding_error

METHODS = {"min_max": min_max, "percentile": percentile, "entropy": entropy, "mse": mse}


def histogram_of(values: np.ndarray, bins: int = 2048) -> Histogram:
    return Histogram.empty(float(values.min()), float(values.max()), bins).added(values)


def squared_error(values: np.ndarray, bounds: tuple[float, float], levels: int = 256) -> float:
    """By the runtime's own arithmetic: scale, integer zero point, round, clip."""
    scale = (bounds[1] - bounds[0]) / (levels - 1)
    zero_point = np.round(-bounds[0] / scale)
    codes = np.clip(np.round(values / scale) + zero_point, 0, levels - 1)
    return float(np.square((codes - zero_point) * scale - values).mean())


@composite
def activations(draw):
    rng = np.random.default_rng(draw(integers(0, 10_000)))
    values = rng.standard_t(draw(sampled_from([2, 5, 50])), 3000)
    kind = draw(sampled_from(["signed", "relu", "shifted", "negative"]))
    return {"signed": values, "relu": np.maximum(values, 0), "shifted": values + 3, "negative": -np.abs(values) - 1}[
        kind
    ]


@settings(max_examples=30)
@given(values=activations(), method=sampled_from(sorted(METHODS)))
def test_every_range_contains_zero_and_lies_within_the_whole(values, method):
    low, high = METHODS[method](histogram_of(values))
    whole = min(values.min(), 0), max(values.max(), 0)
    assert whole[0] - 1e-9 <= low <= 0 <= high <= whole[1] + 1e-9
    assert low < high


@settings(max_examples=30)
@given(values=activations(), percent=sampled_from([90.0, 99.0, 99.9, 100.0]))
def test_a_percentile_leaves_no_more_outside_than_it_says(values, percent):
    low, high = percentile(histogram_of(values), percent)
    for outside in ((values < low - 1e-9).mean(), (values > high + 1e-9).mean()):
        assert outside <= (100 - percent) / 200 + 1e-12


def test_a_percentile_of_evenly_spread_values_is_known():
    histogram = Histogram(low=-1.0, high=1.0, counts=np.full(200, 5))
    assert percentile(histogram, 90) == pytest.approx((-0.9, 0.9))


@settings(max_examples=20)
@given(values=activations(), share=sampled_from([1.0, 0.6, 0.2]), levels=sampled_from([4, 16, 256]))
def test_the_expected_error_is_that_of_rounding_the_values(values, share, levels):
    bounds = tuple(each * share for each in min_max(histogram_of(values)))
    expected = rounding_error(histogram_of(values, bins=8192), bounds, levels)
    assert expected == pytest.approx(squared_error(values, bounds, levels), rel=0.1)


def test_least_error_is_that_of_all_pairs_of_bounds():
    values = np.random.default_rng(0).standard_t(3, 4000) + 0.5
    low, high = min_max(histogram_of(values))
    pairs = [(low * a, high * b) for a in ranges._SHARES for b in ranges._SHARES]
    best = min(squared_error(values, pair, 16) for pair in pairs)
    assert squared_error(values, mse(histogram_of(values), 16), 16) <= best * 1.02


def divergence_by_loops(histogram: Histogram, bounds: tuple[float, float], levels: int) -> float:
    """Migacz's algorithm, one bin at a time."""
    width = (histogram.high - histogram.low) / len(histogram.counts)
    reference, groups, below, above = [], {}, 0.0, 0.0
    for place, count in enumerate(histogram.nonzero_counts.tolist()):
        center = histogram.low + (place + 0.5) * width
        if center < bounds[0]:
            below += count
        elif center > bounds[1]:
            above += count
        else:
            level = min(int((center - bounds[0]) / (bounds[1] - bounds[0]) * levels), levels - 1)
            groups.setdefault(level, []).append(len(reference))
            reference.append(count)
    spread = [0.0] * len(reference)
    for places in groups.values():
        filled = [place for place in places if reference[place]]
        for place in filled:
            spread[place] = sum(reference[each] for each in filled) / len(filled)
    reference[0] += below
    reference[-1] += above
    total, total_spread, divergence = sum(reference), sum(spread), 0.0
    for p, q in zip(reference, spread, strict=True):
        if p:
            divergence += p / total * np.log(p / total / max(q / total_spread, 1e-4 / len(spread)))
    return divergence


@settings(max_examples=20)
@given(values=activations(), share=sampled_from([1.0, 0.7, 0.3]), levels=sampled_from([4, 16, 64]))
def test_the_divergence_is_that_of_the_published_algorithm(values, share, levels):
    histogram = histogram_of(values, bins=256)  # no center lies on the border of two levels of the whole range
    bounds = tuple(each * share for each in min_max(histogram))
    found = ranges._divergence(histogram, bounds, levels)
    if np.isfinite(found):
        # A center on the border of two levels may be counted to either.
        assert found == pytest.approx(divergence_by_loops(histogram, bounds, levels), rel=5e-3, abs=1e-9)


def test_entropy_takes_the_share_of_least_divergence():
    histogram = histogram_of(np.random.default_rng(1).standard_t(2, 4000), bins=512)
    low, high = min_max(histogram)
    largest = max(-low, high)
    candidates = [(max(low, -largest * share), min(high, largest * share)) for share in ranges._SHARES]
    least = min(divergence_by_loops(histogram, each, 64) for each in candidates)
    assert divergence_by_loops(histogram, entropy(histogram, 64), 64) == pytest.approx(least)


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
@pytest.mark.parametrize("relu", [False, True])
def test_with_heavy_tails_less_than_the_whole_range_is_closer(method, relu):
    """Laplace's distribution: clipping the largest of a million values costs less than the others gain."""
    values = np.random.default_rng(0).laplace(size=1_000_000)
    values = np.maximum(values, 0) if relu else values
    whole, chosen = min_max(histogram_of(values)), METHODS[method](histogram_of(values))
    assert squared_error(values, chosen) < squared_error(values, whole) * 0.96


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_single_outliers_are_given_up(method):
    """One value in 20,000 is thirty times as large; least squared error would keep it, at the cost of all others."""
    values = np.random.default_rng(0).normal(size=200_000)
    values[:10] = 30
    low, high = METHODS[method](histogram_of(values))
    assert -5 < low < -3
    assert 3 < high < 8


def test_batches_add_up():
    values = np.random.default_rng(0).normal(size=(6, 50))
    parts = Histogram.empty(-2.0, 2.0, 64)
    for batch in values:
        parts = parts.added(batch)
    whole = Histogram.empty(-2.0, 2.0, 64).added(values)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert whole.counts.sum() == values.size


def test_exact_zeros_are_counted_and_cost_nothing():
    relu = np.maximum(np.random.default_rng(0).normal(size=4000), 0)
    histogram = histogram_of(relu)
    assert histogram.zeros == (relu == 0).sum()
    assert histogram.nonzero_counts.sum() == (relu != 0).sum()
    assert rounding_error(histogram_of(np.zeros(5)), (0.0, 1.0)) == 0


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_a_constant_is_safe(method, value):
    low, high = method(histogram_of(np.full(10, value)))
    assert low <= 0 <= high
    assert low < high


@pytest.mark.parametrize("percent", [0.0, 100.5])
def test_a_percentage_outside_its_range_is_refused(percent):
    with pytest.raises(ValueError, match=rf"^percent must lie in \(0, 100\], got {percent}$"):
        percentile(histogram_of(np.arange(3.0)), percent)


def test_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"^low must be smaller than high, got 1.0 and -1.0$"):
        Histogram(low=1.0, high=-1.0, counts=np.zeros(4))
