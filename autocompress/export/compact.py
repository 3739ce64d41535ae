"""The same graph in fewer bytes: names that no runtime reads are short, equal constants are stored once.

In a small int8 file the names of tensors are a tenth of the bytes. The names of inputs and outputs stay, and those of
nodes with weights, which say the layer that they come from.
"""

import itertools
import string

from onnx import ModelProto, TensorProto

from autocompress.export.onnx_graph import WEIGHTED_OPS

_DIGITS = string.digits + string.ascii_letters
_NAMED_OPS = WEIGHTED_OPS | {"MatMulNBits", "MatMulInteger"}


def compact(proto: ModelProto) -> ModelProto:
    """A copy of ``proto`` with short inner names; it computes the same, bit for bit.

    A graph with subgraphs (loops, branches) keeps its names: they may be used across levels.
    """
    small = ModelProto()
    small.CopyFrom(proto)
    if any(attribute.HasField("g") or attribute.graphs for node in small.graph.node for attribute in node.attribute):
        return small
    del small.graph.value_info[:]
    replaced = _share_constants(small)
    names = _short_names(small, replaced)
    for node in small.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        if node.op_type not in _NAMED_OPS:
            node.name = ""
    for item in small.graph.initializer:
        item.name = names.get(item.name, item.name)
    return small


def drop_unused(proto: ModelProto) -> None:
    """Take out constants that no node reads, in place."""
    read = {name for node in proto.graph.node for name in node.input} | {item.name for item in proto.graph.output}
    used = [item for item in proto.graph.initializer if item.name in read]
    if len(used) < len(proto.graph.initializer):
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(used)


def _share_constants(proto: ModelProto) -> dict[str, str]:
    """Keep the first of equal constants; dropped name → kept name."""
    kept: dict[bytes, str] = {}
    replaced: dict[str, str] = {}
    initializers = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    for item in initializers:
        first = kept.setdefault(_content(item), item.name)
        if first == item.name:
            proto.graph.initializer.append(item)
        else:
            replaced[item.name] = first
    return replaced


def _content(item: TensorProto) -> bytes:
    """Type, shape and values of a constant, without its name."""
    anonymous = TensorProto()
    anonymous.CopyFrom(item)
    anonymous.name = ""
    content: bytes = anonymous.SerializeToString(deterministic=True)
    return content


def _short_names(proto: ModelProto, replaced: dict[str, str]) -> dict[str, str]:
    """Old name → short name for everything inside the graph; the shortest names go to what is named most often."""
    fixed = {value.name for value in (*proto.graph.input, *proto.graph.output)} | {""}
    uses: dict[str, int] = {}
    for node in proto.graph.node:
        for name in (*node.input, *node.output):
            kept = replaced.get(name, name)
            if kept not in fixed:
                uses[kept] = uses.get(kept, 0) + 1
    ranked = sorted(uses, key=lambda name: -uses[name])
    free = (numeral for numeral in map(_numeral, itertools.count()) if numeral not in fixed)
    short = dict(zip(ranked, free, strict=False))
    return short | {dropped: short[kept] for dropped, kept in replaced.items() if kept in short}


def _numeral(number: int) -> str:
    """``number`` in base 62; no two numbers have the same numeral."""
    digits = _DIGITS[number % 62]
    while number := number // 62:
        digits = _DIGITS[number % 62] + digits
    return digits
