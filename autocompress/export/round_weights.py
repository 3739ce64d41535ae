"""The integers that weights become in the file, one scale per output channel."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from onnx import ModelProto, helper

from autocompress.export.file_weights import FileWeight, by_tensor
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.layers.constraint import Constraint
from autocompress.linalg.quantizers import ScaleBy, to_integers
from autocompress.precision import Activations, FilePlan
from autocompress.task import Array

STORED_BITS = 8  # of an integer in the file before it is packed
_CLIPPING_PAYS = 4  # bits: with more, the largest value fits and clipping it gains next to nothing
REDUCED_BITS = 7  # where 8-bit products would saturate


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """A weight as integers in the file's layout, ``integers * scale`` with ``scale [c_out]``."""

    integers: Array
    scale: Array
    bits: int

    def values(self, weight: FileWeight) -> Array:
        """The floating-point weight that the integers stand for."""
        found: Array = self.integers * weight.along(self.scale, self.integers.ndim)
        return found.astype(np.float32)


def rounded_weights(
    proto: ModelProto, weights: tuple[FileWeight, ...], plan: FilePlan, *, reduce_range: bool
) -> dict[str, Rounded]:
    """Tensor → its integers, for every weight that ``plan`` stores as integers with one scale per channel.

    A codebook becomes integers in integer arithmetic only; with float arithmetic it stays as it is. The integers of
    weights that are tied are those of the layers' common weight, so they are equal and stored once; the scale of a
    channel that BatchNorm turns round is negative then.
    """
    graph = OnnxGraph(proto)
    found: dict[str, Rounded] = {}
    common: dict[str, tuple[Array, Array]] = {}
    for weight in by_tensor(weights).values():
        precision = plan.of(weight.layer)
        bits = precision.weights.bits
        clustered = weight.constraint is not None and weight.constraint.indices is not None
        in_float = precision.activations is Activations.FP32
        if precision.activations is Activations.INT8_DYNAMIC:
            continue  # rounded when its kernel is put in
        if bits is None or precision.block is not None or (clustered and in_float):
            continue
        most = REDUCED_BITS if reduce_range and not in_float else STORED_BITS
        most = most if clustered else min(bits, most)
        own = own_values(graph.array(weight.tensor), weight)
        integers, step = common.get(weight.tied_to or "", None) or round_own(own, weight.constraint, most)
        if weight.tied_to is not None:
            common[weight.tied_to] = integers, step
        found[weight.tensor] = _in_file(integers, step, weight, most)
    return found


def round_weight(stored: Array, weight: FileWeight, bits: int) -> Rounded:
    """The integers of one weight, given as the file holds it."""
    return _in_file(*round_own(own_values(stored, weight), weight.constraint, bits), weight, bits)


def own_values(stored: Array, weight: FileWeight) -> Array:
    """The layer's own weight ``[c_out, ...]``: without the factors that the export put on its channels."""
    own = weight.as_layer(stored)
    if weight.channel_scale is None:
        return own
    found: Array = own / weight.channel_scale.reshape(-1, *[1] * (own.ndim - 1))
    return found


def round_own(own: Array, constraint: Constraint | None, bits: int) -> tuple[Array, Array]:
    """Integers of a layer's own weight, and its step per channel."""
    if constraint is not None and constraint.indices is not None:
        return _of_groups(own, bits, constraint.groups)
    found = to_integers(torch.tensor(own), bits, scale_by=ScaleBy.ERROR if bits <= _CLIPPING_PAYS else ScaleBy.MAX)
    return found.codes.numpy(), found.scale.reshape(-1).numpy()


def _in_file(integers: Array, step: Array, weight: FileWeight, bits: int) -> Rounded:
    scale = step if weight.channel_scale is None else step * weight.channel_scale
    return Rounded(integers=np.ascontiguousarray(weight.as_layer(integers)), scale=scale.astype(np.float32), bits=bits)


def _of_groups(own: Array, bits: int, groups: int) -> tuple[Array, Array]:
    """One step for all channels of a codebook, so that equal values have equal integers."""
    top = 2 ** (bits - 1) - 1
    group = np.arange(len(own)) * groups // len(own)
    largest = np.abs(own.reshape(len(own), -1)).max(1)
    step = np.array([largest[group == g].max() for g in range(groups)], np.float32)[group] / top
    step = np.where(step == 0, np.float32(1), step).astype(np.float32)
    integers = np.round(own / step.reshape(-1, *[1] * (own.ndim - 1))).astype(np.int8)
    return integers, step


def place_integers(
    proto: ModelProto, source: ModelProto, weights: tuple[FileWeight, ...], rounded: Mapping[str, Rounded]
) -> None:
    """Put the integers into the file, in place: behind a DequantizeLinear each.

    Args:
        proto: ``source`` after ``quantize_onnx``; where its tool has rounded a weight, its integers are replaced, with the
            bias, whose scale follows that of the weight.
        source: the float file.
        weights: where they lie.
        rounded: the integers.
    """
    graph, before = OnnxGraph(proto), OnnxGraph(source)
    for weight in by_tensor(weights).values():
        if weight.tensor not in rounded:
            continue
        integers = rounded[weight.tensor]
        if weight.tensor in graph.constants:
            _dequantize(graph, weight, integers)
        else:
            graph.put(f"{weight.tensor}_quantized", integers.integers)
            graph.put(f"{weight.tensor}_scale", integers.scale)
            _requantize_biases(graph, before, weight, integers.scale)


def _dequantize(graph: OnnxGraph, weight: FileWeight, rounded: Rounded) -> None:
    """An integer weight of a layer that computes in float."""
    integers, scale = f"{weight.tensor}_quantized", f"{weight.tensor}_scale"
    graph.put(integers, rounded.integers)
    graph.put(scale, rounded.scale)
    output = f"{weight.tensor}_dequantized"
    node = helper.make_node(
        "DequantizeLinear", [integers, scale], [output], name=f"{weight.tensor}_DequantizeLinear", axis=weight.axis
    )
    readers = list(graph.readers(weight.tensor))
    graph.insert_before(readers[0], node)
    for reader in readers:
        reader.input[:] = [output if name == weight.tensor else name for name in reader.input]


def _requantize_biases(graph: OnnxGraph, before: OnnxGraph, weight: FileWeight, scale: Array) -> None:
    """32-bit biases of the layers that use a weight, at the scale of their sums."""
    for source in before.readers(weight.tensor):
        node = graph.nodes[source.name]
        if len(source.input) < 3 or node.input[2] not in graph.maker:
            continue
        data = graph.maker[node.input[0]]
        sums = graph.maker[node.input[2]]
        step = (graph.array(data.input[1]) * scale).astype(np.float32)
        bias = np.round(before.array(source.input[2]).astype(np.float64) / step)
        limits = np.iinfo(np.int32)
        graph.put(sums.input[0], bias.clip(limits.min, limits.max).astype(np.int32))
        graph.put(sums.input[1], step)
