"""Everything that is bound by moving numbers: elementwise operators, norms, pooling, reordering, views."""

from itertools import pairwise
from math import prod
from typing import NamedTuple

from autocompress.hardware.kernels.kernel import LEFT_OUT, VIEWS, Kernel, Shape, Tensor
from autocompress.hardware.kernels.paths.description import BLOCK, Description, fill, log

_PAIRWISE = frozenset({"Add", "Mul", "Sub", "Div", "QLinearAdd", "QLinearMul"})
_PAIRWISE_INPUTS = 4  # of integers: a tensor, its scale and zero point, the other tensor
_CASTS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_ALONG_THE_LAST_AXIS = frozenset({"LayerNormalization", "SkipLayerNormalization", "Gelu", "BiasGelu"})
_ALONG_AN_AXIS = frozenset({"Softmax", "QLinearSoftmax"})
_MEANS = frozenset({"ReduceMean", "GlobalAveragePool", "QLinearGlobalAveragePool"})
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool"})
_BYTES = frozenset({"int8", "uint8"})
_JOINS = frozenset({"Concat", "Split", "QLinearConcat"})


class Terms(NamedTuple):
    """Amounts of work; bytes stand where convolutions and products have theirs."""

    starts: float
    elements: float
    rows: float
    window_reads: float
    read_bytes: float
    written_bytes: float
    parts: float  # tensors joined or split
    unused: float = 0.0  # a place that other paths use
    unused_too: float = 0.0


class Features(NamedTuple):
    """The shape; amounts as logarithms."""

    elements: float
    row: float
    rows: float
    made: float
    window: float
    parts: float
    full_inputs: float  # as large as the largest
    row_fill: float
    channels_fill: float
    channels: float
    is_float: float
    read_bytes: float


def move(kernel: Kernel) -> Description:
    """Any operator as numbers; fits all that has no code of a more particular kind."""
    given = [tensor for tensor in kernel.inputs if tensor.dtype]
    largest = max(kernel.inputs, key=_size, default=LEFT_OUT)
    out = kernel.outputs[0] if kernel.outputs else LEFT_OUT
    largest_size, made = largest.size, out.size
    elements = float(max(largest_size, made))
    row = _row_length(kernel, largest.shape, out.shape)
    rows = elements / max(row, 1)
    window = prod(kernel.integers("kernel_shape", ()))
    channels = _channels(kernel, out.shape)
    parts = float(max(len(kernel.outputs), sum(not tensor.stored for tensor in given)))
    read_bytes = sum(tensor.bytes for tensor in given)
    terms = Terms(
        starts=1.0,
        elements=elements,
        rows=rows,
        window_reads=float(made * window),
        read_bytes=read_bytes,
        written_bytes=sum(tensor.bytes for tensor in kernel.outputs),
        parts=parts,
    )
    features = Features(
        elements=log(elements),
        row=log(row),
        rows=log(rows),
        made=log(made),
        window=log(window),
        parts=parts,
        full_inputs=float(sum(tensor.size == largest_size for tensor in given)),
        row_fill=fill(row, BLOCK),
        channels_fill=fill(channels, BLOCK),
        channels=log(channels),
        is_float=float(largest.dtype == "float"),
        read_bytes=log(read_bytes),
    )
    return Description(_path(kernel), terms, features)


def _size(tensor: Tensor) -> int:
    return tensor.size


def _channels(kernel: Kernel, made: Shape) -> int:
    if len(made) < 2:
        return 1
    return made[-1] if kernel.attribute("channels_last", 0) else made[1]


def _path(kernel: Kernel) -> str:
    if kernel.operator in VIEWS:
        return "move_view"
    if kernel.operator == "Transpose":
        turn = _turn(kernel)
        return "turned_transpose" if turn == "each" else f"move_transpose_{turn}"
    if kernel.operator in _ALONG_AN_AXIS and (turned := _turned_axis(kernel)):
        return f"turned_{kernel.op}_{turned}"
    manner = _manner(kernel)
    return f"move_{kernel.op}_{manner}" if manner else f"move_{kernel.op}"


def _manner(kernel: Kernel) -> str:
    """Which code of its operator a kernel runs through, where there are several."""
    if kernel.operator in _PAIRWISE:
        return _spreading(kernel)
    if kernel.operator in _CASTS:
        return "tensor" if kernel.input(1).size == 1 else "channels"
    if kernel.operator in _REDUCTIONS:
        return _reduced_side(kernel)
    if kernel.operator == "Resize":
        return str(kernel.attribute("mode", "nearest"))
    return "bytes" if kernel.operator in _POOLS and kernel.input(0).dtype in _BYTES else ""


def _reduced_side(kernel: Kernel) -> str:
    """Whether a reduction sums within rows, or rows with each other."""
    last = kernel.input(0).shape[-1:]
    keeps_last = bool(kernel.outputs) and kernel.outputs[0].shape[-1:] == last
    return "outer" if keeps_last and last != (1,) else "inner"


def _turned_axis(kernel: Kernel) -> str:
    """Nothing for the last axis. Any other is exchanged with it and back, which is fast only where it lies beside."""
    shape = kernel.input(0).shape
    behind = len(shape) - 1 - _axis(kernel, shape)
    return "" if behind <= 0 else "beside" if behind == 1 else "far"


def _axis(kernel: Kernel, shape: Shape) -> int:
    return kernel.integer("axis", -1) % max(1, len(shape))


def _spreading(kernel: Kernel) -> str:
    """Whether an operator on pairs of numbers has to repeat one of its inputs, and how."""
    shapes = [tensor.shape for tensor in kernel.inputs if tensor.shape or not tensor.stored][:_PAIRWISE_INPUTS]
    many = [shape for shape in shapes if prod(shape) > 1]
    if len(many) < 2:
        return "scalar"
    return "same" if len(set(many)) == 1 else "spread"


def _turn(kernel: Kernel) -> str:
    """How a transposition moves memory: axes that stay together count as one, those of extent 1 not at all.

    The runtime has code for one axis that moves, those of extent 1 counted, too. Anything else goes through each number
    or, where the last axes stay, through pieces (onnxruntime/core/providers/cpu/tensor/transpose.cc).
    """
    shape = kernel.input(0).shape
    every = _order(kernel, shape)
    order = [axis for axis in every if shape[axis] > 1]
    real = {axis: place for place, axis in enumerate(sorted(order))}  # without axes of 1
    starts = [*order[:1], *(axis for before, axis in pairwise(order) if real[axis] != real[before] + 1)]
    if len(starts) < 2:
        return "none"
    if not _moves_one_axis(every):
        return "pieces" if every[-1] == len(every) - 1 else "each"
    ranks = {axis: rank for rank, axis in enumerate(sorted(starts))}
    return "".join(str(ranks[axis]) for axis in starts)


def _moves_one_axis(order: Shape) -> bool:
    """Whether all others keep their order; axes that move together count as one."""
    order = (*order[:1], *(axis for before, axis in pairwise(order) if axis != before + 1))
    return any(_is_rising(order[:place] + order[place + 1 :]) for place in range(len(order)))


def _is_rising(order: Shape) -> bool:
    return all(one < other for one, other in pairwise(order))


def _order(kernel: Kernel, shape: Shape) -> tuple[int, ...]:
    return kernel.integers("perm", tuple(reversed(range(len(shape)))))


def _row_length(kernel: Kernel, shape: Shape, made: Shape) -> int:
    """The run of numbers that is treated as one: what a norm spans, what is copied in one piece."""
    if not shape:
        return 1
    if kernel.operator in _ALONG_THE_LAST_AXIS | _ALONG_AN_AXIS:
        return shape[_axis(kernel, shape) if kernel.operator in _ALONG_AN_AXIS else -1]
    if kernel.operator in _MEANS:
        return max(1, prod(shape) // max(1, prod(made)))
    if kernel.operator in _JOINS:
        return _joined_length(kernel)
    if kernel.operator == "Transpose":
        return _kept_length(kernel, shape)
    smallest = min((prod(t.shape) for t in kernel.inputs if t.dtype and t.size > 1), default=prod(shape))
    return smallest if smallest < prod(shape) else shape[-1]


def _joined_length(kernel: Kernel) -> int:
    """What the parts have between two numbers of another part, on average."""
    parts, wholes = kernel.inputs, kernel.outputs
    if kernel.operator == "Split":
        parts, wholes = wholes, parts
    whole = wholes[0].shape if wholes else ()
    count = sum(len(part.shape) == len(whole) for part in parts)
    return max(1, prod(whole[kernel.integer("axis", 0) :]) // max(1, count))


def _kept_length(kernel: Kernel, shape: Shape) -> int:
    """What the axes hold that stay at the end."""
    order = kernel.integers("perm", ())
    kept = 1
    for place in range(len(order) - 1, -1, -1):
        if order[place] != place:
            break
        kept *= shape[place]
    return kept
