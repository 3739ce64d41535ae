"""From a float ONNX file to int8 by static quantization, layer by layer, with ONNX Runtime's own tool."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from autocompress.export.onnx_file import INPUT_NAME, layer_of
from autocompress.precision import FilePlan, Format
from autocompress.target import ActivationType, Machine
from autocompress.task import Array

# Operators with weights, and those that only move, add or pool numbers and so can stay in integers between them.
# Norms, softmax and activations other than ReLU run in float: their int8 kernels are slower or coarser.
_OPS = [
    "Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Pad",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "Resize",
]  # fmt: skip
_WEIGHTED = {"Conv", "Gemm", "MatMul"}


class Calibration(CalibrationDataReader):  # type: ignore[misc]  # the tool's own base class is untyped
    """Model inputs, one file-sized batch at a time, in the form that the tool asks for."""

    def __init__(self, inputs: Array, batch: int) -> None:
        usable = len(inputs) - len(inputs) % batch
        self._batches = iter(inputs[i : i + batch] for i in range(0, usable, batch))

    def get_next(self) -> dict[str, Array] | None:
        """The next feed, or None at the end."""
        following = next(self._batches, None)
        return None if following is None else {INPUT_NAME: following}


def quantize_onnx(proto: ModelProto, plan: FilePlan, calibration: Array, machine: Machine, batch: int) -> ModelProto:
    """The same network with int8 weights (one scale per output channel) and calibrated 8-bit activations.

    Layers that ``plan`` keeps in fp32 stay as they are.

    Args:
        proto: a float network from ``to_onnx``; left alone.
        plan: which layer gets which precision.
        calibration: model inputs ``[n, ...]``; activation ranges are the smallest and largest values over them.
        machine: decides the type of the activations, and whether weights use 7 bits.
        batch: the file's static batch.
    """
    if not plan.is_quantized:
        return proto
    activations = QuantType.QUInt8 if machine.int8_activations is ActivationType.U8 else QuantType.QInt8
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder, _quiet():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(proto, source)
        quantize_static(
            source,
            target,
            Calibration(calibration, batch),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPS,
            nodes_to_exclude=_float_nodes(proto, plan),
            per_channel=True,
            reduce_range=machine.reduce_range,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            extra_options={"WeightSymmetric": True, "ActivationSymmetric": activations is QuantType.QInt8},
        )
        quantized = onnx.load(target)
    quantized.producer_name, quantized.producer_version = "autocompress", ""
    del quantized.metadata_props[:]
    del quantized.graph.value_info[:]
    return quantized


def _float_nodes(proto: ModelProto, plan: FilePlan) -> list[str]:
    """Nodes to leave in float: what the plan says, products without weights (attention), what only these feed."""
    constants = {item.name for item in proto.graph.initializer}
    integers: set[str] = set()  # tensors that an int8 layer makes, or passes on through nodes without weights
    floats = []
    for node in proto.graph.node:
        if node.op_type in _WEIGHTED:
            is_int8 = not constants.isdisjoint(node.input) and plan.of(layer_of(node)).weights is Format.INT8
        else:
            is_int8 = not integers.isdisjoint(node.input)
        if is_int8:
            integers.update(node.output)
        else:
            floats.append(node.name)
    return floats


@contextmanager
def _quiet() -> Iterator[None]:
    """The tool advises a separate preparing step on the root logger; ``to_onnx`` has done its work already."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
