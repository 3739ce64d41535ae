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
from autocompress.export.round_weights import STORED_BITS, Rounded, round_weight
from autocompress.precision import Activations, FilePlan

_INT8_COMPUTE = 4  # accuracy level of MatMulNBits: rows of activations are rounded to int8, as its fast kernels want


def with_linear_kernels(proto: ModelProto, weights: tuple[FileWeight, ...], plan: FilePlan) -> tuple[FileWeight, ...]:
    """Convert the linear layers that ``plan`` computes so, in place; the weights as they lie then.

    A layer in blocks is left out of the answer: its weight is packed already.
    """
    graph = OnnxGraph(proto)
    left: list[FileWeight] = []
    in_blocks: dict[tuple[int, int], list[str]] = {}
    for weight in weights:
        precision, node = plan.of(weight.layer), graph.nodes[weight.node]
        if node.op_type not in {"MatMul", "Gemm"}:
            left.append(weight)
        elif precision.activations is Activations.INT8_DYNAMIC:
            left.append(_with_ranges_at_run_time(graph, node, weight))
        elif precision.block is not None and _inputs(graph, weight) >= precision.block:
            form = precision.block, precision.weights.bits or STORED_BITS
            in_blocks.setdefault(form, []).append(_as_product(graph, node, weight))
        else:
            left.append(weight)
    for (block, bits), nodes in in_blocks.items():
        _round_in_blocks(proto, nodes, block, bits)
    return tuple(left)


def _inputs(graph: OnnxGraph, weight: FileWeight) -> int:
    return int(graph.array(weight.tensor).shape[1 - weight.axis])


def _with_ranges_at_run_time(graph: OnnxGraph, node: NodeProto, weight: FileWeight) -> FileWeight:
    """``x → 8 bits → integer product → float``, in the form that the runtime fuses into one kernel."""
    product = graph.nodes[_as_product(graph, node, weight)]
    turned = replace(weight, node=product.name, transposed=True)
    rounded: Rounded = round_weight(graph.array(product.input[1]), turned, STORED_BITS)
    data, name, output = product.input[0], product.name, product.output[0]
    integers = graph.put(f"{weight.tensor}_quantized", np.ascontiguousarray(rounded.integers))
    scale = graph.put(f"{weight.tensor}_scale", rounded.scale)
    steps = [
        helper.make_node(
            "DynamicQuantizeLinear", [data], [f"{name}.q", f"{name}.s", f"{name}.z"], name=f"{name}#range"
        ),
        helper.make_node(
            "MatMulInteger", [f"{name}.q", integers, f"{name}.z"], [f"{name}.sum"], name=f"{name}#product"
        ),
        helper.make_node("Cast", [f"{name}.sum"], [f"{name}.float"], name=f"{name}#cast", to=1),
        helper.make_node("Mul", [f"{name}.s", scale], [f"{name}.scale"], name=f"{name}#scale"),
    ]
    for step in steps:
        graph.insert_before(product, step)
    product.CopyFrom(helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [output], name=name))
    return turned


def _as_product(graph: OnnxGraph, node: NodeProto, weight: FileWeight) -> str:
    """The name of the matrix product ``[..., c_in] · [c_in, c_out]`` of a layer; a Gemm becomes one with an addition."""
    if node.op_type == "MatMul":
        return str(node.name)
    assert not attribute(node, "transA", 0)
    name, output, bias = node.name, node.output[0], list(node.input[2:])
    values = graph.array(weight.tensor)
    turned = values if weight.transposed else np.ascontiguousarray(values.T)
    tensor = graph.put(f"{weight.tensor}.turned", turned)
    inner = f"{name}.product" if bias else output
    product = helper.make_node("MatMul", [node.input[0], tensor], [inner], name=name)
    if not bias:
        node.CopyFrom(product)
        return str(name)
    node.CopyFrom(helper.make_node("Add", [inner, bias[0]], [output], name=f"{name}#bias"))
    graph.insert_before(node, product)
    return str(name)


def _round_in_blocks(proto: ModelProto, nodes: list[str], block: int, bits: int) -> None:
    """ONNX Runtime's own rounding in blocks, and its MatMulNBits under the names of the nodes."""
    others = [node.name for node in proto.graph.node if node.name not in nodes]
    outputs = {node.output[0]: node.name for node in proto.graph.node if node.name in nodes}
    with _quiet():
        # the module sets up the logging of the whole process as it is imported
        from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415
            DefaultWeightOnlyQuantConfig,
            MatMulNBitsQuantizer,
        )

        config = DefaultWeightOnlyQuantConfig(
            block_size=block, is_symmetric=True, accuracy_level=_INT8_COMPUTE, bits=bits
        )
        quantizer = MatMulNBitsQuantizer(proto, bits=bits, nodes_to_exclude=others, algo_config=config)
        quantizer.process()
    proto.CopyFrom(quantizer.model.model)
    for node in proto.graph.node:
        if node.output[0] in outputs:
            node.name = outputs[node.output[0]]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tool logs a line for each node, to a handler of its own."""
    previous, level, handlers = logging.root.manager.disable, logging.root.level, logging.root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
