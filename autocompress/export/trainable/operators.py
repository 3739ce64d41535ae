"""What each ONNX operator is in torch: the table, and the operators that compute."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from autocompress.errors import ModelError
from autocompress.export.trainable import moving, recurrent, windows
from autocompress.export.trainable.node import Function, Node

_SIXTH = 1 / 6


@dataclass(frozen=True, kw_only=True)
class Operator:
    """How a node becomes a function of its tensors.

    ``static`` inputs are read from the file when the function is built and are not passed to it. ``fixed`` ones are
    passed, but never trained: statistics and initial states.
    """

    build: Callable[[Node], Function]
    static: tuple[int, ...] = ()
    fixed: tuple[int, ...] = ()


def operator_of(op: str, name: str) -> Operator:
    """The operator's entry.

    Raises:
        ModelError: the operator is not in the table.
    """
    if op not in OPERATORS:
        raise ModelError(
            f"node {name!r} is a {op}, which has no counterpart in torch here; train this model before it is exported"
        )
    return OPERATORS[op]


def _plain(function: Function) -> Operator:
    return Operator(build=lambda _node: function)


def _gemm(node: Node) -> Function:
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    trans_a, trans_b = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    is_linear = alpha == beta == 1 and not trans_a and (len(node.shapes) < 3 or len(node.shape(2)) == 1)

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight if trans_b else weight.t(), bias)

    def general(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = alpha * ((x.t() if trans_a else x) @ (weight.t() if trans_b else weight))
        return product if bias is None else product + beta * bias

    return linear if is_linear else general


def _clip(node: Node) -> Function:
    low, high = node.constant(1), node.constant(2)
    low_value = node.get("min", None) if low is None else float(low)
    high_value = node.get("max", None) if high is None else float(high)
    return partial(torch.clamp, min=low_value, max=high_value)


def _hard_sigmoid(node: Node) -> Function:
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    if abs(alpha - _SIXTH) < 1e-6 and beta == 0.5:
        return F.hardsigmoid
    return lambda x: (alpha * x + beta).clamp(0, 1)


def _gelu(node: Node) -> Function:
    return partial(F.gelu, approximate=node.get("approximate", "none"))


def _leaky_relu(node: Node) -> Function:
    return partial(F.leaky_relu, negative_slope=float(node.get("alpha", 0.01)))


def _elu(node: Node) -> Function:
    return partial(F.elu, alpha=float(node.get("alpha", 1.0)))


def _softmax(function: Function) -> Operator:
    return Operator(build=lambda node: partial(function, dim=node.axis(-1)))


def _cast(node: Node) -> Function:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}  # of onnx.TensorProto
    if node.get("to", 1) not in kinds:
        raise node.refuse("a cast goes to float32, int32, int64 or bool")
    return partial(_to, dtype=kinds[node.get("to", 1)])


def _to(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype is dtype else x.to(dtype)


def _fold(function: Function) -> Operator:
    """Sums, products and extremes of any number of inputs."""

    def over_all(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)  # type: ignore[assignment]
        return first

    return _plain(over_all)


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def build(node: Node) -> Function:
        axes = node.axes(1)
        if not axes:
            if node.get("noop_with_empty_axes", 0):
                return lambda x: x
            raise node.refuse("it reduces over the batch")
        return partial(function, dim=tuple(axes), keepdim=bool(node.get("keepdims", 1)))

    return Operator(build=build, static=(1,))


def _layer_norm(node: Node) -> Function:
    shape, eps = node.shape()[node.axis(-1) :], float(node.get("epsilon", 1e-5))

    def normalize(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.layer_norm(x, shape, weight.expand(shape), None if bias is None else bias.expand(shape), eps)

    return normalize


def _instance_norm(node: Node) -> Function:
    eps = float(node.get("epsilon", 1e-5))
    return lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias, eps=eps)


def _group_norm(node: Node) -> Function:
    groups, eps = int(node.get("num_groups", 1)), float(node.get("epsilon", 1e-5))
    return lambda x, weight, bias: F.group_norm(x, groups, weight, bias, eps)


def _batch_norm(node: Node) -> Function:
    node.require("training_mode", (0,))
    eps = float(node.get("epsilon", 1e-5))

    def normalize(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        along = (-1, *[1] * (x.dim() - 2))
        factor = weight * (variance + eps).rsqrt()
        return x * factor.reshape(along) + (bias - mean * factor).reshape(along)

    return normalize


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


_ELEMENTWISE: dict[str, Function] = {
    "Abs": torch.abs, "Cos": torch.cos, "Erf": torch.erf, "Exp": torch.exp, "HardSwish": F.hardswish,
    "Identity": lambda x: x, "Dropout": lambda x, *_: x, "Log": torch.log, "MatMul": torch.matmul, "Mish": F.mish,
    "Neg": torch.neg, "Not": torch.logical_not, "PRelu": _prelu, "Reciprocal": torch.reciprocal, "Relu": torch.relu,
    "Sigmoid": torch.sigmoid, "Sin": torch.sin, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt,
    "Tanh": torch.tanh, "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Pow": torch.pow,
    "Where": torch.where, "Equal": torch.eq, "Greater": torch.gt, "Less": torch.lt, "And": torch.logical_and,
    "Or": torch.logical_or,
}  # fmt: skip

OPERATORS: dict[str, Operator] = {
    **{op: _plain(function) for op, function in _ELEMENTWISE.items()},
    "Sum": _fold(torch.add),
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Gemm": Operator(build=_gemm),
    "Clip": Operator(build=_clip, static=(1, 2)),
    "HardSigmoid": Operator(build=_hard_sigmoid),
    "Gelu": Operator(build=_gelu),
    "LeakyRelu": Operator(build=_leaky_relu),
    "Elu": Operator(build=_elu),
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Cast": Operator(build=_cast),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "ReduceL2": _reduce(torch.linalg.vector_norm),
    "LayerNormalization": Operator(build=_layer_norm),
    "InstanceNormalization": Operator(build=_instance_norm),
    "GroupNormalization": Operator(build=_group_norm),
    "BatchNormalization": Operator(build=_batch_norm, fixed=(3, 4)),
    "Conv": Operator(build=windows.conv),
    "ConvTranspose": Operator(build=windows.conv_transpose),
    "MaxPool": Operator(build=windows.max_pool),
    "AveragePool": Operator(build=windows.average_pool),
    "GlobalAveragePool": Operator(build=windows.global_average),
    "GlobalMaxPool": Operator(build=windows.global_max),
    "Resize": Operator(build=windows.resize, static=(1, 2, 3)),
    "Reshape": Operator(build=moving.reshape, static=(1,)),
    "Flatten": Operator(build=moving.flatten),
    "Transpose": Operator(build=moving.transpose),
    "Squeeze": Operator(build=moving.squeeze, static=(1,)),
    "Unsqueeze": Operator(build=moving.unsqueeze, static=(1,)),
    "Expand": Operator(build=moving.expand, static=(1,)),
    "Concat": Operator(build=moving.concat),
    "Split": Operator(build=moving.split, static=(1,)),
    "Slice": Operator(build=moving.slice_, static=(1, 2, 3, 4)),
    "Gather": Operator(build=moving.gather),
    "Pad": Operator(build=moving.pad, static=(1, 2, 3)),
    "LSTM": Operator(build=recurrent.lstm, fixed=(5, 6)),
    "GRU": Operator(build=recurrent.gru, fixed=(5,)),
}
