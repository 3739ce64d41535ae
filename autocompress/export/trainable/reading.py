"""A file taken apart: its constants, worked out as far as they are known, and the nodes that are left."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from autocompress.errors import ModelError

Constants = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class File:
    """One input ``[batch, ...]``, one output, and what lies between."""

    input_name: str
    input_shape: tuple[int, ...]
    input_type: np.dtype[Any]
    output_name: str
    nodes: tuple[NodeProto, ...]
    constants: Constants


def read(proto: ModelProto) -> File:
    """The file's network; an open batch counts as 1.

    Raises:
        ModelError: not one input and one output, an open size other than the batch, or a subgraph.
    """
    constants = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in constants]
    if len(inputs) != 1 or len(proto.graph.output) != 1:
        raise ModelError(
            f"a trainable file has one input and one output, got {len(inputs)} and {len(proto.graph.output)}"
        )
    opset = next((item for item in proto.opset_import if item.domain == ""), helper.make_opsetid("", 20))
    kind = inputs[0].type.tensor_type
    batch, *sizes = [dim.dim_value for dim in kind.shape.dim]
    if min(sizes, default=1) < 1:
        raise ModelError(f"the sizes of the input must be fixed but for the batch, got {sizes} (0: open)")
    return File(
        input_name=inputs[0].name,
        input_shape=(batch or 1, *sizes),
        input_type=helper.tensor_dtype_to_np_dtype(kind.elem_type),
        output_name=proto.graph.output[0].name,
        nodes=tuple(node for node in proto.graph.node if not _folds(node, constants, opset)),
        constants=constants,
    )


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Attributes as plain values; text is decoded."""
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _folds(node: NodeProto, constants: Constants, opset: Any) -> bool:
    """Whether the node makes constants, which are then among ``constants``: shapes, positions, masks."""
    if any(item.HasField("g") or item.graphs for item in node.attribute):
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) has a subgraph; files with loops or branches stay as they are"
        )
    known = [constants.get(name) for name in node.input if name]
    if node.op_type == "DequantizeLinear" or any(item is None or item.dtype.kind == "f" for item in known):
        return False
    graph = helper.make_graph([node], "one", [helper.make_empty_tensor_value_info(n) for n in node.input if n],
                              [helper.make_empty_tensor_value_info(n) for n in node.output if n])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = helper.make_model(graph, opset_imports=[opset])
        results = ReferenceEvaluator(model).run(None, {name: constants[name] for name in node.input if name})
    constants.update(zip([name for name in node.output if name], map(np.asarray, results), strict=True))
    return True
