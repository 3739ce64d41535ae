"""What a network has learned, written into a copy of the file that it was made from."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from autocompress.errors import ModelError
from autocompress.export.trainable.network import OnnxNetwork
from autocompress.export.trainable.weight import Weight

_MOST = 2**30  # a bias in kernel integers: as much room is left for the sum that it starts
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm"}


def write_back(proto: ModelProto, network: OnnxNetwork) -> ModelProto:
    """A copy of ``proto`` with the network's integers, scales, biases and floats; it computes what the network does.

    An int32 bias gets the scale that integer kernels take for granted: its input's times its weight's.

    Raises:
        ModelError: ``network`` was made from another file.
    """
    copy = ModelProto()
    copy.CopyFrom(proto)
    file = _Writer(copy)
    for node in copy.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in file.stored:
            weight = network.leaves.weight(node.input[0])
            if weight is not None:
                _write_weight(file, node, weight, _least_scale(file, node, network))
    for node in copy.graph.node:  # after all scales are known
        if node.op_type == "DequantizeLinear" and node.input[0] in file.stored:
            bias = network.leaves.float_parameter(node.input[0])
            if bias is not None:
                _write_bias(file, node, bias.detach().numpy())
    for name in [name for name, value in file.stored.items() if value.dtype.kind == "f"]:
        weight, parameter = network.leaves.weight(name), network.leaves.float_parameter(name)
        trained = parameter if weight is None else weight()
        if trained is not None:
            file.replace(name, trained.detach().numpy())
    return copy


class _Writer:
    """The file's constants, who reads them, and how one is changed for one reader only."""

    def __init__(self, proto: ModelProto) -> None:
        self._graph = proto.graph
        self._items = {item.name: item for item in proto.graph.initializer}
        self._readers = Counter(name for node in proto.graph.node for name in node.input)
        self.stored: dict[str, NDArray[Any]] = {name: numpy_helper.to_array(item) for name, item in self._items.items()}
        self.makers = {output: node for node in proto.graph.node for output in node.output}

    def replace(self, name: str, value: NDArray[Any]) -> None:
        """Give a constant another value, of any shape, for all of its readers."""
        old, new = self.stored[name], np.asarray(value, dtype=self.stored[name].dtype, order="C")
        if np.array_equal(new, old):
            return
        self.stored[name] = new
        self._items[name].CopyFrom(numpy_helper.from_array(self.stored[name], name))

    def put(self, node: NodeProto, place: int, value: NDArray[Any]) -> None:
        """Give one input of one node another value; a constant with other readers stays as it is for them."""
        name, wanted = node.input[place], np.asarray(value, dtype=self.stored[node.input[place]].dtype)
        if np.array_equal(wanted, self.stored[name]):
            return
        if self._readers[name] > 1:
            self._readers[name] -= 1
            fresh = f"{name}_of_{node.output[0]}"
            item = self._graph.initializer.add()
            item.CopyFrom(numpy_helper.from_array(np.asarray(wanted, order="C"), fresh))
            self._items[fresh], self.stored[fresh], self._readers[fresh] = item, wanted, 1
            node.input[place] = fresh
        else:
            self.replace(name, wanted)

    def scale_of(self, tensor: str) -> NDArray[Any] | None:
        """The scale that a tensor was dequantized with."""
        maker = self.makers.get(tensor)
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        return self.stored[maker.input[1]]

    def readers_of(self, tensor: str, place: int) -> list[NodeProto]:
        """Convolutions and products that read ``tensor`` at a place: 1 for the weight, 2 for the bias."""
        found = [node for node in self._graph.node if node.op_type in _WEIGHTED and len(node.input) > place]
        return [node for node in found if node.input[place] == tensor]


def _least_scale(file: _Writer, node: NodeProto, network: OnnxNetwork) -> NDArray[Any] | float:
    """The smallest scale of a weight with which the biases beside it fit into 32 bits; 0 where none is in the way."""
    least: NDArray[Any] | float = 0.0
    for reader in file.readers_of(node.output[0], 1):
        maker = file.makers.get(reader.input[2]) if len(reader.input) > 2 else None
        bias = network.leaves.float_parameter(maker.input[0]) if maker is not None else None
        scale = file.scale_of(reader.input[0])
        if bias is not None and scale is not None:
            least = np.maximum(least, np.abs(bias.detach().numpy() / (scale * _MOST)))
    return least


def _write_weight(file: _Writer, node: NodeProto, weight: Weight, least_scale: NDArray[Any] | float) -> None:
    integers, scales = (tensor.numpy() for tensor in weight.stored())
    old = file.stored[node.input[1]]
    if not (scales == old).all():  # a channel next to nothing beside its bias; clusters keep their integers
        scales = np.copysign(np.maximum(np.abs(scales), least_scale), scales).astype(scales.dtype)
    if old.size == 1 and (scales == scales.flat[0]).all():
        scales = scales[:1].reshape(old.shape)
    elif old.size == 1:
        _set_axis(node, 1 - weight.axis if weight.transposed else weight.axis)
        if len(node.input) > 2 and node.input[2]:
            file.put(node, 2, np.zeros(scales.shape))
    file.replace(node.input[0], integers)
    file.put(node, 1, scales)


def _set_axis(node: NodeProto, axis: int) -> None:
    for item in [item for item in node.attribute if item.name == "axis"]:
        node.attribute.remove(item)
    node.attribute.append(helper.make_attribute("axis", axis))


def _write_bias(file: _Writer, node: NodeProto, bias: NDArray[Any]) -> None:
    readers = file.readers_of(node.output[0], 2)
    scales = [file.scale_of(name) for name in readers[0].input[:2]] if readers else [None, None]
    if scales[0] is None or scales[1] is None:
        raise ModelError(f"an int32 bias needs a quantized input and weight beside it, got {node.name!r} without")
    scale = (scales[0] * scales[1]).reshape(-1)
    old = file.stored[node.input[1]]
    scale = scale.reshape(old.shape) if scale.size == old.size else np.broadcast_to(scale, bias.shape)
    limits = np.iinfo(np.int32)
    integers = np.rint(bias.astype(np.float64) / scale).clip(limits.min, limits.max)
    file.replace(node.input[0], integers)
    if old.size == 1 and scale.size > 1:
        _set_axis(node, 0)
        if len(node.input) > 2 and node.input[2]:
            file.put(node, 2, np.zeros(scale.shape))
    file.put(node, 1, scale)
