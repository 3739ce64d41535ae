"""What single ONNX operators cost and where they keep their weights."""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import onnx

from autocompress.hardware.shapes import ShapedGraph

Count = Callable[[onnx.NodeProto, ShapedGraph], int]

# Positions of operands that are weights when they are constant. Operators beyond ONNX are those of
# https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
WEIGHT_POSITIONS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "Gemm": (0, 1, 2),
    "QGemm": (0, 3, 6),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1, 6),
    "QLinearMatMul": (0, 3),
    "DynamicQuantizeMatMul": (1, 4),
    "MatMulNBits": (1, 5),
    "Einsum": (0, 1),
    "LSTM": (1, 2, 3),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "DynamicQuantizeLSTM": (1, 2, 3),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
    "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3),
}
# These also do arithmetic on shapes and with plain numbers; weights are floating point and more than one element.
MIXED_POSITIONS: Mapping[str, tuple[int, ...]] = {
    "Add": (0, 1),
    "Mul": (0, 1),
    "Gather": (0,),
    "Concat": tuple(range(16)),
}


def weights_of(node: onnx.NodeProto, graph: ShapedGraph) -> Iterator[tuple[str, int]]:
    """Name and number of elements of each weight that ``node`` works with."""
    is_mixed = node.op_type in MIXED_POSITIONS
    positions = MIXED_POSITIONS.get(node.op_type, ()) or WEIGHT_POSITIONS.get(node.op_type, ())
    for position in positions:
        name = node.input[position] if position < len(node.input) else ""
        if name not in graph.roots or (is_mixed and (name not in graph.floats or graph.size(name) <= 1)):
            continue
        if node.op_type == "MatMulNBits" and position == 1:  # several weights in one stored byte
            yield name, _attribute(node, "K", 0) * _attribute(node, "N", 0)
        else:
            yield name, graph.size(name)


def macs_of(node: onnx.NodeProto, graph: ShapedGraph) -> int:
    """Multiply-accumulates of ``node``; 0 for what is neither convolution, matrix product, attention nor recurrent."""
    count = _MACS.get(node.op_type)
    return count(node, graph) if count else 0


def _convolution(weight: int) -> Count:
    def count(node: onnx.NodeProto, graph: ShapedGraph) -> int:
        return graph.size(node.output[0]) * prod(graph.shapes[node.input[weight]][1:])

    return count


def _transposed_convolution(node: onnx.NodeProto, graph: ShapedGraph) -> int:
    return graph.size(node.input[0]) * prod(graph.shapes[node.input[1]][1:])


def _matrix_product(node: onnx.NodeProto, graph: ShapedGraph) -> int:
    return graph.size(node.output[0]) * graph.shapes[node.input[0]][-1]


def _gemm(node: onnx.NodeProto, graph: ShapedGraph) -> int:
    inner = 0 if _attribute(node, "transA", 0) else 1
    return graph.size(node.output[0]) * graph.shapes[node.input[0]][inner]


def _recurrent(node: onnx.NodeProto, graph: ShapedGraph) -> int:
    n_steps, n_samples = graph.shapes[node.input[0]][:2]
    return n_steps * n_samples * (graph.size(node.input[1]) + graph.size(node.input[2]))


def _einsum(node: onnx.NodeProto, graph: ShapedGraph) -> int:
    """One multiplication for every combination of all index values; exact for two operands without an ellipsis."""
    terms = _attribute(node, "equation", b"").decode().replace(" ", "").partition("->")[0].split(",")
    shapes = [graph.shapes[name] for name in node.input]
    extents = {
        letter: n for term, shape in zip(terms, shapes, strict=True) for letter, n in zip(term, shape, strict=False)
    }
    return prod(extents.values()) if len(terms) > 1 else 0


def _attention(node: onnx.NodeProto, graph: ShapedGraph) -> int:
    """Both products of scaled dot-product attention, ``[b, heads, n, d]`` or ``[b, n, heads * d]``, without a past."""
    query, key, value = (graph.shapes[name] for name in node.input[:3])
    n_keys = key[-2]
    if len(query) == 4:
        return prod(query[:3]) * n_keys * (query[3] + value[3])
    repeats: int = _attribute(node, "q_num_heads", 1) // _attribute(node, "kv_num_heads", 1)
    return prod(query[:2]) * n_keys * (query[2] + value[2] * repeats)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


_MACS: Mapping[str, Count] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matrix_product,
    "MatMulInteger": _matrix_product,
    "MatMulIntegerToFloat": _matrix_product,
    "QLinearMatMul": _matrix_product,
    "DynamicQuantizeMatMul": _matrix_product,
    "MatMulNBits": _matrix_product,
    "Gemm": _gemm,
    "QGemm": _gemm,
    "Einsum": _einsum,
    "Attention": _attention,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
}
