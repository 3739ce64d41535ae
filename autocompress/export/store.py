"""Each weight in the form of fewest bytes: packed bits, table and indices, bitmap and values, half floats."""

import numpy as np
from onnx import ModelProto
from torch import Tensor

from autocompress.export.file_weights import FileWeight, by_own_weight, own_values
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.export.stored_weights import StoredWeight, store, stored_bytes
from autocompress.layers.constraint import Constraint
from autocompress.precision import FilePlan, Format
from autocompress.task import Array

Stored = dict[str, StoredWeight]  # constant → its form
_ONE_BYTE = 8
_SURELY_MANY = 10_000  # weights, for which packing bits saves more than the nodes take that unpack them


def store_weights(proto: ModelProto, weights: tuple[FileWeight, ...], plan: FilePlan) -> ModelProto:
    """A copy of the file with its weights stored as ``plan`` and their constraints allow; it computes the same.

    A weight that would take more bytes so stays as it is. Integers that a layer in float arithmetic reads become floats
    when the file is loaded.
    """
    small = ModelProto()
    small.CopyFrom(proto)
    graph = OnnxGraph(small)
    found: dict[str, StoredWeight] = {}
    for uses in by_own_weight(weights):
        form = plan.of(uses[0].layer).weights
        if f"{uses[0].tensor}_quantized" in graph.constants:
            choices = _integers(graph, uses, form)
        else:
            choices = _floats(graph, uses, form)
        smallest = min(choices, key=lambda choice: stored_bytes(*choice.values()), default={})
        if smallest and stored_bytes(*smallest.values()) < _dense_bytes(graph, list(smallest)):
            found |= smallest
    return store(small, found)


def _dense_bytes(graph: OnnxGraph, names: list[str]) -> int:
    """Of constants, equal ones counted once, as ``compact`` leaves them."""
    different = {graph.constants[name].raw_data: graph.constants[name].ByteSize() for name in names}
    return sum(different.values())


def _integers(graph: OnnxGraph, uses: tuple[FileWeight, ...], form: Format) -> list[Stored]:
    """How the integers of one weight of the network may be stored, where the kernels of its uses read them."""
    in_bytes: Stored = {}
    in_bits: Stored = {}
    bits = form.bits or _ONE_BYTE
    for use in uses:
        name = f"{use.tensor}_quantized"
        integers, scale = graph.array(name), None
        if f"{use.tensor}_dequantized" in graph.maker:  # a float kernel reads them
            scale = use.along(graph.array(f"{use.tensor}_scale"), integers.ndim)
            name = _become_constant(graph, f"{use.tensor}_dequantized", integers * scale)
        in_bytes[name] = _values(integers, use, scale)
        if bits < _ONE_BYTE and not _is_clustered(use):
            in_bits[name] = _bits(integers, use, bits, scale)
    some = next(iter(in_bytes.values()))
    if not in_bits:
        return [in_bytes] if some.kept is not None or some.bits is not None or some.scale is not None else []
    return [in_bits] if some.codes.size > _SURELY_MANY else [in_bytes, in_bits]


def _become_constant(graph: OnnxGraph, name: str, values: Array) -> str:
    """Put values in the place of the node that makes ``name``: the runtime would leave that node as it is."""
    graph.graph.node.remove(graph.maker.pop(name))
    return graph.put(name, values)


def _floats(graph: OnnxGraph, uses: tuple[FileWeight, ...], form: Format) -> list[Stored]:
    """How one float weight of the network is stored in all its constants, with its own values once."""
    is_tied = len(uses) > 1
    if form is not Format.FP16 and uses[0].constraint is None and not is_tied:
        return []
    own = own_values(graph, uses).astype(np.float16 if form is Format.FP16 else np.float32)
    found: Stored = {}
    for use in uses:
        factors = use.channel_scale
        scale = None if factors is None or np.all(factors == 1) else use.along(factors, own.ndim)
        values = np.ascontiguousarray(use.as_layer(own))
        found[use.tensor] = _values(values, use, scale)
    return [found]


def _bits(integers: Array, weight: FileWeight, bits: int, scale: Array | None) -> StoredWeight:
    kept = _in_file((weight.constraint or Constraint()).kept, weight)
    codes = (_at(integers, kept).astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    return StoredWeight(shape=integers.shape, codes=codes, bits=bits, kept=kept, scale=scale)


def _values(values: Array, weight: FileWeight, scale: Array | None) -> StoredWeight:
    """Values as they are, or by a table where they are clustered; without those that are zero by constraint."""
    constraint = weight.constraint or Constraint()
    kept = _in_file(constraint.kept, weight)
    indices = _in_file(constraint.indices, weight)
    if indices is None:
        return StoredWeight(shape=values.shape, codes=_at(values, kept), bits=None, kept=kept, scale=scale)
    return StoredWeight(
        shape=values.shape,
        codes=_at(indices, kept).astype(np.uint8),
        bits=constraint.bits,
        table=_table(values, indices, kept, weight, constraint),
        channel_axis=weight.axis,
        kept=kept,
        scale=scale,
    )


def _is_clustered(weight: FileWeight) -> bool:
    return weight.constraint is not None and weight.constraint.indices is not None


def _at(values: Array, kept: Array | None) -> Array:
    found: Array = values.reshape(-1) if kept is None else values[kept]
    return found


def _in_file(tensor: Tensor | None, weight: FileWeight) -> Array | None:
    """A tensor of the layer's shape as the file lies."""
    return None if tensor is None else np.ascontiguousarray(weight.as_layer(tensor.numpy()))


def _table(values: Array, indices: Array, kept: Array | None, weight: FileWeight, constraint: Constraint) -> Array:
    """``[groups, 2**bits]``: the value that each index stands for; the mean where rounding made them differ."""
    channels = np.arange(values.shape[weight.axis]) * constraint.groups // values.shape[weight.axis]
    numbers = _at(weight.along(channels * 2**constraint.bits, values.ndim) + indices, kept)
    count = constraint.groups * 2**constraint.bits
    sums = np.bincount(numbers, _at(values, kept).astype(np.float64), count)
    sizes = np.bincount(numbers, minlength=count)
    means = (sums / np.maximum(sizes, 1)).reshape(constraint.groups, -1)
    found: Array = np.rint(means).astype(np.int8) if values.dtype == np.int8 else means.astype(np.float32)
    return found
