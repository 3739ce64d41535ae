"""What each limit is worth: the prices at which choices, each unit's cheapest, lose least if they may be mixed.

The loss with priced costs, less the prices of the limits, is a concave function of the prices, made of planes; its peak
is the least loss of any mixture (linear programming duality). A few limits only, so one price after another is
followed: two tangents, one from each side of a peak, meet above it, and where they meet the next tangent is taken.
Each limit that binds takes some five times as many evaluations: a few dozen for two, hundreds for three.

Source: Everett 1963, https://doi.org/10.1287/opre.11.3.399 (prices); Kelley 1960, https://doi.org/10.1137/0108053 (the
planes of a concave function).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]

ROUNDING = 1e-13  # of sums; coarser prices would not show which choices are worth as much
LEAST_RANGE = 1e-9  # of a cost
NEAR = 0.1  # of a price, by which it is first changed
WIDER = 4.0  # by how much more, until one is too low and one too high
MOST_STEPS = 60  # of each search along a line; some ten are taken


@dataclass(frozen=True, kw_only=True)
class Priced:
    """Choices of all units in turn: ``loss [choices]``, ``costs [choices, metrics]``, ``starts`` of the units.

    Needs numbers near 1, all finite.
    """

    loss: Floats
    costs: Floats
    limits: Floats
    starts: Picks

    def prices(self) -> Floats | None:
        """Of each limit, at least 0; None where no mixture meets them, be it by a hair."""
        peak = self._peak(np.zeros(len(self.limits)), 0)
        return None if self._is_beyond(peak) else peak.prices

    def _peak(self, prices: Floats, axis: int) -> "_Plane":
        """The highest that is reached by changing the prices from ``axis`` on; those that are given are near it."""
        if axis == len(prices):
            return self._plane(prices)
        price = float(prices[axis])
        left = right = self._at(prices, axis, price)
        step = NEAR * price or float(self._first_prices[axis])
        for _ in range(MOST_STEPS):
            if self._is_beyond(left) or (left.slope[axis] <= 0 and price == 0):
                return left
            if self._is_beyond(right) or left.slope[axis] > 0 >= right.slope[axis]:
                break
            if right.slope[axis] > 0:
                price += step
                left, right = right, self._at(right.prices, axis, price)
            else:
                price = max(price - step, 0.0)
                left, right = self._at(left.prices, axis, price), left
            step *= WIDER
        return self._between(left, right, axis) if left.slope[axis] > 0 >= right.slope[axis] else right

    def _between(self, left: "_Plane", right: "_Plane", axis: int) -> "_Plane":
        """The peak between a plane that rises and one that does not."""
        peak = right
        for _ in range(MOST_STEPS):
            rise, fall = float(left.slope[axis]), float(right.slope[axis])
            first, last = float(left.prices[axis]), float(right.prices[axis])
            meeting = (right.value - left.value + rise * first - fall * last) / (rise - fall)
            meeting = min(max(meeting, first), last)
            peak = self._at(peak.prices, axis, meeting)
            expected = left.value + rise * (meeting - first)
            sums = abs(expected) + float(peak.prices @ np.abs(self.limits))
            if expected - peak.value <= ROUNDING * sums or self._is_beyond(peak):
                return peak.mixed(left, right, -fall / (rise - fall))
            left, right = (peak, right) if peak.slope[axis] > 0 else (left, peak)
        return peak

    def _at(self, prices: Floats, axis: int, price: float) -> "_Plane":
        """The peak over the prices behind ``axis``."""
        tried = prices.copy()
        tried[axis] = price
        return self._peak(tried, axis + 1)

    def _plane(self, prices: Floats) -> "_Plane":
        loss, costs = self._by_unit
        priced = loss + (prices @ costs).reshape(loss.shape)
        picked = priced.argmin(axis=1) + self._firsts
        slope = costs[:, picked].sum(axis=1) - self.limits
        return _Plane(value=float(priced.take(picked).sum() - prices @ self.limits), slope=slope, prices=prices)

    def _is_beyond(self, peak: "_Plane") -> bool:
        """Whether no mixture loses that much: then none meets the limits."""
        return peak.value > self._most_loss + ROUNDING * abs(self._most_loss)

    @cached_property
    def _by_unit(self) -> tuple[Floats, Floats]:
        """Losses ``[units, most]`` and costs ``[metrics, units * most]``; a row is filled with its last choice."""
        counts = np.diff(self.starts, append=len(self.loss))
        table = self.starts[:, None] + np.minimum(np.arange(counts.max()), counts[:, None] - 1)
        return self.loss[table], np.ascontiguousarray(self.costs[table.ravel()].T)

    @cached_property
    def _firsts(self) -> Picks:
        """Of each unit, the place of its first choice among costs."""
        loss, _ = self._by_unit
        found: Picks = np.arange(len(loss)) * loss.shape[1]
        return found

    @cached_property
    def _most_loss(self) -> float:
        return float(self._by_unit[0].max(axis=1).sum())

    @cached_property
    def _first_prices(self) -> Floats:
        """What losses vary for what costs do."""
        found: Floats = (np.ptp(self.loss) or 1.0) / np.maximum(np.ptp(self.costs, axis=0), LEAST_RANGE)
        return found


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """The value at some prices and its slope there ``[metrics]``: what is exceeded of each limit."""

    value: float
    slope: Floats
    prices: Floats

    def mixed(self, left: "_Plane", right: "_Plane", share: float) -> "_Plane":
        """As steep as two others that meet here, by the share of the first."""
        return _Plane(value=self.value, slope=share * left.slope + (1 - share) * right.slope, prices=self.prices)
