"""Each weight in the form that takes the fewest bytes: packed bits, table and indices, bitmap and values, half floats."""

import numpy as np
from onnx import ModelProto

from autocompress.export.file_weights import FileWeight, by_tensor
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.export.round_weights import own_values
from autocompress.export.stored_weights import StoredWeight, store, stored_bytes
from autocompress.layers.constraint import Constraint
from autocompress.precision import FilePlan, Format
from autocompress.task import Array

_ONE_BYTE = 8


def store_weights(proto: ModelProto, weights: tuple[FileWeight, ...], plan: FilePlan) -> ModelProto:
    """A copy of the file with its weights stored as ``plan`` and their constraints allow; it computes the same.

    A weight that would take more bytes so stays as it is. Integers that a layer in float arithmetic reads become floats
    when the file is loaded.
    """
    small = ModelProto()
    small.CopyFrom(proto)
    graph = OnnxGraph(small)
    found: dict[str, StoredWeight] = {}
    common: dict[str, Array] = {}
    for weight in by_tensor(weights).values():
        integers = f"{weight.tensor}_quantized"
        if integers not in graph.constants:
            name, stored = weight.tensor, _of_floats(graph, weight, plan.of(weight.layer).weights, common)
        elif _is_read_as_float(graph, integers):
            name = f"{weight.tensor}_dequantized"
            scale = weight.along(graph.array(f"{weight.tensor}_scale"), graph.array(integers).ndim)
            stored = _of_integers(graph.array(integers), weight, plan, scale)
            _become_constant(graph, name, graph.array(integers) * scale)
        else:
            name, stored = integers, _of_integers(graph.array(integers), weight, plan, None)
        if stored is not None and stored_bytes(stored) < graph.constants[name].ByteSize():
            found[name] = stored
    return store(small, found)


def _is_read_as_float(graph: OnnxGraph, integers: str) -> bool:
    """Whether the integers are dequantized for a float kernel: our own node, not one that the runtime fuses."""
    return any(
        node.name.endswith("_dequantized") or node.output[0].endswith("_dequantized")
        for node in graph.readers(integers)
    )


def _become_constant(graph: OnnxGraph, name: str, values: Array) -> None:
    """Put values in the place of the node that makes ``name``: the runtime would leave that node as it is."""
    node = graph.maker.pop(name)
    for unused in node.input:
        graph.graph.initializer.remove(graph.constants.pop(unused))
    graph.graph.node.remove(node)
    graph.put(name, values)


def _of_integers(integers: Array, weight: FileWeight, plan: FilePlan, scale: Array | None) -> StoredWeight | None:
    constraint = weight.constraint or Constraint()
    kept = _in_file(constraint.kept, weight)
    flat = integers[kept] if kept is not None else integers.reshape(-1)
    if constraint.indices is not None:
        indices = _in_file(constraint.indices, weight)
        assert indices is not None
        table = _table(integers, indices, kept, weight, constraint).astype(np.int8)
        codes = (indices[kept] if kept is not None else indices.reshape(-1)).astype(np.uint8)
        return StoredWeight(shape=integers.shape, codes=codes, bits=constraint.bits, table=table, kept=kept,
                            scale=scale, channel_axis=weight.axis)  # fmt: skip
    bits = plan.of(weight.layer).weights.bits or _ONE_BYTE
    if bits < _ONE_BYTE:
        codes = (flat.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
        return StoredWeight(shape=integers.shape, codes=codes, bits=bits, kept=kept, scale=scale)
    if kept is None and scale is None:
        return None
    return StoredWeight(shape=integers.shape, codes=flat, bits=None, kept=kept, scale=scale)


def _of_floats(graph: OnnxGraph, weight: FileWeight, form: Format, common: dict[str, Array]) -> StoredWeight | None:
    values = np.ascontiguousarray(weight.as_layer(own_values(graph.array(weight.tensor), weight)))
    if weight.tied_to is not None:
        values = common.setdefault(weight.tied_to, values)  # the same bits for all, so that they are stored once
    constraint = weight.constraint or Constraint()
    kept = _in_file(constraint.kept, weight)
    scale = None
    if weight.channel_scale is not None:
        scale = None if np.all(weight.channel_scale == 1) else weight.along(weight.channel_scale, values.ndim)
    if constraint.indices is not None:
        indices = _in_file(constraint.indices, weight)
        assert indices is not None
        table = _table(values, indices, kept, weight, constraint).astype(np.float32)
        codes = (indices[kept] if kept is not None else indices.reshape(-1)).astype(np.uint8)
        return StoredWeight(shape=values.shape, codes=codes, bits=constraint.bits, table=table, kept=kept,
                            scale=scale, channel_axis=weight.axis)  # fmt: skip
    if form is not Format.FP16 and kept is None and weight.tied_to is None:
        return None
    flat = values[kept] if kept is not None else values.reshape(-1)
    half = flat.astype(np.float16 if form is Format.FP16 else np.float32)
    return StoredWeight(shape=values.shape, codes=half, bits=None, kept=kept, scale=scale)


def _in_file(tensor: object, weight: FileWeight) -> Array | None:
    """A tensor of the layer's shape as the file lies."""
    if tensor is None:
        return None
    return np.ascontiguousarray(weight.as_layer(tensor.numpy()))  # type: ignore[attr-defined]


def _table(values: Array, indices: Array, kept: Array | None, weight: FileWeight, constraint: Constraint) -> Array:
    """``[groups, 2**bits]``: the value that each index stands for; the mean where rounding made them differ."""
    channels = np.arange(values.shape[weight.axis]) * constraint.groups // values.shape[weight.axis]
    numbers = weight.along(channels * 2**constraint.bits, values.ndim) + indices
    if kept is not None:
        numbers, values = numbers[kept], values[kept]
    count = constraint.groups * 2**constraint.bits
    sums = np.bincount(numbers.reshape(-1), values.reshape(-1).astype(np.float64), count)
    sizes = np.bincount(numbers.reshape(-1), minlength=count)
    found: Array = (sums / np.maximum(sizes, 1)).reshape(constraint.groups, -1)
    return found
