"""ONNX files of the tiny models, each made once: an export takes most of a second."""

from functools import cache

import numpy as np
import onnxruntime as ort
import torch
from onnx import ModelProto
from tiny_models import inputs_of, shape_of, tiny

from autocompress.export.calibrate import Seen
from autocompress.export.onnx_file import INPUT_NAME, to_onnx
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.hardware.machine import this_machine
from autocompress.precision import INT8, FilePlan, Precision
from autocompress.target import ActivationType, Machine
from autocompress.task import Array, Layout, Preprocess


def preprocess_of(name: str) -> Preprocess:
    """The tiny model's input, taken as stored."""
    return Preprocess(layout=Layout.AS_STORED, shape=shape_of(name))


@cache
def _exported(name: str, batch: int) -> bytes:
    return to_onnx(tiny(name), preprocess_of(name), batch).SerializeToString()


def exported(name: str, batch: int = 1) -> ModelProto:
    """The tiny model as ONNX."""
    return ModelProto.FromString(_exported(name, batch))


def machine(
    activations: ActivationType = ActivationType.U8, *, reduce_range: bool = this_machine().reduce_range
) -> Machine:
    """A machine as far as quantization asks."""
    return Machine(
        cpu="any",
        architecture="any",
        isa=(),
        cores=1,
        ram_bytes=1,
        os="any",
        int8_activations=activations,
        reduce_range=reduce_range,
        channel_block=8,
    )


CALIBRATION = 32


def calibration_of(name: str) -> torch.Tensor:
    """The inputs that ranges are taken from; none of them is clipped."""
    return inputs_of(name, CALIBRATION, seed=2)


def seen(name: str, batch: int = 1) -> Seen:
    """The same as a file of this batch takes them."""
    return Seen(inputs=calibration_of(name).numpy(), batch=batch)


def quantized(
    name: str,
    *,
    default: Precision = INT8,
    layers: dict[str, Precision] | None = None,
    on: Machine | None = None,
) -> ModelProto:
    """The tiny model in eight bits, calibrated on noise."""
    plan = FilePlan(default=default, layers=layers or {})
    return quantize_onnx(exported(name), plan, seen(name), on or machine())


def run(proto: ModelProto, x: Array | torch.Tensor, *, fused: bool = True) -> Array:
    """The file's outputs for ``x [n, ...]``, one file-sized batch at a time; unfused, eight bits compute in float."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    batch = session.get_inputs()[0].shape[0]
    feed = np.asarray(x)
    return np.concatenate([session.run(None, {INPUT_NAME: feed[i : i + batch]})[0] for i in range(0, len(feed), batch)])


def weight_names(proto: ModelProto) -> dict[str, str]:
    """Node name → the initializer that its weight is stored in, for convolutions and matrix products with weights."""
    stored = {item.name for item in proto.graph.initializer}
    makers = {node.output[0]: node for node in proto.graph.node if node.op_type in {"DequantizeLinear", "Transpose"}}
    found = {}
    for node in proto.graph.node:
        if node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
            name = node.input[1]
            while name in makers:
                name = makers[name].input[0]
            if name in stored:
                found[node.name] = name
    return found
