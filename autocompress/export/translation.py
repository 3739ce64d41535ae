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

MOST_KEPT = 32  # structures; one of a thousand nodes takes some 2 MB
# Told apart as the objects that they are: a file of the user's that is loaded anew brings others of the same names.
_CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, types.ModuleType)


class Translations:
    """Networks of one structure share a translation; each file has its own weights, and is optimized with them.

    Tracing and decomposing are nine tenths of an export, and a search exports a structure again and again: before it is
    trained, after each rung, for its int8 twin, at the end.
    """

    def __init__(self, input_name: str, output_name: str) -> None:
        self._input_name, self._output_name = input_name, output_name
        self._graphs: OrderedDict[bytes, Model] = OrderedDict()  # without weights; the last used at the end
        self._code: dict[int, object] = {}  # held, so that nothing else gets the same id

    def __call__(self, model: nn.Module, example: Tensor) -> ModelProto:
        """The optimized file of a network that only infers.

        Raises:
            Exception: whatever torch's exporter says.
        """
        weights = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        structure = self._structure(model, weights, example)
        graph = self._graphs.get(structure) if structure else None
        if graph is None:
            graph = self._translated(model, example, weights)
        if structure:
            self._graphs[structure] = graph
            self._graphs.move_to_end(structure)
            if len(self._graphs) > MOST_KEPT:
                self._graphs.popitem(last=False)
        program = ONNXProgram(graph.clone(), None)
        program.apply_weights({name: weights[name] for name in graph.graph.initializers if name in weights})
        program.optimize()
        return program.model_proto

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

    def _structure(self, model: nn.Module, weights: Mapping[str, Tensor], example: Tensor) -> bytes | None:
        """A digest of all that a network holds but the values of its weights; None where that cannot be read."""
        stream = io.BytesIO()
        try:
            _Structure(stream, weights, self._code).dump((model, example.shape, example.dtype))
        except Exception:  # whatever objects of the user's say when they are asked for what they hold
            return None
        return hashlib.sha256(stream.getvalue()).digest()


class _Structure(pickle.Pickler):
    """Writes weights by name and shape, other tensors by value, code by identity. Nothing ever reads it."""

    def __init__(self, stream: io.BytesIO, weights: Mapping[str, Tensor], code: dict[int, object]) -> None:
        super().__init__(stream)
        self._names = {id(weight): name for name, weight in weights.items()}
        self._code = code

    def persistent_id(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            value = self._names.get(id(item)) or item.detach().numpy().tobytes()
            return type(item), value, tuple(item.shape), item.stride(), item.dtype
        if isinstance(item, _CODE):
            self._code[id(item)] = item
            return "code", id(item)
        if isinstance(item, str):  # as a number: pickle would tell one string from an equal one by where it lies
            return int.from_bytes(item.encode())
        return None
