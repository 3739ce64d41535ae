"""A network in the making: layers with random weights, in the operators that the exporter writes."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from autocompress.task import Array

Shape = tuple[int, ...]
OPSET, IR_VERSION = 20, 10
INPUT, OUTPUT = "input", "output"
# A prime number of them, so that rows of a weight differ.
_NUMBERS = np.random.default_rng(0).standard_normal(1021).astype(np.float32)


class Activation(StrEnum):
    """Nonlinearities, by what they are called in networks."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    HARD_SWISH = "hard_swish"
    SILU = "silu"
    GELU = "gelu"
    SIGMOID = "sigmoid"


def repeated(shape: Shape, place: int, deviation: float) -> Array:
    """Weights: a few random numbers over and over, which are quickly drawn and compress well.

    ``place`` says where among them to begin, so that two weights differ.
    """
    return np.resize(np.roll(_NUMBERS, place) * np.float32(deviation), shape)


@dataclass(frozen=True)
class Value:
    """A tensor of the network."""

    name: str
    shape: Shape

    @property
    def channels(self) -> int:
        """Width of an image ``[n, c, h, w]`` or a series ``[n, c, length]``."""
        return self.shape[1]

    @property
    def side(self) -> int:
        """Smallest extent of an image or a series."""
        return min(self.shape[2:])


class Net:
    """Adds nodes in order; each method returns what its layer makes.

    ``factored``: the share of convolutions and linear layers that become two of a low rank.
    """

    def __init__(self, rng: np.random.Generator, shape: Shape, factored: float = 0.0) -> None:
        self.rng = rng
        self.factored = factored
        self.input = Value(INPUT, shape)
        self._nodes: list[NodeProto] = []
        self._stored: list[TensorProto] = []

    @property
    def stored_bytes(self) -> int:
        """Of all weights so far."""
        return sum(len(each.raw_data) for each in self._stored)

    def model(self, last: Value) -> ModelProto:
        """The network up to ``last``."""
        self._nodes.append(helper.make_node("Identity", [last.name], [OUTPUT], name="end"))
        graph = helper.make_graph(
            self._nodes,
            "network",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, self.input.shape)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, last.shape)],
            self._stored,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def node(self, operator: str, inputs: list[Value | str], shape: Shape, **attributes: object) -> Value:
        """The only output of one node."""
        return self.several(operator, inputs, [shape], **attributes)[0]

    def several(
        self, operator: str, inputs: list[Value | str], shapes: list[Shape], **attributes: object
    ) -> list[Value]:
        """The outputs of one node."""
        number = len(self._nodes)
        made = [Value(f"v{number}.{place}", shape) for place, shape in enumerate(shapes)]
        names = [each if isinstance(each, str) else each.name for each in inputs]
        self._nodes.append(
            helper.make_node(operator, names, [value.name for value in made], name=f"n{number}", **attributes)
        )
        return made

    def constant(self, array: Array) -> str:
        """The name of a stored array."""
        name = f"c{len(self._stored)}"
        self._stored.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def weight(self, *shape: int) -> str:
        """Random weights that keep activations near the size that they had."""
        fan_in = math.prod(shape[1:]) or 1
        return self.constant(repeated(shape, len(self._stored), math.sqrt(2 / fan_in)))

    def vector(self, length: int, around: float = 0.0) -> str:
        """A bias or a scale."""
        return self.constant((around + 0.1 * self.rng.standard_normal(length)).astype(np.float32))

    def ints(self, *values: int) -> str:
        """A shape, or axes."""
        return self.constant(np.array(values, np.int64))

    def conv(
        self,
        x: Value,
        c_out: int,
        kernel: int | tuple[int, ...] = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: Activation = Activation.NONE,
    ) -> Value:
        """A convolution with bias that keeps the extent at stride 1; also over series."""
        if groups == 1 and self._is_factored():
            rank = self._rank(x.channels, c_out)
            x, kernel, stride = self._conv(x, rank, kernel, stride, has_bias=False), 1, 1
        return self.act(self._conv(x, c_out, kernel, stride, groups), act)

    def _conv(
        self,
        x: Value,
        c_out: int,
        kernel: int | tuple[int, ...],
        stride: int,
        groups: int = 1,
        *,
        has_bias: bool = True,
    ) -> Value:
        extents = x.shape[2:]
        window = (kernel,) * len(extents) if isinstance(kernel, int) else kernel
        pads = [k // 2 for k in window]
        sizes = tuple((n + 2 * p - k) // stride + 1 for n, p, k in zip(extents, pads, window, strict=True))
        return self.node(
            "Conv",
            [x, self.weight(c_out, x.channels // groups, *window), *([self.vector(c_out)] if has_bias else [])],
            (x.shape[0], c_out, *sizes),
            kernel_shape=list(window),
            strides=[stride] * len(window),
            pads=pads * 2,
            dilations=[1] * len(window),
            group=groups,
        )

    def act(self, x: Value, kind: Activation) -> Value:
        """A nonlinearity."""
        match kind:
            case Activation.NONE:
                return x
            case Activation.RELU6:
                return self.node("Clip", [x, self._scalar(0.0), self._scalar(6.0)], x.shape)
            case Activation.SILU:
                return self.node("Mul", [x, self.node("Sigmoid", [x], x.shape)], x.shape)
            case _:
                operator = {"relu": "Relu", "hard_swish": "HardSwish", "gelu": "Gelu", "sigmoid": "Sigmoid"}[kind]
                return self.node(operator, [x], x.shape)

    def add(self, x: Value, y: Value, act: Activation = Activation.NONE) -> Value:
        """The sum of two values of one shape."""
        return self.act(self.node("Add", [x, y], x.shape), act)

    def scaled(self, x: Value, by: Value | str) -> Value:
        """A product with something that broadcasts to the shape of ``x``."""
        return self.node("Mul", [x, by], x.shape)

    def concat(self, parts: list[Value], axis: int = 1) -> Value:
        """Values one after the other along ``axis``."""
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self.node("Concat", list(parts), tuple(shape), axis=axis)

    def pool(self, x: Value, kernel: int = 2, stride: int = 2, *, largest: bool = True) -> Value:
        """Pooling of windows."""
        pad = (kernel - 1) // 2
        side = tuple((n + 2 * pad - kernel) // stride + 1 for n in x.shape[2:])
        operator = "MaxPool" if largest else "AveragePool"
        return self.node(
            operator, [x], (*x.shape[:2], *side), kernel_shape=[kernel] * len(side), strides=[stride] * len(side),
            pads=[pad] * 2 * len(side),
        )  # fmt: skip

    def mean(self, x: Value) -> Value:
        """The mean over all positions, extents of 1 kept."""
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
        if self.rng.random() < 0.5:
            return self.node("GlobalAveragePool", [x], shape)
        return self.node("ReduceMean", [x, self.ints(*range(2, len(x.shape)))], shape, keepdims=1)

    def reshape(self, x: Value, *shape: int) -> Value:
        """The same numbers in another shape."""
        return self.node("Reshape", [x, self.ints(*shape)], shape)

    def transpose(self, x: Value, *order: int) -> Value:
        """Axes in another order."""
        return self.node("Transpose", [x], tuple(x.shape[i] for i in order), perm=list(order))

    def linear(self, x: Value, width: int, act: Activation = Activation.NONE) -> Value:
        """A linear layer over the last axis: Gemm on rows, MatMul and Add on more axes."""
        if self._is_factored():
            x = self._linear(x, self._rank(x.shape[-1], width))
        return self.act(self._linear(x, width), act)

    def _linear(self, x: Value, width: int) -> Value:
        inner = x.shape[-1]
        if len(x.shape) == 2:
            return self.node("Gemm", [x, self.weight(width, inner), self.vector(width)], (x.shape[0], width), transB=1)
        made = self.node("MatMul", [x, self.weight(inner, width)], (*x.shape[:-1], width))
        return self.node("Add", [made, self.vector(width)], made.shape)

    def _is_factored(self) -> bool:
        return bool(self.factored and self.rng.random() < self.factored)

    def _rank(self, inner: int, width: int) -> int:
        """Evenly on a logarithmic scale, from 1 to three quarters of what the layer has."""
        return max(1, round(float(np.exp(self.rng.uniform(0.0, np.log(max(1.0, 0.75 * min(inner, width))))))))

    def layer_norm(self, x: Value) -> Value:
        """Normalization over the last axis."""
        width = x.shape[-1]
        return self.node(
            "LayerNormalization", [x, self.vector(width, 1.0), self.vector(width)], x.shape, axis=-1, epsilon=1e-6
        )

    def norm(self, x: Value) -> Value:
        """Normalization with kept statistics, where it does not follow a convolution and so stays a layer."""
        around = [self.vector(x.channels, mean) for mean in (1.0, 0.0, 0.0, 1.0)]
        return self.node("BatchNormalization", [x, *around], x.shape, epsilon=1e-5)

    def larger(self, x: Value, size: Shape) -> Value:
        """Upsampling to the extents ``size``, whole multiples of those of ``x``: nearest neighbours or interpolated."""
        scales = np.array([1, 1, *(new / old for new, old in zip(size, x.shape[2:], strict=True))], np.float32)
        mode = str(self.rng.choice(["nearest", "linear", "cubic"], p=[0.6, 0.3, 0.1]))
        coordinates = "asymmetric" if mode == "nearest" else "half_pixel"
        return self.node(
            "Resize", [x, "", self.constant(scales)], (*x.shape[:2], *size),
            mode=mode, coordinate_transformation_mode=coordinates, nearest_mode="floor",
        )  # fmt: skip

    def head(self, x: Value, classes: int, hidden: int = 0, act: Activation = Activation.NONE) -> Value:
        """Classes from an image or a series; through ``hidden`` channels of the means, as MobileNetV3 has them."""
        pooled = self.mean(x)
        if hidden:
            pooled = self.conv(pooled, hidden, act=act)
        return self.linear(self.reshape(pooled, pooled.shape[0], pooled.channels), classes)

    def _scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))
