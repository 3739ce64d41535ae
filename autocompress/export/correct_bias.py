"""Biases moved by what rounding the weights changes in the mean of the outputs.

Source: Nagel et al. 2019, sec. 4.2, https://arxiv.org/abs/1906.04721, with means of real inputs in the place of those
that the paper derives from BatchNorm.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto

from autocompress.export.calibrate import Seen, observe
from autocompress.export.file_weights import FileWeight
from autocompress.export.onnx_graph import OnnxGraph, attribute
from autocompress.export.round_weights import Rounded
from autocompress.task import Array


def correct_biases(
    proto: ModelProto, weights: tuple[FileWeight, ...], rounded: Mapping[str, Rounded], seen: Seen
) -> None:
    """Change the biases of the float file in place, so that rounded weights give the same mean outputs.

    Padding is taken for the mean, not for zero. A matrix product has its bias in the addition that follows it; layers
    without a bias gain one where their operator has a place for it, else they stay.
    """
    graph = OnnxGraph(proto)
    treated = [weight for weight in weights if weight.tensor in rounded]
    nodes = [graph.nodes[weight.node] for weight in treated]
    means = _channel_means(proto, {node.input[0]: _channel_dim(node) for node in nodes}, seen)
    for weight, node in zip(treated, nodes, strict=True):
        change = weight.as_layer(graph.array(weight.tensor) - rounded[weight.tensor].values(weight))
        _add_to_bias(graph, node, _mean_output(change, means[node.input[0]], attribute(node, "group", 1)))


def _channel_dim(node: NodeProto) -> int:
    return 1 if node.op_type == "Conv" else -1


def _channel_means(proto: ModelProto, dims: Mapping[str, int], seen: Seen) -> dict[str, Array]:
    """Tensor → its means over all but the given dimension."""
    sums: dict[str, Array] = {}
    count = 0
    for values in observe(proto, list(dims), seen):
        count += 1
        for name, value in values.items():
            channels_last = np.moveaxis(value, dims[name], -1)
            mean = channels_last.reshape(-1, channels_last.shape[-1]).mean(0, dtype=np.float64)
            sums[name] = sums.get(name, 0) + mean
    return {name: total / count for name, total in sums.items()}


def _mean_output(change: Array, means: Array, groups: int) -> Array:
    """The mean outputs ``[c_out]`` of a weight ``[c_out, c_in / groups, ...]`` on inputs with ``means [c_in]``."""
    per_input = change.reshape(*change.shape[:2], -1).sum(2)
    group = np.arange(len(per_input)) * groups // len(per_input)
    found: Array = (per_input * means.reshape(groups, -1)[group]).sum(1)
    return found


def _add_to_bias(graph: OnnxGraph, node: NodeProto, shift: Array) -> None:
    if len(node.input) > 2 and node.input[2] in graph.constants:
        old = graph.array(node.input[2])
        node.input[2] = graph.put(f"{node.name}.corrected_bias", (old + shift).astype(old.dtype))
    elif node.op_type in {"Conv", "Gemm"}:
        del node.input[2:]
        node.input.append(graph.put(f"{node.name}.corrected_bias", shift.astype(np.float32)))
    elif node.op_type == "MatMul":
        following = list(graph.readers(node.output[0]))
        adds = following[0] if len(following) == 1 and following[0].op_type == "Add" else None
        place = next((i for i, name in enumerate(adds.input) if name in graph.constants), None) if adds else None
        if adds is not None and place is not None:
            old = graph.array(adds.input[place])
            adds.input[place] = graph.put(f"{node.name}.corrected_bias", (old + shift).astype(old.dtype))
