"""What a latency predictor must beat: three simpler ones, fitted on the same observations.

``flops`` is a straight line between the logarithms of multiply-accumulates and of time. ``roofline`` gives each kernel
the longer of computing and moving, by one rate each for float and for integer kernels, and the same dispatch to all.
``table`` adds up known kernels; an unknown one takes the time of the known one of its operator with the nearest work.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.optimize import least_squares

from autocompress.errors import MeasurementError
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.work import work_of
from autocompress.hardware.predictor.observation import Observation
from autocompress.task import Array

Kernels = Sequence[Kernel]
INTEGERS = frozenset({"int8", "uint8"})
# Where the fit begins: MACs and bytes a microsecond of one core, of float and of integer kernels, and µs a kernel.
_START = (2e4, 5e3, 6e4, 5e3, 2.0)


class Baseline(Protocol):
    """A fitted predictor."""

    def predict_us(self, kernels: Kernels) -> float:
        """Microseconds of a file with these kernels."""
        ...


def fit_baselines(observations: Sequence[Observation]) -> dict[str, Baseline]:
    """All three by name.

    Raises:
        MeasurementError: fewer observations than the largest of them has parameters.
    """
    if len(observations) < len(_START):
        raise MeasurementError(
            f"baselines need at least {len(_START)} measured files, got {len(observations)}; measure more"
        )
    parsed = [each.parsed() for each in observations]
    files = [[kernel for kernel, _ in kernels] for kernels in parsed]
    times = np.array([each.median_us for each in observations])
    timed = (
        (kernel, us * total / sum(us or 0.0 for _, us in kernels))  # profiled shares of what the file takes without
        for kernels, total in zip(parsed, times, strict=True)
        for kernel, us in kernels
        if us
    )
    return {"flops": fit_flops(files, times), "roofline": fit_roofline(files, times), "table": table_of(timed)}


@dataclass(frozen=True, kw_only=True)
class Flops:
    """``log(us) = offset + slope * log(MACs)``."""

    offset: float
    slope: float

    def predict_us(self, kernels: Kernels) -> float:
        """Microseconds of a file with these kernels."""
        return float(np.exp(self.offset + self.slope * np.log(_macs(kernels))))


def fit_flops(files: Sequence[Kernels], times_us: Array) -> Flops:
    """The line of least squares."""
    slope, offset = np.polyfit(np.log([_macs(kernels) for kernels in files]), np.log(times_us), 1)
    return Flops(offset=float(offset), slope=float(slope))


def _macs(kernels: Kernels) -> float:
    return max(1.0, float(sum(work_of(kernel)[0] for kernel in kernels)))


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """``rates``: MACs and bytes a microsecond of float kernels, the same of integer ones, and µs of each dispatch."""

    rates: tuple[float, ...]

    def predict_us(self, kernels: Kernels) -> float:
        """Microseconds of a file with these kernels."""
        return float(_roofline(_rows(kernels), np.array(self.rates)).sum())


def fit_roofline(files: Sequence[Kernels], times_us: Array) -> Roofline:
    """The rates with the smallest relative errors of whole files; few outliers do not count more than many files."""
    rows = np.concatenate([_rows(kernels) for kernels in files])
    starts = np.cumsum([0, *(len(kernels) for kernels in files[:-1])])

    def errors(log_rates: Array) -> Array:
        us: Array = np.add.reduceat(_roofline(rows, np.exp(log_rates)), starts)
        return np.log(us / times_us)

    found = least_squares(errors, np.log(_START), loss="soft_l1", f_scale=0.2)
    return Roofline(rates=tuple(float(rate) for rate in np.exp(found.x)))


def _rows(kernels: Kernels) -> Array:
    """MACs, bytes, and whether the kernel is of integers, ``[n, 3]``."""
    return np.array(
        [(*work_of(kernel), any(t.dtype in INTEGERS for t in kernel.inputs)) for kernel in kernels], dtype=float
    ).reshape(-1, 3)


def _roofline(rows: Array, rates: Array) -> Array:
    macs, moved, integers = rows.T
    computing, moving = np.where(integers, rates[2], rates[0]), np.where(integers, rates[3], rates[1])
    us: Array = np.maximum(macs / computing, moved / moving) + rates[4]
    return us


@dataclass(frozen=True, kw_only=True)
class Table:
    """Mean time by signature; ``works`` and ``times`` by operator hold log work ``[n, 2]`` and time of each entry.

    An operator that is in no entry takes the nearest of all, which stand under the empty name.
    """

    known: Mapping[str, float]
    works: Mapping[str, Array]
    times: Mapping[str, Array]
    found: dict[str, float] = field(default_factory=dict)

    def predict_us(self, kernels: Kernels) -> float:
        """Microseconds of a file with these kernels."""
        return sum(self._us(kernel) for kernel in kernels)

    def _us(self, kernel: Kernel) -> float:
        signature = kernel.signature
        if signature in self.known:
            return self.known[signature]
        if signature not in self.found:
            op = kernel.op if kernel.op in self.works else ""
            distances = np.square(self.works[op] - _log_work(kernel)).sum(axis=1)
            self.found[signature] = float(self.times[op][distances.argmin()])
        return self.found[signature]


def table_of(timed: Iterable[tuple[Kernel, float]]) -> Table:
    """Entries from kernels with their times."""
    seen: dict[str, list[float]] = {}
    kernels: dict[str, Kernel] = {}
    for kernel, us in timed:
        seen.setdefault(kernel.signature, []).append(us)
        kernels[kernel.signature] = kernel
    known = {signature: float(np.mean(times)) for signature, times in seen.items()}
    entries: dict[str, list[tuple[Array, float]]] = {}
    for signature, kernel in kernels.items():
        for op in ("", kernel.op):
            entries.setdefault(op, []).append((_log_work(kernel), known[signature]))
    return Table(
        known=known,
        works={op: np.array([work for work, _ in rows]) for op, rows in entries.items()},
        times={op: np.array([us for _, us in rows]) for op, rows in entries.items()},
    )


def _log_work(kernel: Kernel) -> Array:
    return np.log1p(work_of(kernel))
