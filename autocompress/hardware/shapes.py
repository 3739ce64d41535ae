"""An ONNX graph with the shape of every tensor, and which tensors depend on stored constants only."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import inliner, shape_inference

from autocompress.errors import MeasurementError

Shape = tuple[int, ...]
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}


@dataclass(frozen=True, kw_only=True)
class ShapedGraph:
    """Nodes in order, with ``shapes`` and ``floats`` (those of floating point) over tensor names.

    ``roots`` maps each tensor that is computed from stored constants only to the names of those constants.
    """

    nodes: tuple[onnx.NodeProto, ...]
    shapes: dict[str, Shape]
    floats: frozenset[str]
    roots: dict[str, frozenset[str]]
    batch: int

    def size(self, name: str) -> int:
        """Number of elements of a tensor."""
        return prod(self.shapes[name])


def read_model(path: Path) -> onnx.ModelProto:
    """The model without its external data.

    Raises:
        MeasurementError: not a readable ONNX file.
    """
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf, onnx and the system each raise their own
        raise MeasurementError(f"a model file must be readable ONNX, got {path}: {error}") from error


def shaped_graph(path: Path) -> ShapedGraph:
    """The graph of a file, by ONNX shape inference; where operators outside ONNX stop it, by running the file once.

    A dynamic batch counts as 1.

    Raises:
        MeasurementError: the file cannot be read, has dynamic shapes, or must be run and cannot.
    """
    model = read_model(path)
    if model.functions:
        model = inliner.inline_local_functions(model)
    inputs = _real_inputs(model.graph)
    _make_static(model.graph, inputs, path)
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes, floats = _known(inferred)
    names = {name for node in model.graph.node for name in node.output if name}
    if names - shapes.keys():
        ran_shapes, ran_floats = _by_running(path, names - shapes.keys())
        shapes, floats = shapes | ran_shapes, floats | ran_floats
    batch = next((shapes[value.name][0] for value in inputs if shapes[value.name]), 1)
    return ShapedGraph(
        nodes=tuple(model.graph.node), shapes=shapes, floats=frozenset(floats), roots=_roots(model.graph), batch=batch
    )


def _real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def _make_static(graph: onnx.GraphProto, inputs: list[onnx.ValueInfoProto], path: Path) -> None:
    is_dynamic = False
    for value in inputs:
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                continue
            if index:
                raise MeasurementError(
                    f"inputs must have static shapes beyond the batch, got {value.name!r} with axis {index} "
                    f"{dim.dim_param!r} in {path}; export it with static shapes"
                )
            dim.dim_value = 1
            is_dynamic = True
    if is_dynamic:  # what is stored about inner shapes still names the batch
        del graph.value_info[:]
        for output in graph.output:
            output.type.tensor_type.ClearField("shape")


def _known(graph: onnx.GraphProto) -> tuple[dict[str, Shape], set[str]]:
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type in _FLOATS}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor_type = value.type.tensor_type
        dims = tensor_type.shape.dim
        if tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
        if tensor_type.elem_type in _FLOATS:
            floats.add(value.name)
    return shapes, floats


def _by_running(path: Path, names: set[str]) -> tuple[dict[str, Shape], set[str]]:
    model = onnx.load(path)
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - outputs))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # keeps every tensor
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {
            value.name: np.zeros([n if isinstance(n, int) else 1 for n in value.shape], _dtype(value.type))
            for value in session.get_inputs()
        }
        arrays = dict(zip(sorted(names), session.run(sorted(names), feed), strict=True))
    except Exception as error:  # the runtime raises its own kinds
        raise MeasurementError(
            f"shapes in {path} are known only by running it, and the runtime says: {error}"
        ) from error
    tensors = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    return {k: v.shape for k, v in tensors.items()}, {k for k, v in tensors.items() if v.dtype.kind == "f"}


def _dtype(runtime_type: str) -> str:
    kind = runtime_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(kind, kind)


def _roots(graph: onnx.GraphProto) -> dict[str, frozenset[str]]:
    roots = {tensor.name: frozenset({tensor.name}) for tensor in graph.initializer}
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant":
            roots[node.output[0]] = frozenset({node.output[0]})
        elif inputs and all(name in roots for name in inputs):
            combined = frozenset[str]().union(*(roots[name] for name in inputs))
            roots.update(dict.fromkeys(node.output, combined))
    return roots
