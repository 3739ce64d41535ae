"""A float file whose widths are filled in: learned from a few exports of one network, pruned to other widths each."""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from autocompress.hardware.kernels.rules import Rules, Symbols

_WHOLE = {TensorProto.INT64, TensorProto.INT32}


@dataclass
class ResizedFile:
    """Exports of one network that differ in widths only; ``widest`` lends its weights.

    Integers are the dimensions of constants, the values of those of integers (shapes to reshape to) and attributes.
    """

    rules: Rules
    widest: ModelProto
    skeleton: tuple[object, ...] = ()

    def learn(self, symbols: Symbols, proto: ModelProto) -> bool:
        """Take in an export; False, and nothing is learned, where it is of another structure."""
        proto = unshared(proto)
        skeleton = _skeleton(proto)
        if self.skeleton and skeleton != self.skeleton:
            return False
        self.skeleton = skeleton
        self.rules.learn(symbols, _integers(proto))
        return True

    def expects(self, symbols: Symbols, proto: ModelProto) -> bool:
        """Whether an export is what would be filled in."""
        proto = unshared(proto)
        return _skeleton(proto) == self.skeleton and self.rules.integers(symbols) == _integers(proto)

    def proto(self, symbols: Symbols) -> ModelProto | None:
        """The network at other widths, its weights cut out of the widest; None where a number is not known."""
        integers = self.rules.integers(symbols)
        if integers is None:
            return None
        small, rest = ModelProto(), iter(integers)
        small.CopyFrom(self.widest)
        for item in small.graph.initializer:
            dims = tuple(next(rest) for _ in item.dims)
            values = numpy_helper.to_array(item)
            if item.data_type in _WHOLE:
                values = np.array([next(rest) for _ in range(values.size)], values.dtype).reshape(dims)
            elif dims != values.shape:
                values = np.resize(values, dims) if _grows(dims, values.shape) else values[tuple(map(slice, dims))]
            item.CopyFrom(numpy_helper.from_array(values.copy(), item.name))
        for node in small.graph.node:
            for attribute in node.attribute:
                if attribute.type == attribute.INT:
                    attribute.i = next(rest)
                elif attribute.type == attribute.INTS:
                    attribute.ints[:] = [next(rest) for _ in attribute.ints]
        return small


def unshared(proto: ModelProto) -> ModelProto:
    """A copy in which each node has constants of its own: the exporter shares those that happen to be equal."""
    alone = ModelProto()
    alone.CopyFrom(proto)
    graph = alone.graph
    constants = {item.name: item for item in proto.graph.initializer}
    del graph.initializer[:]
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in constants:
                item = graph.initializer.add()
                item.CopyFrom(constants[name])
                item.name = node.input[place] = f"{node.name}_constant_{place}"
    return alone


def _grows(dims: tuple[int, ...], known: tuple[int, ...]) -> bool:
    return any(wanted > size for wanted, size in zip(dims, known, strict=True))


def _skeleton(proto: ModelProto) -> tuple[object, ...]:
    nodes = tuple(
        (node.op_type, node.domain, node.name, tuple(node.input), tuple(node.output), _fixed(node.attribute))
        for node in proto.graph.node
    )
    constants = tuple(
        (item.name, item.data_type, len(item.dims), numpy_helper.to_array(item).size if item.data_type in _WHOLE else 0)
        for item in proto.graph.initializer
    )
    return nodes, constants


def _fixed(attributes: object) -> tuple[object, ...]:
    found: list[object] = []
    for item in attributes:  # type: ignore[attr-defined]  # a protobuf container
        if item.type == item.INT:
            found.append(item.name)
        elif item.type == item.INTS:
            found.append((item.name, len(item.ints)))
        else:
            found.append(item.SerializeToString(deterministic=True))
    return tuple(found)


def _integers(proto: ModelProto) -> tuple[int, ...]:
    found: list[int] = []
    for item in proto.graph.initializer:
        found += item.dims
        if item.data_type in _WHOLE:
            found += numpy_helper.to_array(item).flatten().tolist()
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.type == attribute.INT:
                found.append(attribute.i)
            elif attribute.type == attribute.INTS:
                found += attribute.ints
    return tuple(found)
