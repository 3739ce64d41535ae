"""A network in ONNX as torch's exporter translates it, worked out once for each structure."""

import hashlib
import io
import pickle
import types
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from onnx import ModelProto
from onnx_ir import Model
from torch import Tensor, nn
from torch.onnx import ONNXProgram

from autocompress.export.operator_library import shared_library

MOST_KEPT = 32  # structures: of the trials at work and the finalists, not of a whole search
# Told apart as the objects that they are: a file of the user's that is loaded anew brings others of the same names.
_TOLD_APART = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, types.ModuleType)
Code = dict[int, object]


class Translations:
    """Networks of one structure share a translation; each file has its own weights, and is optimized with them.

    Tracing and decomposing are most of an export, and a search exports a structure again and again: before it is
    trained, after each rung, for its int8 twin, at the end. Code that is changed in place, as notebooks do, is not
    seen: what was worked out is to be forgotten before another run begins.
    """

    def __init__(self, input_name: str, output_name: str) -> None:
        self._input_name, self._output_name = input_name, output_name
        # Graphs without weights, the last used one at the end; each beside the code of its network, which is held so
        # that nothing else gets its id.
        self._kept: OrderedDict[bytes, tuple[Model, Code]] = OrderedDict()

    def __call__(self, model: nn.Module, example: Tensor) -> ModelProto:
        """The optimized file of a network that only infers.

        Raises:
            Exception: whatever torch's exporter says.
        """
        weights = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        structure, code = _structure(model, weights, example)
        graph, code = self._kept.get(structure) or (self._translated(model, example, weights), code)
        if structure:
            self._kept[structure] = graph, code
            self._kept.move_to_end(structure)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        program = ONNXProgram(graph.clone(), None)
        program.apply_weights({name: _real(weights[name]) for name in graph.graph.initializers if name in weights})
        program.optimize()
        return program.model_proto

    def forget(self) -> None:
        """Keep none."""
        self._kept.clear()

    def _translated(self, model: nn.Module, example: Tensor, weights: Mapping[str, Tensor]) -> Model:
        with shared_library():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                input_names=[self._input_name],
                output_names=[self._output_name],
                optimize=False,
                verbose=False,
            )
        assert program is not None
        initializers = program.model.graph.initializers
        for name in weights.keys() & initializers.keys():
            initializers[name].const_value = None
        return program.model


def _real(weight: Tensor) -> Tensor:
    """As the exporter stores it: complex numbers are pairs."""
    return torch.view_as_real(weight) if weight.is_complex() else weight


def _structure(model: nn.Module, weights: Mapping[str, Tensor], example: Tensor) -> tuple[bytes, Code]:
    """A digest of all that a network holds but the values of its weights, and its code; none of what cannot be read."""
    stream, code = io.BytesIO(), Code()
    try:
        _Structure(stream, weights, code).dump((model, example.shape, example.dtype))
    except Exception:  # whatever objects of the user's say when they are asked for what they hold
        return b"", code
    return hashlib.sha256(stream.getvalue()).digest(), code


class _Structure(pickle.Pickler):
    """Writes weights by name and shape, other tensors by value, code by identity. Nothing ever reads it."""

    def __init__(self, stream: io.BytesIO, weights: Mapping[str, Tensor], code: Code) -> None:
        super().__init__(stream)
        self._names = {id(weight): name for name, weight in weights.items()}
        self._code = code

    def persistent_id(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            value = self._names.get(id(item)) or item.detach().numpy().tobytes()
            return type(item), value, tuple(item.shape), item.stride(), item.dtype
        if isinstance(item, _TOLD_APART):
            self._code[id(item)] = item
            return "code", id(item)
        if isinstance(item, str):  # as a number: pickle would tell one string from an equal one by where it lies
            return int.from_bytes(item.encode())
        return None

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, types.MethodType):  # of which pickle keeps the name alone
            return types.MethodType, (item.__func__, item.__self__)
        return NotImplemented
