"""Layers of a float file as pairs of thin ones, as low-rank factors make them, with weights of noise.

For files that are timed and not judged: the network itself is neither factorized nor exported again.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper

from autocompress.errors import ModelError
from autocompress.export.file_weights import plain_weights
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.task import Array

_WINDOW = {"kernel_shape", "strides", "pads", "dilations", "auto_pad", "group"}


def with_thin_nodes(proto: ModelProto, ranks: Mapping[str, int]) -> None:
    """Replace the node of each layer in ``ranks`` by ``layer.reduce`` and ``layer.expand``, in place.

    Raises:
        ModelError: a layer has no node of its own.
    """
    graph = OnnxGraph(proto)
    weights = {weight.layer: weight for weight in plain_weights(proto, ranks.keys())}
    rng = np.random.default_rng(0)
    for layer, rank in ranks.items():
        if layer not in weights:
            raise ModelError(f"a layer that is factorized must have a node in the file, {layer!r} has none")
        weight, node = weights[layer], graph.nodes[weights[layer].node]
        own = weight.as_layer(graph.array(weight.tensor))
        first, second = _pair(own, rank, rng)
        reduce, expand = f"{layer}.reduce", f"{layer}.expand"
        graph.put(f"{reduce}.weight", np.ascontiguousarray(weight.as_layer(first)))
        graph.put(f"{expand}.weight", np.ascontiguousarray(weight.as_layer(second)))
        _split(proto, node, reduce, expand)


def _pair(own: Array, rank: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two weights ``[rank, c_in, ...]`` and ``[c_out, rank, 1, ...]`` whose product is about as large as ``own``."""
    first = rng.normal(size=(rank, *own.shape[1:])) * own.std()
    second = rng.normal(size=(len(own), rank, *[1] * (own.ndim - 2))) / rank**0.5
    return first.astype(np.float32), second.astype(np.float32)


def _split(proto: ModelProto, node: NodeProto, reduce: str, expand: str) -> None:
    place = next(i for i, each in enumerate(proto.graph.node) if each.name == node.name)
    source, _, *bias = node.input
    thin, wide = NodeProto(), NodeProto()
    thin.CopyFrom(node)
    wide.CopyFrom(node)
    thin.name, wide.name = reduce, expand
    thin.input[:], thin.output[:] = [source, f"{reduce}.weight"], [f"{reduce}_out"]
    wide.input[:] = [f"{reduce}_out", f"{expand}.weight", *bias]
    if node.op_type == "Conv":
        dims = len(next(item for item in proto.graph.initializer if item.name == f"{expand}.weight").dims) - 2
        kept = [item for item in wide.attribute if item.name not in _WINDOW]
        del wide.attribute[:]
        wide.attribute.extend(kept)
        window = {"kernel_shape": [1] * dims, "strides": [1] * dims, "dilations": [1] * dims, "pads": [0] * 2 * dims}
        wide.attribute.extend(helper.make_attribute(name, value) for name, value in window.items())
        wide.attribute.append(helper.make_attribute("group", 1))
    proto.graph.node[place].CopyFrom(thin)
    proto.graph.node.insert(place + 1, wide)
