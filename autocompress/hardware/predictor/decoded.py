"""What the runtime decodes when it loads a file whose weights are stored packed."""

import math
from pathlib import Path

from onnx import GraphProto, TensorProto, shape_inference

from autocompress.hardware.shapes import read_model

_WIDTHS = {
    TensorProto.FLOAT: 4, TensorProto.INT32: 4, TensorProto.UINT32: 4, TensorProto.DOUBLE: 8, TensorProto.INT64: 8,
    TensorProto.FLOAT16: 2, TensorProto.INT16: 2, TensorProto.UINT16: 2,
}  # fmt: skip
_KEPT = {"DequantizeLinear", "QuantizeLinear", "Constant"}  # not computed at load, but part of integer kernels


def decoded_bytes(file: Path) -> int:
    """Bytes of all that is computed from stored constants only: the runtime does it at load and keeps every step.

    Raises:
        MeasurementError: not a readable ONNX file.
    """
    model = read_model(file)
    constants = {item.name for item in model.graph.initializer}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    computed = []
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type not in _KEPT and inputs and constants.issuperset(inputs):
            constants.update(node.output)
            computed += [name for name in node.output if name]
    if not computed:
        return 0
    sizes = _sizes(shape_inference.infer_shapes(model, data_prop=True).graph)
    return sum(sizes.get(name, 0) for name in computed)


def _sizes(graph: GraphProto) -> dict[str, int]:
    return {
        value.name: _WIDTHS.get(value.type.tensor_type.elem_type, 1)
        * math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output)
    }
