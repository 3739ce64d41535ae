"""Nodes and constants of a graph in the making; what is there already is not made twice."""

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from autocompress.task import Array


class GraphBuilder:
    """Collects nodes in the order of their making; equal constants and equal nodes share one name.

    So weights that have their codes, their mask or their table in common have them in the file once.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._names: dict[tuple[object, ...], str] = {}
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._outputs: dict[str, str] = {}  # name outside → inner name

    def constant(self, array: Array) -> str:
        """The name of a constant with these values."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = self._new_name()
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), self._names[key]))
        return self._names[key]

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        """The name of what ``operator`` makes of ``inputs``."""
        key = (operator, inputs, repr(sorted(attributes.items())))
        if key not in self._names:
            self._names[key] = self._new_name()
            self._nodes.append(helper.make_node(operator, inputs, [self._names[key]], **attributes))
        return self._names[key]

    def output(self, made: str, name: str) -> None:
        """Call ``made`` by ``name`` outside; it may have several names."""
        self._outputs[name] = made

    def finish(self) -> GraphProto:
        """The nodes and constants, with the outside's names where it has given them."""
        first: dict[str, str] = {}
        copies = []
        for name, made in self._outputs.items():
            if first.setdefault(made, name) != name:
                copies.append(helper.make_node("Identity", [first[made]], [name]))
        for node in self._nodes:
            node.input[:] = [first.get(each, each) for each in node.input]
            node.output[:] = [first.get(each, each) for each in node.output]
        for item in self._constants:
            item.name = first.get(item.name, item.name)
        return GraphProto(node=[*self._nodes, *copies], initializer=self._constants)

    def _new_name(self) -> str:
        return f"{self._prefix}{len(self._names)}"
