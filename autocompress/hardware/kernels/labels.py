"""Which layer of a network each kernel of its file belongs to.

The runtime fuses, replaces and adds nodes, and names what it makes after what it found. So every node of the file is
called by the number of its layer before the runtime sees it; what has no such name goes with what it reads.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import onnx

from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.runtime_graph import PlacedKernel, RuntimeGraph

_LABEL = re.compile(r"(\d+)~(\d+)~([^~]*)~")
NO_LAYER = -1


def labelled(file: bytes, layers: Sequence[str]) -> bytes:
    """The same file with nodes and inner tensors named by the layer that they belong to.

    A node without a layer of its own belongs to the last of the layers that it reads from. ``layers`` are in order of
    execution. A file with subgraphs is given back as it is.
    """
    proto = onnx.load_model_from_string(file)
    if any(attribute.HasField("g") or attribute.graphs for node in proto.graph.node for attribute in node.attribute):
        return file
    place = {name: index for index, name in enumerate(layers)}
    outer = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    own = [_own_layer(node.name, place) for node in proto.graph.node]
    ends = {label: number for number, (label, _) in enumerate(own)}  # what the last factor makes is the layer's output
    renamed: dict[str, str] = {}
    label_of: dict[str, int] = {}
    for number, node in enumerate(proto.graph.node):
        label, part = own[number]
        if ends[label] == number:
            part = ""
        if label == NO_LAYER:
            label = max((label_of.get(name, NO_LAYER) for name in node.input), default=NO_LAYER)
        node.name = f"{label + 1}~{number}~{part}~"
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for output, name in enumerate(list(node.output)):
            if name:
                label_of[name] = label
                renamed[name] = name if name in outer else f"{node.name}{output}"
                node.output[output] = renamed[name]
                label_of[renamed[name]] = label
    del proto.graph.value_info[:]
    content: bytes = proto.SerializeToString()
    return content


class _Label(NamedTuple):
    layer: int
    node: int
    part: str


_BEFORE = _Label(0, 0, "")


@dataclass(frozen=True)
class LayerKernels:
    """What one layer became: the kernels that hold weights, and those around them, each in the order of the nodes.

    ``parts`` says of each of ``weighted``, then of each of ``around``, which of the layer's factors it comes from; ""
    from the last, and where there is one.
    """

    weighted: tuple[Kernel, ...]
    around: tuple[Kernel, ...]
    parts: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def kernels_by_layer(graph: RuntimeGraph, n_layers: int) -> list[LayerKernels]:
    """The kernels of a labelled file: first those before any layer, then those of each layer."""
    found: list[list[tuple[_Label, Kernel]]] = [[] for _ in range(n_layers + 1)]
    for label, placed in _labels_of(graph):
        found[label.layer].append((label, placed.kernel))
    # Branches run in an order that depends on sizes: that of the file's nodes is the same for all widths.
    return [_layer_kernels(sorted(group, key=lambda item: (item[0].node, item[1].op))) for group in found]


def times_by_layer(graph: RuntimeGraph, n_layers: int) -> list[tuple[float, float]]:
    """Profiled microseconds of the kernels with weights and of those around them, in the same order of layers."""
    found = [[0.0, 0.0] for _ in range(n_layers + 1)]
    for label, placed in _labels_of(graph):
        found[label.layer][not _has_weight(placed.kernel)] += placed.us or 0.0
    return [(weighted, around) for weighted, around in found]


def _labels_of(graph: RuntimeGraph) -> Iterator[tuple[_Label, PlacedKernel]]:
    label_of: dict[str, _Label] = {}
    for placed in graph.kernels:
        names = (placed.name, *placed.makes)
        label = next((_Label(int(m[1]), int(m[2]), m[3]) for m in map(_LABEL.search, names) if m), None)
        if label is None:
            label = max((label_of.get(name, _BEFORE) for name in placed.reads), default=_BEFORE)
        label_of |= dict.fromkeys(placed.makes, label)
        yield label, placed


def _layer_kernels(placed: list[tuple[_Label, Kernel]]) -> LayerKernels:
    weighted = [(label.part, kernel) for label, kernel in placed if _has_weight(kernel)]
    around = [(label.part, kernel) for label, kernel in placed if not _has_weight(kernel)]
    return LayerKernels(
        tuple(kernel for _, kernel in weighted),
        tuple(kernel for _, kernel in around),
        (tuple(part for part, _ in weighted), tuple(part for part, _ in around)),
    )


def _has_weight(kernel: Kernel) -> bool:
    return any(tensor.stored and len(tensor.shape) > 1 for tensor in kernel.inputs)


def _own_layer(name: str, place: dict[str, int]) -> tuple[int, str]:
    """The layer that a node is named after, or that holds the thin layer that it is named after, and which of those."""
    parts = name.partition("#")[0].split(".")
    for end in range(len(parts), 0, -1):
        found = place.get(".".join(parts[:end]))
        if found is not None:
            return found, ".".join(parts[end:])
    return NO_LAYER, ""
