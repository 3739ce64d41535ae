"""Operators that slide a window over positions: convolutions, pools, resizing."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from autocompress.export.trainable.node import Function, Node

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOL: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def conv(node: Node) -> Function:
    """Convolutions of one to three dimensions."""
    rank = _rank(node)
    begin, end = _pads(node, rank)
    run = partial(
        _CONV[rank],
        stride=_per_axis(node, "strides", rank),
        padding=begin if begin == end else (0,) * rank,
        dilation=_per_axis(node, "dilations", rank),
        groups=int(node.get("group", 1)),
    )
    if begin == end:
        return run
    uneven = _for_torch(begin, end)
    return lambda x, weight, bias=None: run(F.pad(x, uneven), weight, bias)


def conv_transpose(node: Node) -> Function:
    """Transposed convolutions with even padding."""
    rank = _rank(node)
    begin, end = _pads(node, rank)
    if begin != end or node.get("output_shape", None) is not None:
        raise node.refuse("its padding must be the same on both sides")
    more, dilation = _per_axis(node, "output_padding", rank, 0), _per_axis(node, "dilations", rank)
    stride, groups = _per_axis(node, "strides", rank), int(node.get("group", 1))
    run = _CONV_TRANSPOSE[rank]
    return lambda x, weight, bias=None: run(x, weight, bias, stride, begin, more, groups, dilation)


def max_pool(node: Node) -> Function:
    """The largest value in each window."""
    rank = _rank(node)
    begin, end = _pads(node, rank)
    run = partial(
        _MAX_POOL[rank],
        kernel_size=tuple(node.attributes["kernel_shape"]),
        stride=_per_axis(node, "strides", rank),
        padding=begin if begin == end else 0,
        dilation=_per_axis(node, "dilations", rank),
        ceil_mode=bool(node.get("ceil_mode", 0)),
    )
    if begin == end:
        return run
    uneven = _for_torch(begin, end)
    return lambda x: run(F.pad(x, uneven, value=-torch.inf))


def average_pool(node: Node) -> Function:
    """The mean of each window."""
    rank = _rank(node)
    begin, end = _pads(node, rank)
    if begin != end:
        raise node.refuse("its padding must be the same on both sides")
    node.require("dilations", ([1] * rank,))
    return partial(
        _AVERAGE_POOL[rank],
        kernel_size=tuple(node.attributes["kernel_shape"]),
        stride=_per_axis(node, "strides", rank),
        padding=begin,
        ceil_mode=bool(node.get("ceil_mode", 0)),
        count_include_pad=bool(node.get("count_include_pad", 0)),
    )


def global_average(node: Node) -> Function:
    """The mean over all positions."""
    return partial(torch.mean, dim=tuple(range(2, len(node.shape()))), keepdim=True)


def global_max(node: Node) -> Function:
    """The largest value over all positions."""
    return partial(torch.amax, dim=tuple(range(2, len(node.shape()))), keepdim=True)


def resize(node: Node) -> Function:
    """Nearest and linear interpolation, where ONNX's coordinates are torch's."""
    linear = {3: "linear", 4: "bilinear", 5: "trilinear"}.get(len(node.shape()))
    kind = (node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel"))
    if kind == ("nearest", "asymmetric") and node.get("nearest_mode", "round_prefer_floor") == "floor":
        run = partial(F.interpolate, mode="nearest")
    elif kind[0] == "linear" and kind[1] in {"half_pixel", "pytorch_half_pixel", "align_corners"} and linear:
        run = partial(F.interpolate, mode=linear, align_corners=kind[1] == "align_corners")
    else:
        raise node.refuse(f"torch has no such interpolation: {' '.join(kind)}")
    sizes, scales = node.constant(3), node.constant(2)
    if sizes is not None:
        return partial(run, size=tuple(int(size) for size in sizes[2:]))
    if scales is None:
        raise node.refuse("its scales must be constant")
    return partial(run, scale_factor=tuple(float(scale) for scale in scales[2:]))


def _rank(node: Node) -> int:
    rank = len(node.shape()) - 2
    if rank not in _CONV:
        raise node.refuse(f"it must have 1 to 3 dimensions, got {rank}")
    return rank


def _pads(node: Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    node.require("auto_pad", ("NOTSET", "VALID"))
    pads = [int(pad) for pad in node.get("pads", [0] * 2 * rank)]
    return tuple(pads[:rank]), tuple(pads[rank:])


def _per_axis(node: Node, attribute: str, rank: int, default: int = 1) -> tuple[int, ...]:
    return tuple(int(value) for value in node.get(attribute, [default] * rank))


def _for_torch(begin: tuple[int, ...], end: tuple[int, ...]) -> list[int]:
    """``F.pad`` counts from the last axis."""
    return [pad for pair in zip(reversed(begin), reversed(end), strict=True) for pad in pair]
