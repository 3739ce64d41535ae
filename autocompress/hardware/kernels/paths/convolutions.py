"""Convolutions: blocked, plain and of 8-bit integers; over images and series.

Blocked are those that ONNX Runtime computes on blocks of channels (operators of the domain ``nchwc``). Plain ones
become a product of matrices, for which the input is unfolded unless the window is a single tap.
"""

from math import ceil, prod
from typing import NamedTuple

from autocompress.hardware.kernels.kernel import Kernel, Shape, Tensor
from autocompress.hardware.kernels.paths.description import BLOCK, Description, fill, log

WEIGHT_OF_INTEGERS = 3  # the input that holds it, behind the scale and the zero point of the activation
FILTERS_AT_ONCE = 4 * BLOCK
POSITIONS_AT_ONCE = 6
_ACTIVATIONS = {"": 0.0, "Relu": 1.0, "Clip": 1.0}  # others compute a function
_OTHER_ACTIVATION = 2.0


class Convolution(NamedTuple):
    """What a convolution's shapes say, whatever the layout that they are in."""

    x: Tensor
    weight: Tensor
    out: Tensor
    x_extents: Shape
    extents: Shape
    window: Shape
    taps: int
    c_in: int
    c_out: int
    group: int
    positions: int  # of the output, all samples together
    filters: int  # of one group
    depth: int  # channels that a filter sees
    is_integer: bool
    is_blocked: bool

    @property
    def is_depthwise(self) -> bool:
        """Whether code for one channel at a time runs; that for integers knows one filter a channel only."""
        return self.group > 1 and self.depth == 1 and (self.filters == 1 or not self.is_integer)


class Terms(NamedTuple):
    """Amounts of work; depthwise in integers, channels beyond the last whole vector have code of their own."""

    starts: float
    vector_steps: float  # depthwise in integers: those of whole vectors
    macs: float  # depthwise in integers: those of the channels left over
    weight_sweeps: float  # rows of the output for which the weights are gone through
    read_bytes: float  # with those of each tensor that is added on the way
    written_bytes: float
    weight_bytes: float
    unfolded: float  # pieces that are copied together: numbers, of integers all channels of a group at one tap
    groups: float
    group_rows: float  # positions of each group that is computed alone, each a product of its own


class Features(NamedTuple):
    """The shape; amounts as logarithms."""

    positions: float
    width: float
    depth: float
    filters: float
    groups: float
    taps: float
    window_width: float
    stride: float
    block_fill: float
    filters_fill: float
    depth_fill: float
    width_fill: float
    read_bytes: float
    weight_bytes: float
    added: float
    is_padded: float
    activation: float
    x_positions: float
    whole_vectors: float
    left_over: float
    channels_left_over: float
    evenness: float  # 0: odd number of filters, 1: whole fours, 2: whole eights
    is_signed: float
    extents: float  # 1: a series, 2: an image
    patch: float  # what a filter sees at one position
    patch_left_over: float
    patch_fill: float


def convolution(kernel: Kernel) -> Description:
    """A convolution as numbers."""
    conv = _read(kernel)
    layout = "int8" if conv.is_integer else "blocked" if conv.is_blocked else "plain"
    kind = _kind(conv)
    added = sum(bool(t.dtype) and len(t.shape) == len(conv.x.shape) and not t.stored for t in kernel.inputs[1:])
    splits_channels = conv.is_integer and kind.startswith("depthwise")
    vectors = float(conv.positions * (conv.c_out // BLOCK) * conv.taps)
    left_over = float(conv.positions * (conv.c_out % BLOCK) * conv.taps)
    read_bytes, weight_bytes, looped = conv.x.bytes, conv.weight.bytes, _looped_groups(conv)
    terms = Terms(
        starts=1.0,
        vector_steps=vectors if splits_channels else _vector_steps(conv),
        macs=left_over if splits_channels else float(conv.positions * conv.c_out * conv.depth * conv.taps),
        weight_sweeps=_weight_sweeps(conv),
        read_bytes=read_bytes + conv.out.bytes * added,
        written_bytes=conv.out.bytes,
        weight_bytes=weight_bytes,
        unfolded=_unfolded(conv),
        groups=looped,
        group_rows=conv.positions * looped if looped > 1 else 0.0,
    )
    width, filters = conv.extents[-1], conv.filters
    features = Features(
        positions=log(conv.positions),
        width=log(width),
        depth=log(conv.depth),
        filters=log(filters),
        groups=log(conv.group),
        taps=log(conv.taps),
        window_width=float(conv.window[-1]),
        stride=float(max(kernel.integers("strides", ()), default=1)),
        block_fill=fill(filters, BLOCK),
        filters_fill=fill(filters, FILTERS_AT_ONCE),
        depth_fill=fill(conv.depth, 4),
        width_fill=fill(width, POSITIONS_AT_ONCE),
        read_bytes=log(read_bytes),
        weight_bytes=log(weight_bytes),
        added=float(added),
        is_padded=float(sum(kernel.integers("pads", ())) > 0),
        activation=_ACTIVATIONS.get(str(kernel.attribute("activation", "")), _OTHER_ACTIVATION),
        x_positions=log(prod(conv.x_extents)),
        whole_vectors=log(vectors),
        left_over=log(left_over),
        channels_left_over=float((conv.c_out if kind.startswith("depthwise") else filters) % BLOCK),
        evenness=float(filters % 4 == 0) + float(filters % 8 == 0),
        is_signed=float(conv.x.dtype == "int8"),
        extents=float(len(conv.window)),
        patch=log(conv.depth * conv.taps),
        patch_left_over=float(conv.depth * conv.taps % 4),
        patch_fill=fill(conv.depth * conv.taps, BLOCK),
    )
    return Description(f"conv_{layout}_{kind}", terms, features)


def _read(kernel: Kernel) -> Convolution:
    is_integer = kernel.operator == "QLinearConv"
    x, weight, out = kernel.input(0), kernel.input(WEIGHT_OF_INTEGERS if is_integer else 1), kernel.outputs[0]
    if is_integer and kernel.attribute("channels_last", 0) == 1:
        (*x_extents, c_in), (*extents, c_out) = x.shape[1:], out.shape[1:]
    else:
        (c_in, *x_extents), (c_out, *extents) = x.shape[1:], out.shape[1:]
    window, group = weight.shape[2:], kernel.integer("group", 1)
    return Convolution(
        x=x,
        weight=weight,
        out=out,
        x_extents=tuple(x_extents),
        extents=tuple(extents),
        window=window,
        taps=prod(window),
        c_in=c_in,
        c_out=c_out,
        group=group,
        positions=out.shape[0] * prod(extents),
        filters=max(1, c_out // group),
        depth=max(1, weight.shape[1]),
        is_integer=is_integer,
        is_blocked=kernel.op.startswith("nchwc."),
    )


def _kind(conv: Convolution) -> str:
    """Which code of its layout a convolution runs through."""
    if conv.group == 1:
        if conv.is_blocked and conv.c_in < BLOCK:
            return "first"  # reads an image that is not in blocks
        return "pointwise" if conv.taps == 1 else "dense"
    if conv.is_depthwise:
        return "depthwise_tail" if conv.is_integer and conv.c_out % BLOCK else "depthwise"
    return "odd_grouped" if conv.filters % BLOCK else "grouped"


def _vector_steps(conv: Convolution) -> float:
    """Multiply-accumulates of whole vectors, the last one padded; depthwise, a vector holds a channel of each group."""
    if conv.is_depthwise:
        return float(conv.positions * ceil(conv.c_out / BLOCK) * conv.taps)
    return float(conv.positions * conv.group * ceil(conv.filters / BLOCK) * conv.depth * conv.taps)


def _looped_groups(conv: Convolution) -> float:
    """Groups that are computed one after the other; blocked and integer code takes channels of many groups at once."""
    at_once = conv.is_depthwise and (conv.is_blocked or conv.is_integer)
    return 1.0 if at_once else float(conv.group)


def _weight_sweeps(conv: Convolution) -> float:
    rows = conv.positions // max(1, conv.extents[-1])
    if conv.is_depthwise:
        return float(rows * ceil(conv.c_out / FILTERS_AT_ONCE) * conv.window[0])
    return float(rows * ceil(conv.filters / FILTERS_AT_ONCE) * conv.group * conv.depth * conv.window[0])


def _unfolded(conv: Convolution) -> float:
    """What a matrix is made of from the input: numbers; of integers, whose channels lie side by side, runs of them."""
    if conv.is_blocked or conv.taps == 1:
        return 0.0
    if conv.is_integer:
        return conv.positions * conv.taps * _looped_groups(conv)
    return float(conv.positions * conv.depth * conv.group * conv.taps)
