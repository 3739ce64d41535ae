"""Looking things up in an ONNX graph, and changing its constants."""

from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from autocompress.task import Array

WEIGHTED_OPS = frozenset({"Conv", "Gemm", "MatMul"})


class OnnxGraph:
    """A graph with its nodes and constants by name; constants are added and replaced in place."""

    def __init__(self, proto: ModelProto) -> None:
        self.graph: GraphProto = proto.graph
        self.constants: dict[str, TensorProto] = {item.name: item for item in proto.graph.initializer}
        self.maker: dict[str, NodeProto] = {output: node for node in proto.graph.node for output in node.output}
        self.nodes: dict[str, NodeProto] = {node.name: node for node in proto.graph.node}

    def array(self, name: str) -> Array:
        """The values of a constant."""
        values: Array = numpy_helper.to_array(self.constants[name])
        return values

    def put(self, name: str, values: Array) -> str:
        """Make ``name`` a constant of these values, whether it was one before or not."""
        item = numpy_helper.from_array(values, name)
        if name in self.constants:
            self.constants[name].CopyFrom(item)
        else:
            self.graph.initializer.append(item)
            self.constants[name] = self.graph.initializer[-1]
        return name

    def readers(self, name: str) -> Iterator[NodeProto]:
        """The nodes that take ``name``."""
        return (node for node in self.graph.node if name in node.input)

    def insert_before(self, reader: NodeProto, node: NodeProto) -> None:
        """Put ``node`` in front of the node that reads it, so that the order stays one of execution."""
        place = next(i for i, each in enumerate(self.graph.node) if each.name == reader.name)
        self.graph.node.insert(place, node)
        inserted = self.graph.node[place]
        self.maker |= dict.fromkeys(inserted.output, inserted)
        self.nodes[inserted.name] = inserted


def attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute of ``node``."""
    return next((item.i for item in node.attribute if item.name == name), default)
