"""Peak RAM of a file, predicted from its optimized graph.

Loading and running both raise the peak. While it loads, the runtime holds its weights up to three times: as it read
them, rearranged for its kernels, and as its kernels keep them; a weight that the file stores packed is first decoded,
step by step, and no step is let go. When it runs, activations come in twice: the first run allocates each by itself,
the second takes one block for all. They may lie in what loading left free, which is why only those beyond a share of
the weights count.

What one weight or activation costs so is fitted to measured files; the heap's fragments are luck, and the interval says
how much.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import Field
from scipy.optimize import nnls

from autocompress.errors import MeasurementError
from autocompress.facts import Facts
from autocompress.hardware.kernels.liveness import live_bytes, named_inputs
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph

# Both chosen by leave-one-out error on 80 files of 0.03 to 47 MB, which it therefore flatters.
FREE_SHARE = 0.35  # of the weights' bytes: what loading leaves free for activations
BLOCKED_COPIES = 3.0  # that rearranging fills with or without decoding

PRIOR_WEIGHT = 0.3  # of a coefficient's relative distance to the typical one, beside a file's relative error
_OUTER = 20  # one file in so many lies below the interval, and one above
_WIDEST = 0.25  # a side of the interval while too few files were measured to know it
_FEWEST = _OUTER - 1  # of fewer files, the ends of the interval lie beyond all


class RamFeatures(Facts):
    """What the peak depends on: stored tensors, and bytes of weights by what becomes of them, each weight once."""

    tensors: int
    float_bytes: float
    integer_bytes: float
    blocked_bytes: float
    decoded_bytes: float
    live_bytes: float

    @property
    def row(self) -> tuple[float, ...]:
        """In the order of the coefficients."""
        stored = self.float_bytes + self.integer_bytes + self.blocked_bytes
        decoded = max(0.0, self.decoded_bytes - BLOCKED_COPIES * self.blocked_bytes)
        live = max(0.0, self.live_bytes - FREE_SHARE * stored)
        weights = (self.float_bytes, self.integer_bytes, self.blocked_bytes)
        return (1.0, float(self.tensors), *weights, decoded, live)


class RamCoefficients(Facts):
    """Bytes of RAM for the runtime itself, a stored tensor, and a byte of weights by kind, decoding, and activations.

    ``low`` and ``high``: measured over predicted, within which 90 % of files lie. The defaults are typical values,
    fitted on one x86-64 machine with onnxruntime 1.31.
    """

    base: float = Field(16.3e6, ge=0)
    per_tensor: float = Field(10.5e3, ge=0)
    floats: float = Field(1.5, ge=0)
    integers: float = Field(2.3, ge=0)
    blocked: float = Field(3.25, ge=0)
    decoded: float = Field(0.85, ge=0)
    live: float = Field(2.45, ge=0)
    low: float = Field(1 - _WIDEST, gt=0, le=1)
    high: float = Field(1 + _WIDEST, ge=1)
    files: int = Field(0, ge=0, description="that the coefficients were fitted on")

    @property
    def column(self) -> tuple[float, ...]:
        """In the order of ``RamFeatures.row``."""
        weights = (self.floats, self.integers, self.blocked)
        return (self.base, self.per_tensor, *weights, self.decoded, self.live)


TYPICAL = RamCoefficients()


class RamPrediction(Facts):
    """Predicted peak growth of a process that loads and runs a file; 90 % of files lie between ``low`` and ``high``."""

    bytes: int
    low: int
    high: int


def ram_features(graph: RuntimeGraph, decoded_bytes: float = 0.0) -> RamFeatures:
    """The features of a graph; ``decoded_bytes`` is counted from the file (``decoded.decoded_bytes``)."""
    kinds = {"float": 0.0, "integer": 0.0, "blocked": 0.0}
    seen: set[str] = set()
    for placed in graph.kernels:
        for name, tensor in named_inputs(placed):
            if not tensor.stored or name in seen:
                continue
            seen.add(name)
            is_blocked = placed.kernel.op.startswith("nchwc.")
            is_integer = tensor.dtype in {"int8", "uint8", "int4", "uint4"}
            kinds["blocked" if is_blocked else "integer" if is_integer else "float"] += tensor.bytes
    return RamFeatures(
        tensors=len(seen),
        float_bytes=kinds["float"],
        integer_bytes=kinds["integer"],
        blocked_bytes=kinds["blocked"],
        decoded_bytes=decoded_bytes,
        live_bytes=live_bytes(graph),
    )


def predict_ram(features: RamFeatures, coefficients: RamCoefficients) -> RamPrediction:
    """What ``memory.measure_peak_ram`` would say of as many processes as the coefficients were fitted to."""
    peak = float(np.dot(features.row, coefficients.column))
    return RamPrediction(bytes=round(peak), low=round(peak * coefficients.low), high=round(peak * coefficients.high))


def fit_ram(
    measured: Sequence[tuple[RamFeatures, int]], typical: RamCoefficients = TYPICAL, *, pull: float = PRIOR_WEIGHT
) -> RamCoefficients:
    """Coefficients from files and their measured peaks: least relative squares, none below zero.

    What the files do not tell stays near ``typical``, so a handful is enough. The interval comes from each file as the
    others predict it.

    Raises:
        MeasurementError: no file was measured, or one peaked at nothing.
    """
    peaks = np.array([peak for _, peak in measured], float)
    if not measured or peaks.min() <= 0:
        found = "none" if not measured else f"a peak of {peaks.min():g} bytes"
        raise MeasurementError(
            f"RAM can be predicted from at least one file with a peak above 0 bytes, got {found}; measure again"
        )
    rows = np.array([features.row for features, _ in measured])
    column = _solved(rows, peaks, typical, pull)
    low, high = _interval(rows, peaks, typical, pull)
    names = ("base", "per_tensor", "floats", "integers", "blocked", "decoded", "live")
    return RamCoefficients(**dict(zip(names, column.tolist(), strict=True)), low=low, high=high, files=len(measured))


def _solved(rows: np.ndarray, peaks: np.ndarray, typical: RamCoefficients, pull: float) -> np.ndarray:
    """In units of the typical coefficients, which makes their distances comparable."""
    unit = np.maximum(typical.column, 1e-9)
    system = np.vstack([rows * unit / peaks[:, None], pull * np.eye(len(unit))])
    target = np.concatenate([np.ones(len(peaks)), np.full(len(unit), pull)])
    return np.asarray(nnls(system, target)[0] * unit)


def _interval(rows: np.ndarray, peaks: np.ndarray, typical: RamCoefficients, pull: float) -> tuple[float, float]:
    if len(peaks) < _FEWEST:
        return typical.low, typical.high
    every = np.arange(len(peaks))
    ratios = [peaks[i] / (rows[i] @ _solved(rows[every != i], peaks[every != i], typical, pull)) for i in every]
    ratios.sort()
    place = (len(peaks) + 1) // _OUTER  # conformal: another file falls between any two of them, or outside, alike
    return min(1.0, float(ratios[place - 1])), max(1.0, float(ratios[-place]))
