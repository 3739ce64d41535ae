"""From a float file to static int8, layer by layer: ONNX Runtime's tool places the roundings, the ranges are ours."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from onnx import ModelProto
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from autocompress.export.calibrate import Seen, tensor_ranges
from autocompress.export.onnx_file import layer_of
from autocompress.export.onnx_graph import WEIGHTED_OPS
from autocompress.linalg.ranges import Range
from autocompress.precision import Activations, FilePlan
from autocompress.target import ActivationType, Machine

# Operators with weights, and those that only move, add or pool numbers and so can stay in integers between them.
# Norms, softmax and activations other than ReLU run in float: their int8 kernels are slower or coarser.
_OPS = [
    "Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Pad",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "Resize",
]  # fmt: skip


def quantize_onnx(proto: ModelProto, plan: FilePlan, seen: Seen, machine: Machine) -> ModelProto:
    """The same network with int8 weights (one scale per output channel) and calibrated 8-bit activations.

    Layers that ``plan`` does not compute in int8 stay as they are.

    Args:
        proto: a float network from ``to_onnx``; left alone.
        plan: which layer gets which precision, and how ranges are found.
        seen: the samples that ranges are taken from.
        machine: decides the type of the activations, and whether weights use 7 bits.
    """
    floats = _float_nodes(proto, plan)
    if not plan.uses(Activations.INT8) or all(node.name in floats for node in proto.graph.node):
        return proto
    activations = QuantType.QUInt8 if machine.int8_activations is ActivationType.U8 else QuantType.QInt8
    quantized = ModelProto()
    quantized.CopyFrom(proto)
    ranges = tensor_ranges(proto, _rounded_tensors(proto, floats), seen, plan.calibration)
    with _quiet():
        quantizer = QDQQuantizer(
            quantized,
            per_channel=True,
            reduce_range=machine.reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=activations,
            tensors_range=TensorsData(CalibrationMethod.MinMax, {name: _pair(ends) for name, ends in ranges.items()}),
            nodes_to_quantize=[],
            nodes_to_exclude=sorted(floats),
            op_types_to_quantize=_OPS,
            extra_options={"WeightSymmetric": True, "ActivationSymmetric": activations is QuantType.QInt8},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    quantized = quantizer.model.model
    quantized.producer_name, quantized.producer_version = "autocompress", ""
    del quantized.metadata_props[:]
    del quantized.graph.value_info[:]
    return quantized


def _pair(ends: Range) -> tuple[np.ndarray, np.ndarray]:
    low, high = ends
    return np.array(low, np.float32), np.array(high, np.float32)


def _rounded_tensors(proto: ModelProto, floats: set[str]) -> list[str]:
    """What goes into and comes out of the nodes that are to compute in integers."""
    constants = {item.name for item in proto.graph.initializer}
    nodes = [node for node in proto.graph.node if node.op_type in _OPS and node.name not in floats]
    names = [name for node in nodes for name in (*node.input, *node.output) if name and name not in constants]
    return list(dict.fromkeys(names))


def _float_nodes(proto: ModelProto, plan: FilePlan) -> set[str]:
    """Nodes to leave in float: what the plan says, products without weights (attention), what only these feed."""
    constants = {item.name for item in proto.graph.initializer}
    integers: set[str] = set()  # tensors that an int8 layer makes, or passes on through nodes without weights
    floats = set()
    for node in proto.graph.node:
        if node.op_type in WEIGHTED_OPS:
            computes = plan.of(layer_of(node)).activations
            is_int8 = not constants.isdisjoint(node.input) and computes is Activations.INT8
        else:
            is_int8 = not integers.isdisjoint(node.input)
        if is_int8:
            integers.update(node.output)
        else:
            floats.add(node.name)
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
