"""Kernels that the runtime has for linear layers only: ranges found at each inference, and weights in blocks."""

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from onnx import ModelProto, NodeProto, helper

from autocompress.export.file_weights import FileWeight
from autocompress.export.onnx_graph import OnnxGraph, attribute
from autocompress.precision import Activations, FilePlan, Precision

LINEAR_OPS = frozenset({"MatMul", "Gemm"})
_INT8_COMPUTE = 4  # accuracy level of MatMulNBits: rows of activations are rounded to int8, as its fast kernels want


def goes_in_blocks(graph: OnnxGraph, weight: FileWeight, precision: Precision) -> bool:
    """Whether a kernel takes this weight in the blocks of ``precision``, and nothing else is asked of it.

    Sparse weights and codebooks are smaller in their own form.
    """
    if precision.block is None or weight.constraint is not None:
        return False
    is_linear = graph.nodes[weight.node].op_type in LINEAR_OPS
    return is_linear and graph.constants[weight.tensor].dims[1 - weight.axis] >= precision.block


def with_linear_kernels(proto: ModelProto, weights: tuple[FileWeight, ...], plan: FilePlan) -> tuple[FileWeight, ...]:
    """Convert the linear layers that ``plan`` computes so, in place; the weights as they lie then.

    A layer in blocks is left out of the answer: its weight is packed already.
    """
    graph = OnnxGraph(proto)
    left: list[FileWeight] = []
    in_blocks: dict[tuple[int, int], list[str]] = {}
    for weight in weights:
        precision, node = plan.of(weight.layer), graph.nodes[weight.node]
        if precision.activations is Activations.INT8_DYNAMIC and node.op_type in LINEAR_OPS:
            left.append(_with_ranges_at_run_time(graph, node, weight))
        elif weight.tensor in graph.constants and goes_in_blocks(graph, weight, precision):
            assert precision.block is not None
            assert precision.weights.bits is not None
            form = precision.block, precision.weights.bits
            in_blocks.setdefault(form, []).append(_as_product(graph, node, weight, weight.tensor, weight.tensor))
        else:
            left.append(weight)
    _drop_unread(graph)
    for (block, bits), nodes in in_blocks.items():
        _round_in_blocks(proto, nodes, block, bits)
    return tuple(left)


def _with_ranges_at_run_time(graph: OnnxGraph, node: NodeProto, weight: FileWeight) -> FileWeight:
    """``x → 8 bits → integer product → float``, in the form that the runtime fuses into one kernel."""
    integers = f"{weight.tensor}_quantized"
    product = graph.nodes[_as_product(graph, node, weight, integers, weight.tensor)]
    turned = replace(weight, node=product.name, transposed=True, tensor=product.input[1].removesuffix("_quantized"))
    data, constant = product.input
    name, output = product.name, product.output[0]
    steps = [
        helper.make_node(
            "DynamicQuantizeLinear", [data], [f"{name}.q", f"{name}.s", f"{name}.z"], name=f"{name}#range"
        ),
        helper.make_node(
            "MatMulInteger", [f"{name}.q", constant, f"{name}.z"], [f"{name}.sum"], name=f"{name}#product"
        ),
        helper.make_node("Cast", [f"{name}.sum"], [f"{name}.float"], name=f"{name}#cast", to=1),
        helper.make_node("Mul", [f"{name}.s", f"{weight.tensor}_scale"], [f"{name}.scale"], name=f"{name}#scale"),
    ]
    for step in steps:
        graph.insert_before(product, step)
    product.CopyFrom(helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [output], name=name))
    return turned


def _as_product(graph: OnnxGraph, node: NodeProto, weight: FileWeight, constant: str, tensor: str) -> str:
    """The name of the matrix product ``[..., c_in] · [c_in, c_out]`` of a layer, of ``constant``, its weight.

    A Gemm becomes one with an addition; a weight that has to be turned gets another name in the place of ``tensor``.
    """
    if not weight.transposed:
        turned = constant.replace(tensor, f"{tensor}.turned", 1)
        constant = graph.put(turned, np.ascontiguousarray(graph.array(constant).T))
    if node.op_type == "MatMul":
        node.input[1] = constant
        return str(node.name)
    assert not attribute(node, "transA", 0)
    name, output, bias = node.name, node.output[0], list(node.input[2:])
    inner = f"{name}.product" if bias else output
    product = helper.make_node("MatMul", [node.input[0], constant], [inner], name=name)
    if not bias:
        node.CopyFrom(product)
        return str(name)
    node.CopyFrom(helper.make_node("Add", [inner, bias[0]], [output], name=f"{name}#bias"))
    graph.insert_before(node, product)
    return str(name)


def _drop_unread(graph: OnnxGraph) -> None:
    """Take out the roundings of weights that integer kernels read themselves now."""
    read = {name for node in graph.graph.node for name in node.input}
    for node in [node for node in graph.graph.node if node.op_type == "DequantizeLinear"]:
        if node.output[0].endswith("_dequantized") and node.output[0] not in read:
            graph.graph.node.remove(node)


def _round_in_blocks(proto: ModelProto, nodes: list[str], block: int, bits: int) -> None:
    """ONNX Runtime's own rounding in blocks, and its MatMulNBits under the names of the nodes."""
    others = [node.name for node in proto.graph.node if node.name not in nodes]
    outputs = {node.output[0]: node.name for node in proto.graph.node if node.name in nodes}
    with _quiet():
        from onnxruntime.quantization import matmul_nbits_quantizer as tool  # noqa: PLC0415

    config = tool.DefaultWeightOnlyQuantConfig(
        block_size=block, is_symmetric=True, accuracy_level=_INT8_COMPUTE, bits=bits
    )
    with _quiet():
        quantizer = tool.MatMulNBitsQuantizer(proto, bits=bits, nodes_to_exclude=others, algo_config=config)
        quantizer.process()
    proto.CopyFrom(quantizer.model.model)
    for node in proto.graph.node:
        if node.output[0] in outputs:
            node.name = outputs[node.output[0]]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tool logs a line for each node, and sets up logging for the whole process when it is imported."""
    previous, level, handlers = logging.root.manager.disable, logging.root.level, logging.root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
