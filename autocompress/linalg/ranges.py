"""From where to where an activation's 8 bits should reach, judged by a histogram of its values.

Every range contains zero, so that zero has a code of its own: padding and ReLU need it exact.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from autocompress.task import Array

Range = tuple[float, float]

LEVELS = 256
BINS = 2048
_SHARES = np.linspace(1.0, 0.05, 39)  # of either bound, that the ranges of least error and divergence are chosen from
_STRIDE = 4  # of the first look at them


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How many values fell into each of equal bins from ``low`` to ``high``; values beyond count in the outer bins.

    ``zeros`` of them were exactly zero, which costs nothing in any range: after a ReLU that is half of all values.
    """

    low: float
    high: float
    counts: Array
    zeros: int = 0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low must be smaller than high, got {self.low} and {self.high}")

    @classmethod
    def empty(cls, low: float, high: float, bins: int = BINS) -> "Histogram":
        """Nothing counted yet, between bounds that are known, such as the smallest and largest value of a first pass.

        Equal bounds are set apart a little: all values are the same then.
        """
        return cls(
            low=low, high=high if low < high else low + max(1e-6, abs(low) * 1e-6), counts=np.zeros(bins, np.int64)
        )

    def added(self, values: Array) -> "Histogram":
        """The histogram with a batch more, of any shape."""
        inside = np.clip(values, self.low, self.high)
        counts, _ = np.histogram(inside, bins=len(self.counts), range=(self.low, self.high))
        zeros = self.zeros + int(np.count_nonzero(values == 0))
        return replace(self, counts=self.counts + counts, zeros=zeros)

    @property
    def edges(self) -> Array:
        """``[bins + 1]``."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def nonzero_counts(self) -> Array:
        """The counts without the exact zeros."""
        counts: Array = self.counts.copy()
        if self.zeros:
            place = int((0 - self.low) / (self.high - self.low) * len(counts))
            counts[min(max(place, 0), len(counts) - 1)] -= self.zeros
        return np.maximum(counts, 0)


def min_max(histogram: Histogram) -> Range:
    """The whole range."""
    return _with_zero(histogram.low, histogram.high)


def percentile(histogram: Histogram, percent: float = 99.99) -> Range:
    """The range outside of which at most ``(100 - percent) / 2`` percent of the values lie on either side.

    Raises:
        ValueError: ``percent`` lies outside (0, 100].
    """
    if not 0 < percent <= 100:
        raise ValueError(f"percent must lie in (0, 100], got {percent}")
    outside = (100 - percent) / 200 * histogram.counts.sum()
    edges = histogram.edges
    below = np.cumsum(histogram.counts)
    above = np.cumsum(histogram.counts[::-1])
    first = int(np.searchsorted(below, outside, side="right"))
    last = len(edges) - 1 - int(np.searchsorted(above, outside, side="right"))
    return _with_zero(float(edges[first]), float(edges[max(last, first)]))


def mse(histogram: Histogram, levels: int = LEVELS) -> Range:
    """The range of least squared error when values are clipped to it and rounded to ``levels`` equal steps.

    Either bound is one of 39 shares of the whole range's, from 1 down to 0.05: every fourth of them first, then those
    around the best pair. The error of each pair is exact for values that are spread evenly within each bin. Takes ten
    to twenty milliseconds.

    Source:
        Nagel et al. 2021, sec. 3.1, https://arxiv.org/abs/2106.08295
    """
    low, high = min_max(histogram)
    lows = (low * _SHARES).tolist() if low < 0 else [0.0]
    highs = (high * _SHARES).tolist() if high > 0 else [0.0]

    def error_at(places: tuple[int, int]) -> float:
        return rounding_error(histogram, (lows[places[0]], highs[places[1]]), levels)

    coarse = min(product(range(0, len(lows), _STRIDE), range(0, len(highs), _STRIDE)), key=error_at)
    near = [range(max(0, place - _STRIDE + 1), place + _STRIDE) for place in coarse]
    i, j = min(((i, j) for i, j in product(*near) if i < len(lows) and j < len(highs)), key=error_at)
    return lows[i], highs[j]


def rounding_error(histogram: Histogram, bounds: Range, levels: int = LEVELS) -> float:
    """Mean squared error of values clipped to ``bounds`` and rounded, expected from the histogram.

    The bounds are moved to the grid on which zero has a code, as the runtime moves them.
    """
    step = (bounds[1] - bounds[0]) / (levels - 1)
    zero_code = round(-bounds[0] / step)
    summed = _summed_error(histogram.edges, -zero_code * step, (levels - 1 - zero_code) * step, step)
    width = (histogram.high - histogram.low) / len(histogram.counts)
    return float(histogram.nonzero_counts @ np.diff(summed)) / width / max(1, int(histogram.counts.sum()))


def entropy(histogram: Histogram, levels: int = LEVELS) -> Range:
    """The range whose 8-bit version of the histogram diverges least (Kullback–Leibler) from the clipped histogram.

    What is cut off lies beyond one magnitude on both sides, a share from 1 to 0.05 of the largest. Exact zeros do not
    count: they are exact in any range, and after a ReLU they would outweigh all else.

    Source:
        Migacz 2017, "8-bit inference with TensorRT", https://on-demand.gputechconf.com/gtc/2017/presentation/
        s7310-8-bit-inference-with-tensorrt.pdf, which takes symmetric ranges and every bin as a bound.
    """
    low, high = min_max(histogram)
    magnitudes = (max(-low, high) * _SHARES).tolist()
    ranges = [(max(low, -magnitude), min(high, magnitude)) for magnitude in magnitudes]
    divergences = [_divergence(histogram, bounds, levels) for bounds in ranges]
    return ranges[int(np.argmin(divergences))]


def _with_zero(low: float, high: float) -> Range:
    return min(low, 0.0), max(high, 0.0)


def _summed_error(x: Array, low: float, high: float, step: float) -> Array:
    """Integral from 0 to ``x`` of the squared error of rounding to multiples of ``step``, clipped to [low, high]."""
    inside = np.clip(x, low, high)
    units = inside / step
    whole = np.round(units)
    rounding = step**3 * (whole / 12 + (units - whole) ** 3 / 3)
    total: Array = rounding + (x - inside) ** 3 / 3
    return total


def _divergence(histogram: Histogram, bounds: Range, levels: int) -> float:
    """Of the histogram clipped to ``bounds`` from what is left when each level spreads its count over its bins."""
    counts, edges = histogram.nonzero_counts.astype(float), histogram.edges
    centers = (edges[:-1] + edges[1:]) / 2
    inside = (centers >= bounds[0]) & (centers <= bounds[1])
    if not counts[inside].any():
        return np.inf
    kept = counts[inside]
    level = np.floor((centers[inside] - bounds[0]) / (bounds[1] - bounds[0]) * levels).astype(int).clip(0, levels - 1)
    filled = kept > 0
    mean = np.bincount(level, kept) / np.maximum(np.bincount(level, filled), 1)
    quantized = np.where(filled, mean[level], 0)
    clipped = kept.copy()
    clipped[0] += counts[centers < bounds[0]].sum()
    clipped[-1] += counts[centers > bounds[1]].sum()
    p, q = clipped / clipped.sum(), quantized / quantized.sum()
    smallest = 1e-4 / len(q)  # stands for a share of zero, where only clipped values are: the divergence stays finite
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], smallest))).sum())
