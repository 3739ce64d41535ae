"""The kernels of a file, from the graph that the runtime made of it."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from autocompress.errors import MeasurementError
from autocompress.hardware.kernels.kernel import LEFT_OUT, Attribute, Kernel, Tensor
from autocompress.hardware.runner import Senses, profiled
from autocompress.target import Target

# Names, notes and values that change nothing about a kernel's time.
_IDLE_ATTRIBUTES = {"auto_pad", "ceil_mode", "consumed_inputs", "storage_order", "count_include_pad"}
_DTYPES: Mapping[int, str] = {
    value: {"FLOAT": "float"}.get(name, name.lower()) for name, value in TensorProto.DataType.items()
}  # the runtime's spelling
_MEASURE = "such a file can only be measured: `autocompress measure`"


@dataclass(frozen=True, kw_only=True)
class PlacedKernel:
    """A kernel at its place in a graph; ``reads`` and ``makes`` name tensors, ``us`` is its profiled time."""

    name: str
    kernel: Kernel
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    us: float | None = None


@dataclass(frozen=True, kw_only=True)
class RuntimeGraph:
    """The optimized graph of one file, in the order in which its kernels run."""

    kernels: tuple[PlacedKernel, ...]
    stored_bytes: float


def runtime_graph(file: Path, target: Target) -> RuntimeGraph:
    """The graph that the installed runtime makes of ``file``; runs it once, for the shapes.

    Raises:
        MeasurementError: the runtime cannot load or run the file; with its own words, which name the operator.
    """
    plan = {"threads": target.threads, "batch": target.batch, "seed": 0, "profile_ms": 0.0}
    try:
        seen = profiled(str(file), plan, Senses())
    except Exception as error:  # the runtime raises its own kinds
        raise MeasurementError(f"the runtime must load and run {file}; it says: {error}") from error
    return graph_of(seen, target.batch)


def graph_of(seen: Mapping[str, Any], batch: int) -> RuntimeGraph:
    """The graph that ``runner.profiled`` describes; ``batch`` is what an open first axis was run with."""
    proto = onnx.load_model_from_string(zlib.decompress(base64.b64decode(seen["graph"])))
    events = seen["kernels"]
    if [event["op"] for event in events] != [node.op_type for node in proto.graph.node]:
        raise MeasurementError(
            "the runtime's profile must list the nodes of its optimized graph in their order, it does not; "
            "control flow (If, Loop, Scan) cannot be predicted"
        )
    return _joined(proto, events, batch)


def _joined(proto: ModelProto, events: Sequence[Mapping[str, Any]], batch: int) -> RuntimeGraph:
    """Shapes from the run, constants and attributes from the graph: the run leaves packed weights out.

    Raises:
        MeasurementError: a tensor that neither of them describes; names it and its node.
    """
    known = {
        item.name: Tensor(_dtype(item.data_type, item.name), tuple(item.dims), stored=True)
        for item in proto.graph.initializer
    }
    stored_bytes = sum(tensor.bytes for tensor in known.values())
    known |= {value.name: _input(value, batch) for value in proto.graph.input if value.name not in known}
    kernels = []
    for node, event in zip(proto.graph.node, events, strict=True):
        made = [(name, Tensor(dtype, tuple(shape))) for name, (dtype, shape) in zip(
            [name for name in node.output if name], event["outputs"], strict=False
        )]  # fmt: skip
        if node.op_type == "Constant":
            made = [(name, Tensor(tensor.dtype, tensor.shape, stored=True)) for name, tensor in made]
        known.update(made)
        kernels.append(
            PlacedKernel(
                name=node.name or event["name"],
                kernel=Kernel(
                    op=_op(node),
                    inputs=tuple(_read(name, known, node) for name in node.input),
                    outputs=tuple(tensor for _, tensor in made),
                    attributes=_attributes(node),
                ),
                reads=tuple(name for name in node.input if name),
                makes=tuple(node.output),
                us=event.get("us"),
            )
        )
    return RuntimeGraph(kernels=tuple(kernels), stored_bytes=stored_bytes)


def _input(value: ValueInfoProto, batch: int) -> Tensor:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else batch for dim in tensor.shape.dim)
    return Tensor(_dtype(tensor.elem_type, value.name), dims)


def _dtype(number: int, name: str) -> str:
    if number not in _DTYPES:
        raise MeasurementError(
            f"a tensor's element type must be one of ONNX's, {name} has the unknown number {number}; {_MEASURE}"
        )
    return _DTYPES[number]


def _read(name: str, known: Mapping[str, Tensor], node: NodeProto) -> Tensor:
    if name and name not in known:
        raise MeasurementError(
            "each tensor that a node reads must have its shape in the runtime's profile or in the graph, "
            f"{name!r} has none, which {node.op_type} {node.name!r} reads; {_MEASURE}"
        )
    return known[name] if name else LEFT_OUT


def _op(node: NodeProto) -> str:
    domain = node.domain.rpartition(".")[2]
    return f"{domain}.{node.op_type}" if domain not in {"", "onnx"} else node.op_type


def _attributes(node: NodeProto) -> tuple[tuple[str, Attribute], ...]:
    found = []
    for each in node.attribute:
        if each.name in _IDLE_ATTRIBUTES or each.type in {each.TENSOR, each.GRAPH, each.TENSORS, each.GRAPHS}:
            continue
        value = helper.get_attribute_value(each)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif not isinstance(value, int | float | str):
            value = tuple(item.decode() if isinstance(item, bytes) else item for item in value)
        found.append((each.name, value))
    return tuple(sorted(found))
