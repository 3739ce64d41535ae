"""What a selection costs, corrected by files that were measured, with how far off that was."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from autocompress.budget import Metric
from autocompress.search.allocation.network_costs import COSTS

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]

QUANTILE = 0.9
LEAST = 1e-9  # of a calculated cost; below it there are no ratios
SLOPE_DOUBT = 0.5  # spread of the logarithms of costs, squared and summed, against which a slope of 0 counts as much
MOST_SLOPE = 0.8
HALF_LIFE = 8.0  # measured files after which one counts half as much
DOUBT = 1.0  # measured files against which the uncorrected costs count as much
PRIOR = 5.0  # the same for how far off they are
# The share that nine in ten files stay below, before any was measured. MACs and parameters are exact.
SPREADS: Mapping[Metric, float] = {Metric.LATENCY: 0.15, Metric.SIZE: 0.02, Metric.MACS: 0.0, Metric.PARAMS: 0.0}


@dataclass
class CostModel:
    """Costs of selections ``[n, units]`` in ``metrics``, milliseconds, bytes and counts, as ``[n, metrics]``.

    What was measured corrects them by a factor, and by a power: where weights come from memory, a network half as large
    takes less than half as long, as it fits into the cache.

    ``raw``: see ``NetworkCosts``; all four of ``COSTS``. ``forecast``: the upper end of the latency of selections by
    another model, NaN where it has none; asked about few.
    """

    raw: Callable[[Picks], Floats]
    n_choices: Sequence[int]
    metrics: tuple[Metric, ...] = COSTS
    forecast: Callable[[Picks], Floats] | None = None
    _met: dict[Metric, list[tuple[float, float]]] = field(default_factory=dict, repr=False)
    _lines: dict[Metric, tuple["_Line", float]] = field(default_factory=dict, repr=False)

    def bounds(self, limits: Mapping[Metric, float]) -> Floats:
        """``limits`` in the order of ``metrics``, infinite where there is none."""
        return np.array([limits.get(metric, np.inf) for metric in self.metrics])

    def costs(self, picks: Picks) -> Floats:
        """What is expected."""
        return self._corrected(self._raw(picks))

    def upper(self, picks: Picks) -> Floats:
        """What is not exceeded nine times in ten."""
        found = self.costs(picks) * (1 + self._spreads())
        if self.forecast is not None and Metric.LATENCY in self.metrics:
            at = self.metrics.index(Metric.LATENCY)
            forecast = self.forecast(picks)
            found[:, at] = np.where(np.isnan(forecast), found[:, at], forecast)
        return found

    def changed(self, picks: Picks, changes: Picks) -> Floats:
        """``upper`` of the selection ``picks [units]`` after each of ``changes [n, 2]``, a unit and its choice.

        Where there is a forecast of ``picks``, what changes it is the model's share.
        """
        rows = np.tile(picks, (len(changes), 1))
        rows[np.arange(len(changes)), changes[:, 0]] = changes[:, 1]
        return self.at_scale_of(picks, rows)

    def at_scale_of(self, picks: Picks, rows: Picks) -> Floats:
        """``upper`` of ``rows`` as the model has it, times what its ``upper`` is off for ``picks``."""
        if self.forecast is None:
            return self.upper(rows)
        scale = self.upper(picks[None]) / self._corrected(self._raw(picks[None]))
        return self._corrected(self._raw(rows)) * scale

    def linearized(self, picks: Picks) -> list[Floats]:
        """Of each unit ``[choices, metrics]``: costs beside ``picks``; those of ``picks`` add up to its ``upper``."""
        owner = np.repeat(np.arange(len(self.n_choices)), self.n_choices)
        starts = np.cumsum(self.n_choices) - np.asarray(self.n_choices)
        changes = np.column_stack([owner, np.arange(len(owner)) - starts[owner]])
        (here,) = self.upper(picks[None])
        deltas = self.changed(picks, changes) - here + here / len(picks)
        return np.split(deltas, starts[1:])

    def learn(self, picks: Picks, measured: Mapping[Metric, Sequence[float]]) -> None:
        """Take in files of selections ``[n, units]`` that were made; NaN for what was not measured of one."""
        raw = np.maximum(self.raw(picks), LEAST)
        for metric, values in measured.items():
            pairs = zip(raw[:, COSTS.index(metric)].tolist(), values, strict=True)
            self._met.setdefault(metric, []).extend((ours, value) for ours, value in pairs if not np.isnan(value))
            self._lines.pop(metric, None)

    def _raw(self, picks: Picks) -> Floats:
        return np.maximum(self.raw(picks)[:, [COSTS.index(metric) for metric in self.metrics]], LEAST)

    def _corrected(self, raw: Floats) -> Floats:
        lines = [self._line(metric)[0] for metric in self.metrics]
        return np.stack([raw[:, at] * np.exp(line.at(raw[:, at])) for at, line in enumerate(lines)], axis=1)

    def _spreads(self) -> Floats:
        """Of each metric the share by which it may be exceeded."""
        return np.array([self._line(metric)[1] for metric in self.metrics])

    def _line(self, metric: Metric) -> tuple["_Line", float]:
        """A metric's correction, and its spread."""
        if metric not in self._lines:
            met = np.array(self._met.get(metric, []), dtype=np.float64).reshape(-1, 2)
            line = _fitted(met[:, 0], met[:, 1])
            logs = np.log(met[:, 1] / met[:, 0]) - line.at(met[:, 0])
            seen = max(float(np.quantile(logs, QUANTILE)), 0.0) if len(logs) else 0.0
            self._lines[metric] = line, (PRIOR * SPREADS[metric] + len(logs) * seen) / (PRIOR + len(logs))
        return self._lines[metric]


@dataclass(frozen=True, kw_only=True)
class _Line:
    """Logarithm of a cost's correction, over the logarithm of the cost; flat beyond what was measured."""

    middle: float = 0.0
    slope: float = 0.0
    low: float = -np.inf
    high: float = np.inf
    shift: float = 0.0

    def at(self, costs: Floats) -> Floats:
        """For each of some costs."""
        logs: Floats = np.clip(np.log(costs), self.low, self.high)
        return self.shift + self.slope * (logs - self.middle)


def _fitted(ours: Floats, measured: Floats) -> _Line:
    """Median and slope of what costs were off, both drawn to 0 where little was measured.

    What was measured last counts most: a search comes to lie where its limits are.
    """
    if not len(ours):
        return _Line()
    x, y = np.log(ours), np.log(measured / ours)
    weight = 0.5 ** (np.arange(len(x))[::-1] / HALF_LIFE)
    middle = _weighted_median(x, weight)
    apart = x - middle
    slope = float(np.sum(weight * apart * (y - _weighted_median(y, weight))))
    slope /= float(np.sum(weight * apart**2)) + SLOPE_DOUBT
    slope = min(MOST_SLOPE, max(-MOST_SLOPE, slope))
    shift = _weighted_median(y - slope * apart, weight) * len(x) / (len(x) + DOUBT)
    return _Line(middle=middle, slope=slope, low=float(x.min()), high=float(x.max()), shift=shift)


def _weighted_median(values: Floats, weight: Floats) -> float:
    order = np.argsort(values)
    below = np.cumsum(weight[order])
    found: float = float(values[order][np.searchsorted(below, below[-1] / 2)])
    return found
