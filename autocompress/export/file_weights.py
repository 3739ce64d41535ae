"""Where the weights of a network's layers lie in its float file, and what became of them on the way."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, NodeProto
from torch import nn

from autocompress.export.onnx_file import layer_of
from autocompress.export.onnx_graph import WEIGHTED_OPS, OnnxGraph, attribute
from autocompress.layers.constraint import Constraint
from autocompress.task import Array

_LEAST_FACTOR = 1e-7  # in the place of 0, of a channel that BatchNorm turns off: its own weights can be found again
_TOLERANCE = 1e-5  # relative; folding BatchNorm rounds once more than multiplying by one factor


@dataclass(frozen=True, kw_only=True)
class FileWeight:
    """One layer's weight as a constant of the file.

    With a ``channel_scale [c_out]``, none of it 0, the file's weight is the layer's own times that: BatchNorm was
    folded into it. It is known where the layer's own weight matters: where it keeps to a codebook, or is that of
    several layers, of which ``tied_to`` is the first.
    ``transposed``: the file holds ``[c_in, c_out]``, the layer ``[c_out, c_in]``.
    """

    layer: str
    node: str
    tensor: str
    transposed: bool
    constraint: Constraint | None = None
    channel_scale: Array | None = None
    tied_to: str | None = None

    @property
    def axis(self) -> int:
        """The dimension of output channels in the file."""
        return 1 if self.transposed else 0

    def as_layer(self, values: Array) -> Array:
        """Values in the file's layout in that of the layer, ``[c_out, ...]``; also the other way round."""
        return values.T if self.transposed else values

    def along(self, per_channel: Array, dims: int) -> Array:
        """A vector ``[c_out]`` in a shape that multiplies a weight of the file."""
        shape = [1] * dims
        shape[self.axis] = len(per_channel)
        return per_channel.reshape(shape)


def file_weights(proto: ModelProto, model: nn.Module, constraints: Mapping[str, Constraint]) -> tuple[FileWeight, ...]:
    """Every use of a layer's weight in the float file, in order of execution; layers may share a constant.

    Channels that BatchNorm turns off get a ten-millionth of the layer's own weights, in place, where these matter.
    """
    graph = OnnxGraph(proto)
    weights = {name: item for name, item in model.named_parameters(remove_duplicate=False) if name.endswith(".weight")}
    owners: dict[int, list[str]] = {}
    for name, item in weights.items():
        owners.setdefault(id(item), []).append(name.removesuffix(".weight"))
    found = []
    for node in proto.graph.node:
        if node.op_type not in WEIGHTED_OPS:
            continue
        layer, tensor = layer_of(node), _weight_of(node, graph)
        parameter = weights.get(f"{layer}.weight")
        if tensor is None or parameter is None:
            continue
        weight = FileWeight(layer=layer, node=node.name, tensor=tensor, transposed=_is_transposed(node))
        own = parameter.detach().numpy()
        found.append(_with_origin(weight, graph, own, constraints.get(layer), owners[id(parameter)]))
    return tuple(found)


def plain_weights(proto: ModelProto, layers: Collection[str]) -> tuple[FileWeight, ...]:
    """The weights of ``layers`` in a float file, each for itself: without what ties or constrains them."""
    graph = OnnxGraph(proto)
    found = []
    for node in proto.graph.node:
        layer, tensor = layer_of(node), _weight_of(node, graph)
        if node.op_type in WEIGHTED_OPS and tensor is not None and layer in layers:
            found.append(FileWeight(layer=layer, node=node.name, tensor=tensor, transposed=_is_transposed(node)))
    return tuple(found)


def by_own_weight(weights: Iterable[FileWeight]) -> list[tuple[FileWeight, ...]]:
    """The constants that are one weight of the network, together; each by its first use."""
    found: dict[str, list[FileWeight]] = {}
    for weight in by_tensor(weights).values():
        found.setdefault(weight.tied_to or weight.tensor, []).append(weight)
    return [tuple(uses) for uses in found.values()]


def own_values(graph: OnnxGraph, uses: tuple[FileWeight, ...]) -> Array:
    """The network's own weight ``[c_out, ...]``, without the factors that the export put on its channels."""
    if uses[0].channel_scale is None:
        return uses[0].as_layer(graph.array(uses[0].tensor))
    sums, squares = np.zeros(()), np.zeros(())  # by least squares: a use with small factors has lost digits
    for use in uses:
        assert use.channel_scale is not None
        stored = use.as_layer(graph.array(use.tensor)).astype(np.float64)
        scale = use.channel_scale.astype(np.float64).reshape(-1, *[1] * (stored.ndim - 1))
        sums, squares = sums + stored * scale, squares + scale**2
    found: Array = (sums / squares).astype(np.float32)
    return found


def by_tensor(weights: Iterable[FileWeight]) -> dict[str, FileWeight]:
    """The first use of each constant."""
    found: dict[str, FileWeight] = {}
    for weight in weights:
        found.setdefault(weight.tensor, weight)
    return found


def _weight_of(node: NodeProto, graph: OnnxGraph) -> str | None:
    return next((name for name in node.input[:2] if name in graph.constants and name != node.input[0]), None)


def _is_transposed(node: NodeProto) -> bool:
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))


def _with_origin(
    weight: FileWeight, graph: OnnxGraph, own: Array, constraint: Constraint | None, owners: list[str]
) -> FileWeight:
    stored = weight.as_layer(graph.array(weight.tensor))
    tied = len(owners) > 1
    has_codebook = constraint is not None and constraint.indices is not None
    if stored.shape != own.shape or not (tied or constraint):
        return weight
    scale = channel_scale(stored, own) if tied or has_codebook else None
    if scale is not None and np.abs(scale).min() < _LEAST_FACTOR:
        is_off = np.abs(scale) < _LEAST_FACTOR
        scale = np.where(is_off, np.float32(_LEAST_FACTOR), scale)
        values = np.where(is_off.reshape(-1, *[1] * (own.ndim - 1)), own * np.float32(_LEAST_FACTOR), stored)
        graph.put(weight.tensor, np.ascontiguousarray(weight.as_layer(values)))
    if scale is None and has_codebook:
        return weight  # the exporter changed more than the scale: the clusters are gone
    return replace(
        weight,
        constraint=constraint,
        channel_scale=scale,
        tied_to=owners[0] if tied and scale is not None else None,
    )


def channel_scale(stored: Array, own: Array) -> Array | None:
    """The factors ``[c_out]`` with ``stored = factor · own`` in every channel; None where there are none."""
    flat_stored, flat_own = stored.reshape(len(stored), -1).astype(np.float64), own.reshape(len(own), -1)
    energy = np.square(flat_own, dtype=np.float64).sum(1)
    scale = np.where(energy > 0, (flat_stored * flat_own).sum(1) / np.where(energy > 0, energy, 1), 1.0)
    error = np.abs(flat_stored - scale[:, None] * flat_own).max(initial=0)
    if error > _TOLERANCE * np.abs(flat_stored).max(initial=1e-30):
        return None
    factors: Array = scale.astype(np.float32)
    return factors
