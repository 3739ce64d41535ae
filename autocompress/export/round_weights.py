"""The integers that weights become in the file, one scale per output channel."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from onnx import ModelProto, helper

from autocompress.export.file_weights import FileWeight, by_own_weight, by_tensor, own_values
from autocompress.export.linear_kernels import LINEAR_OPS, goes_in_blocks
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.layers.constraint import Constraint
from autocompress.linalg.quantizers import ScaleBy, to_integers
from autocompress.precision import Activations, FilePlan, Precision
from autocompress.task import Array

STORED_BITS = 8  # of an integer in the file before it is packed
_CLIPPING_PAYS = 4  # bits: with more, the largest value fits and clipping it gains next to nothing
_FINE = 1e-3  # a step, where there is nothing to measure
_MOST_SUM = 2.0**30  # of 32 bits, half of which the products may need
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
    for uses in by_own_weight(weights):
        bits = _bits(graph, uses[0], plan.of(uses[0].layer), reduce_range=reduce_range)
        if bits is not None:
            integers, step = round_own(own_values(graph, uses), uses[0].constraint, bits)
            found |= {use.tensor: _in_file(integers, step, use, bits) for use in uses}
    return found


def _bits(graph: OnnxGraph, weight: FileWeight, precision: Precision, *, reduce_range: bool) -> int | None:
    """Of the integers; None where the weight has none, or its kernel rounds in blocks."""
    bits, node = precision.weights.bits, graph.nodes[weight.node]
    if bits is None or goes_in_blocks(graph, weight, precision):
        return None
    is_dynamic = precision.activations is Activations.INT8_DYNAMIC
    in_float = precision.activations is Activations.FP32 or (is_dynamic and node.op_type not in LINEAR_OPS)
    most = REDUCED_BITS if reduce_range and not in_float else STORED_BITS
    if weight.constraint is not None and weight.constraint.indices is not None:
        return None if in_float else most
    return min(bits, most)


def round_own(own: Array, constraint: Constraint | None, bits: int) -> tuple[Array, Array]:
    """Integers of a layer's own weight, and its step per channel."""
    if constraint is not None and constraint.indices is not None:
        return _of_groups(own, bits, constraint.groups)
    found = to_integers(torch.tensor(own), bits, scale_by=ScaleBy.ERROR if bits <= _CLIPPING_PAYS else ScaleBy.MAX)
    return found.codes.numpy(), _small_where_zero(found.codes.numpy(), found.scale.reshape(-1).numpy())


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
    return integers, _small_where_zero(integers, step)


def _small_where_zero(integers: Array, step: Array) -> Array:
    """The step of channels without weights made no larger than any other: that of a 32-bit bias follows from it."""
    used = integers.reshape(len(integers), -1).any(1)
    smallest = step[used].min(initial=np.inf) if used.any() else _FINE
    found: Array = np.where(used, step, smallest).astype(np.float32)
    return found


def place_integers(
    proto: ModelProto, source: ModelProto, weights: tuple[FileWeight, ...], rounded: Mapping[str, Rounded]
) -> None:
    """Put the integers into the file, in place: behind a DequantizeLinear each.

    Args:
        proto: ``source`` after ``quantize_onnx``; where its tool has rounded a weight, its integers are replaced, with
            the bias, whose scale follows that of the weight.
        source: the float file.
        weights: where they lie.
        rounded: the integers.
    """
    graph, before = OnnxGraph(proto), OnnxGraph(source)
    for weight in by_tensor(weights).values():
        if weight.tensor not in rounded:
            continue
        if weight.tensor in graph.constants:
            _dequantize(graph, weight, rounded[weight.tensor])
        else:
            _replace(graph, before, weight, rounded[weight.tensor])


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


def _replace(graph: OnnxGraph, before: OnnxGraph, weight: FileWeight, rounded: Rounded) -> None:
    """Our integers instead of the tool's, and 32-bit biases at the scale of the sums of the layers that use them.

    A scale is at least what lets 32 bits hold the bias: the weights of a channel that BatchNorm has all but turned off
    are nothing beside its bias, so that a larger scale does not show.
    """
    scale, sums = rounded.scale, []
    for source in before.readers(weight.tensor):
        node = graph.nodes[source.name]
        if len(source.input) > 2 and node.input[2] in graph.maker:
            bias = before.array(source.input[2]).astype(np.float64)
            data_scale = graph.array(graph.maker[node.input[0]].input[1])
            least = np.abs(bias) / (data_scale * _MOST_SUM)
            scale = np.where(np.abs(scale) < least, np.copysign(least, scale), scale).astype(np.float32)
            sums.append((graph.maker[node.input[2]], bias, data_scale))
    graph.put(f"{weight.tensor}_quantized", rounded.integers)
    graph.put(f"{weight.tensor}_scale", scale)
    for dequantize, bias, data_scale in sums:
        step = (data_scale * scale).astype(np.float32)
        graph.put(dequantize.input[0], np.round(bias / step).astype(np.int32))
        graph.put(dequantize.input[1], step)
