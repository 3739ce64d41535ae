"""What can be counted from an ONNX file: bytes, parameters, MACs."""

from collections.abc import Iterator
from pathlib import Path

import onnx

from autocompress.facts import Facts
from autocompress.hardware.operators import macs_of, weights_of
from autocompress.hardware.shapes import ShapedGraph, read_model, shaped_graph


class FileFacts(Facts):
    """Counted from one file; ``macs`` of one sample."""

    size_bytes: int
    macs: int
    params: int


def file_facts(path: Path) -> FileFacts:
    """All three counts, for one reading of the graph."""
    graph = shaped_graph(path)
    return FileFacts(size_bytes=file_size_bytes(path), macs=_macs(graph), params=_params(graph))


def file_size_bytes(path: Path) -> int:
    """Bytes of the file and of every external-data file that it names."""
    return sum(part.stat().st_size for part in (path, *external_files(path)))


def external_files(path: Path) -> list[Path]:
    """The external-data files of a model, each once."""
    places = {
        entry.value
        for tensor in _tensors(read_model(path).graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path.parent / place for place in sorted(places)]


def count_macs(path: Path) -> int:
    """Multiply-accumulates of one sample: convolutions, matrix products (also between activations), recurrent layers.

    A batch that the file fixes is divided out; what depends on constants only is folded at load and counts nothing.
    Bodies of Loop, If and Scan are not counted.
    """
    return _macs(shaped_graph(path))


def count_params(path: Path) -> int:
    """Elements of the weights that layers work with, each stored weight once.

    A weight counts with the elements of the tensor that its layer gets, however it is stored (quantized, packed,
    sparse); scales, zero points and shapes are no weights.
    """
    return _params(shaped_graph(path))


def _live_nodes(graph: ShapedGraph) -> Iterator[onnx.NodeProto]:
    return (node for node in graph.nodes if node.output[0] not in graph.roots)


def _macs(graph: ShapedGraph) -> int:
    return sum(macs_of(node, graph) for node in _live_nodes(graph)) // graph.batch


def _params(graph: ShapedGraph) -> int:
    sizes = {graph.roots[name]: size for node in _live_nodes(graph) for name, size in weights_of(node, graph)}
    return sum(sizes.values())


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
