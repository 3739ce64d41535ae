"""Channels of neighbouring convolutions brought to one range, which a common scale of activations needs.

Source: Nagel et al. 2019, sec. 4.1, https://arxiv.org/abs/1906.04721. ReLU passes positive factors on; clipped and
smooth activations do not, so pairs around them stay as they are.
"""

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto

from autocompress.export.file_weights import FileWeight
from autocompress.export.onnx_graph import OnnxGraph, attribute
from autocompress.task import Array

ROUNDS = 20  # along a chain of layers each pair moves its neighbours; the factors are within 1 % of rest by then
_LEAST, _MOST = 1e-3, 1e3  # of a factor: dead channels must not blow up their partner's


def equalize(proto: ModelProto, weights: tuple[FileWeight, ...]) -> int:
    """Scale the channels between pairs of convolutions in the float file in place; the network computes the same.

    Layers whose weight keeps to a codebook, is shared or runs twice are left out: they would lose that.

    Returns:
        how many pairs there are.
    """
    graph = OnnxGraph(proto)
    uses = Counter(name for node in proto.graph.node for name in node.input)
    uses.update(item.name for item in proto.graph.output)
    free = {weight.tensor for weight in weights if weight.channel_scale is None and uses[weight.tensor] == 1}
    pairs = _pairs(graph, free, uses)
    for _ in range(ROUNDS if pairs else 0):
        for first, second in pairs:
            _even_out(graph, first, second)
    return len(pairs)


def _pairs(graph: OnnxGraph, free: set[str], uses: Counter[str]) -> list[tuple[NodeProto, NodeProto]]:
    """Convolutions that feed one other convolution and nothing else, directly or through a ReLU."""
    reader = {name: node for node in graph.graph.node for name in node.input}
    found = []
    for node in graph.graph.node:
        if not _is_free(node, free) or any(uses[bias] > 1 for bias in node.input[2:]):
            continue
        name = node.output[0]
        while uses[name] == 1 and name in reader and reader[name].op_type == "Relu":
            name = reader[name].output[0]
        following = reader.get(name)
        if uses[name] == 1 and following is not None and _is_free(following, free) and following.input[0] == name:
            found.append((node, following))
    return found


def _is_free(node: NodeProto, free: set[str]) -> bool:
    return node.op_type == "Conv" and node.input[1] in free


def _even_out(graph: OnnxGraph, first: NodeProto, second: NodeProto) -> None:
    before, after = graph.array(first.input[1]), graph.array(second.input[1])
    groups = attribute(second, "group", 1)
    inward = _by_input(after, groups)
    outer = np.abs(before.reshape(len(before), -1)).max(1)
    inner = np.abs(inward).max((1, 2))
    factor = np.sqrt(outer / np.where(inner > 0, inner, 1)).clip(_LEAST, _MOST)
    factor = np.where((outer > 0) & (inner > 0), factor, 1.0).astype(np.float32)
    graph.put(first.input[1], before / factor.reshape(-1, *[1] * (before.ndim - 1)))
    if len(first.input) > 2:
        graph.put(first.input[2], graph.array(first.input[2]) / factor)
    graph.put(second.input[1], _from_inputs(inward * factor[:, None, None], after.shape, groups))


def _by_input(weight: Array, groups: int) -> Array:
    """``[c_out, c_in / groups, ...]`` as ``[c_in, c_out / groups, window]``."""
    c_out, per_group = weight.shape[:2]
    parts = weight.reshape(groups, c_out // groups, per_group, -1).transpose(0, 2, 1, 3)
    return parts.reshape(groups * per_group, c_out // groups, -1)


def _from_inputs(inward: Array, shape: tuple[int, ...], groups: int) -> Array:
    """The inverse of ``_by_input``."""
    parts = inward.reshape(groups, shape[1], shape[0] // groups, -1).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(parts.reshape(shape))
