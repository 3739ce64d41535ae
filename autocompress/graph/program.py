"""A network as data: its operators as JSON, its weights as safetensors. Reading one back runs no code but torch's.

``torch.export`` gives the operators; they are ATen's, looked up by name, so the original Python classes are not needed.
``torch.fx`` writes the names in a structure into Python source, so names that are no plain names are refused.
"""

import contextlib
import json
import keyword
import operator
import re
import warnings
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from autocompress.errors import ModelError
from autocompress.graph.surgery import example_input

SCHEMA = 1
_TRAINING_FLAG = {"aten.batch_norm.default": 5, "aten.dropout.default": 2, "aten.instance_norm.default": 5}
_RUNNING_MEAN = 3  # argument of both norms; without it they use each batch's own statistics in either mode
_SYMBOLIC = {"add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge", "getitem"}


@dataclass(frozen=True, kw_only=True)
class Portable:
    """A network that can be stored: ``structure`` is JSON, ``weights`` the bytes of a safetensors file."""

    structure: str
    weights: bytes


class ProgramModule(fx.GraphModule):
    """A network made from its operators: trainable, and switched by ``train()`` and ``eval()`` as any other.

    Parameters keep the names that they had. It was traced in inference mode, so what the original did only while
    training (drop path, auxiliary heads) is not in it; BatchNorm and dropout follow the mode.
    """

    def train(self, mode: bool = True) -> "ProgramModule":
        """Switch BatchNorm and dropout."""
        super().train(mode)
        for node in self.graph.nodes:
            place = _TRAINING_FLAG.get(str(node.target)) if node.op == "call_function" else None
            if place is not None and (place <= _RUNNING_MEAN or node.args[_RUNNING_MEAN] is not None):
                node.update_arg(place, mode)
        self.recompile()
        return self


def to_portable(model: nn.Module, shape: tuple[int, ...], dtype: str = "float32") -> Portable:
    """The network in inference mode as data, for any batch size; ``shape`` is one input without batch.

    A weight that several layers share is stored once and stays shared. The model is put in eval mode.

    Raises:
        ModelError: ``torch.export`` cannot trace the model.
    """
    model.eval()
    program = _exported(model, example_input(shape, dtype, batch=2))
    tensors, places, trainable = {}, {}, []
    owners: dict[int, str] = {}
    for spec in program.graph_signature.input_specs:
        if spec.target is None:
            continue
        source = program.state_dict if spec.target in program.state_dict else program.constants
        tensor = source[spec.target]
        places[spec.arg.name] = owner = owners.setdefault(id(tensor), spec.target)
        if owner != spec.target:
            continue
        tensors[owner] = tensor.detach().clone().contiguous()
        if spec.kind.name == "PARAMETER":
            trainable.append(owner)
    nodes = [_node_to_json(node, places) for node in program.graph.nodes]
    structure = {"schema": SCHEMA, "input": list(shape), "trainable": trainable, "nodes": nodes}
    return Portable(structure=json.dumps(structure), weights=safetensors.torch.save(tensors))


def from_portable(portable: Portable) -> ProgramModule:
    """The network back, in eval mode.

    Raises:
        ModelError: not such a structure, or an operator that this version of torch does not have.
    """
    try:
        data = json.loads(portable.structure)
        tensors = safetensors.torch.load(portable.weights)
        graph = fx.Graph()
        known: dict[str, fx.Node] = {}
        for item in data["nodes"]:
            known[item["name"]] = _node_from_json(graph, item, known)
        trainable = set(data["trainable"])
        root = {name: nn.Parameter(t) if name in trainable else t for name, t in tensors.items()}
        return ProgramModule(root, graph).eval()
    except _MALFORMED as error:
        raise ModelError(
            f"structure.json and model.safetensors must be a pair written by autocompress: {error!r}"
        ) from error


def _exported(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):  # a forward pass that fixes the batch size still runs with one
            return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False)
        try:
            return torch.export.export(model, (example[:1],), strict=False)
        except Exception as error:
            raise ModelError(f"the model must be traceable by torch.export: {error}") from error


def _node_to_json(node: fx.Node, places: dict[str, str]) -> dict[str, Any]:
    if node.op == "placeholder":
        target = places.get(node.name)
        return {"name": node.name, "op": "input" if target is None else "tensor", "target": target}
    if node.op == "output":
        return {"name": node.name, "op": "output", "args": _to_json(node.args[0][0])}  # type: ignore[index]
    return {
        "name": node.name,
        "op": "call",
        "target": _name_of(node.target),
        "args": [_to_json(arg) for arg in node.args],
        "kwargs": {key: _to_json(value) for key, value in node.kwargs.items()},
    }


def _name_of(target: Any) -> str:
    if isinstance(target, OpOverload):
        return str(target)
    name = str(getattr(target, "__name__", target))
    if name in _SYMBOLIC:
        return f"operator.{name}"
    raise ModelError(f"the operator {name} cannot be stored; only ATen operators can")


def _to_json(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    for kind, label in _CONSTANTS.items():
        if isinstance(value, kind):
            return {label: str(value).removeprefix("torch.")}
    if value is None or isinstance(value, bool | int | float | str):
        return {"float": repr(value)} if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
    raise ModelError(f"an argument of type {type(value).__name__} cannot be stored")


def _node_from_json(graph: fx.Graph, item: dict[str, Any], known: dict[str, fx.Node]) -> fx.Node:
    name = _plain_name(item["name"])
    if item["op"] == "input":
        return graph.placeholder(name)
    if item["op"] == "tensor":
        return graph.create_node("get_attr", _tensor_name(item["target"]), name=name)
    if item["op"] == "output":
        return graph.create_node("output", "output", (_from_json(item["args"], known),))
    arguments = tuple(_from_json(arg, known) for arg in item["args"])
    keywords = {_plain_name(key): _from_json(value, known) for key, value in item["kwargs"].items()}
    return graph.create_node("call_function", _operator(item["target"]), arguments, keywords, name=name)


def _plain_name(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ModelError(f"nodes and arguments of a stored network have plain names, got {name!r}")
    return name


def _tensor_name(name: str) -> str:
    if _ENDS_A_STRING.search(name):
        raise ModelError(f"tensors of a stored network have names without quotes or control characters, got {name!r}")
    return name


def _operator(name: str) -> Any:
    """An ATen operator or one of a few on numbers, by name; nothing else can be named, nor what opens files."""
    space, _, rest = name.partition(".")
    if space == "operator" and rest in _SYMBOLIC:
        return getattr(operator, rest)
    packet, _, overload = rest.partition(".")
    found = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None) if space == "aten" else None
    if not isinstance(found, OpOverload):
        raise ModelError(f"a stored network holds ATen operators only, got {name!r}")
    if any(argument.name == "filename" for argument in found._schema.arguments):  # noqa: SLF001  # no public way
        raise ModelError(f"a stored network holds no operators on files, got {name!r}")
    return found


def _from_json(value: Any, known: dict[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_from_json(item, known) for item in value]
    if not isinstance(value, dict):
        return value
    ((label, content),) = value.items()
    if label == "node":
        return known[content]
    if label == "float":
        return float(content)
    if label == "device":
        return torch.device(content)
    constant = getattr(torch, content, None)
    if _CONSTANTS.get(type(constant)) != label:
        raise ModelError(f"a stored network has no {label!r} called {content!r}")
    return constant


_ENDS_A_STRING = re.compile(r"""[\x00-\x1f\x7f"'\\]""")  # in the Python source that torch.fx writes
_MALFORMED = (KeyError, TypeError, AttributeError, ValueError, RuntimeError, safetensors.SafetensorError)
_CONSTANTS: dict[type, str] = {
    torch.dtype: "dtype",
    torch.device: "device",
    torch.layout: "layout",
    torch.memory_format: "memory_format",
}
