"""Stored weights of every kind, and what ONNX Runtime makes of a file."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto

from autocompress.export.stored_weights import StoredWeight
from autocompress.hardware.machine import this_machine


def sample(
    shape: tuple[int, ...],
    *,
    bits: int | None = None,
    values: str = "float32",
    table: str | None = None,
    groups: int = 1,
    channel_axis: int = 0,
    kept_ratio: float | None = None,
    scaled: bool = False,
    seed: int = 0,
) -> StoredWeight:
    """A made-up weight: ``values`` is the type of raw values, ``table`` that of a codebook."""
    rng = np.random.default_rng(seed)
    kept = None if kept_ratio is None else rng.random(shape) < kept_ratio
    n = int(np.prod(shape)) if kept is None else int(kept.sum())

    most = 63 if this_machine().reduce_range else 127  # beyond it, kernels of some machines saturate

    def numbers(count, dtype):
        if dtype == "int8":
            return rng.integers(-most, most + 1, count).astype(dtype)
        return rng.normal(size=count).astype(dtype)

    per_channel = np.ones(len(shape), int)
    per_channel[channel_axis] = shape[channel_axis]
    return StoredWeight(
        shape=shape,
        codes=numbers(n, values) if bits is None else rng.integers(0, 2**bits, n).astype(np.uint8),
        bits=bits,
        table=None if table is None else numbers((groups, 2 ** (bits or 0)), table),
        channel_axis=channel_axis,
        kept=kept,
        scale=numbers(shape[channel_axis], "float32").reshape(per_channel) if scaled else None,
    )


def run(proto: ModelProto, x: np.ndarray, *, optimize: bool = True) -> np.ndarray:
    """The file's only output."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


def operators_after_loading(proto: ModelProto) -> list[str]:
    """The operators that the runtime's own graph has left, in alphabetical order."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.optimized_model_filepath = str(Path(folder, "loaded.onnx"))
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return sorted(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
