"""What the tensors of a float file look like on real inputs: ranges, and means per channel."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, ValueInfoProto

from autocompress.export.onnx_file import INPUT_NAME
from autocompress.linalg import ranges
from autocompress.linalg.ranges import Histogram, Range
from autocompress.precision import Calibration
from autocompress.task import Array

_METHODS: Mapping[Calibration, Callable[[Histogram], Range]] = {
    Calibration.PERCENTILE: ranges.percentile,
    Calibration.ENTROPY: ranges.entropy,
    Calibration.MSE: ranges.mse,
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The calibration inputs ``[n, ...]`` and how many of them the file takes at once."""

    inputs: Array
    batch: int

    def feeds(self) -> Iterator[dict[str, Array]]:
        """One file-sized batch after the other; what does not fill the last is left out."""
        usable = len(self.inputs) - len(self.inputs) % self.batch
        return ({INPUT_NAME: self.inputs[i : i + self.batch]} for i in range(0, usable, self.batch))


def tensor_ranges(proto: ModelProto, names: list[str], seen: Seen, method: Calibration) -> dict[str, Range]:
    """Low and high end of each named float tensor by ``method``; zero lies in every range.

    Args:
        proto: a float file.
        names: tensors of it; the input may be one.
        seen: the samples to run.
        method: the smallest and largest value, or one of the methods of ``linalg.ranges``, which need a second run.
    """
    bounds: dict[str, Range] = {}
    for values in observe(proto, names, seen):
        for name, value in values.items():
            low, high = bounds.get(name, (0.0, 0.0))
            bounds[name] = min(low, float(value.min())), max(high, float(value.max()))
    if method is Calibration.MIN_MAX:
        return bounds
    histograms = {name: Histogram.empty(*bounds[name]) for name in bounds}
    for values in observe(proto, names, seen):
        for name, value in values.items():
            histograms[name] = histograms[name].added(value)
    return {name: _METHODS[method](histogram) for name, histogram in histograms.items()}


def observe(proto: ModelProto, names: list[str], seen: Seen) -> Iterator[Mapping[str, Array]]:
    """The values of the named tensors, feed by feed."""
    inner = [name for name in names if name != INPUT_NAME]
    session = _session_with_outputs(proto, inner)
    wanted = [item.name for item in session.get_outputs() if item.name in set(inner)]
    for feed in seen.feeds():
        values = dict(zip(wanted, session.run(wanted, feed), strict=True)) if wanted else {}
        if INPUT_NAME in names:
            values[INPUT_NAME] = feed[INPUT_NAME]
        yield {name: value for name, value in values.items() if np.issubdtype(value.dtype, np.floating)}


def _session_with_outputs(proto: ModelProto, names: list[str]) -> ort.InferenceSession:
    """The file with inner tensors as outputs, run as it is written: a fused node would hide its inner tensors."""
    opened = ModelProto()
    opened.CopyFrom(proto)
    known = {item.name for item in opened.graph.output}
    opened.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in known)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
