"""Nodes that make codes and masks from the bytes that they are stored in."""

import numpy as np
from onnx import TensorProto

from autocompress.export.graph_builder import GraphBuilder
from autocompress.linalg.bit_planes import pack, plane_widths, shifts_of
from autocompress.linalg.gaps import best_bits, gap_codes
from autocompress.task import Array

_MORE_NODES_BYTES = 330  # of the nodes that decode gaps, over those that decode a bitmap


def unpacked(build: GraphBuilder, codes: Array, bits: int) -> str:
    """The codes as uint8 ``[n]``, from their bit planes."""
    result, n = "", len(codes)
    for plane, width in zip(pack(codes, bits), plane_widths(bits), strict=True):
        parts = _unpacked_plane(build, plane, width, n)
        if result:
            higher = build.node("BitShift", result, build.constant(np.array([width], np.uint8)), direction="LEFT")
            parts = build.node("BitwiseOr", higher, parts)
        result = parts
    return result


def reshaped(build: GraphBuilder, tensor: str, shape: tuple[int, ...]) -> str:
    """The tensor in another shape."""
    return build.node("Reshape", tensor, build.constant(np.array(shape, np.int64)))


def numbered(build: GraphBuilder, kept: Array) -> str:
    """Which kept place each place is, counted from 1; 0 for those that are not: int32 of the shape of ``kept``.

    From a bitmap, or from the distances between kept places, whichever is smaller: the latter below about a quarter.
    """
    bits, gap_bytes = best_bits(kept)
    if kept.any() and gap_bytes + _MORE_NODES_BYTES < kept.size / 8:
        return reshaped(build, _numbered_by_gaps(build, gap_codes(kept, bits), bits, kept.size), kept.shape)
    mask = build.node("Cast", unpacked(build, kept.reshape(-1), 1), to=TensorProto.INT32)
    return reshaped(build, build.node("Mul", _summed(build, mask), mask), kept.shape)


def _numbered_by_gaps(build: GraphBuilder, codes: Array, bits: int, n: int) -> str:
    """Each code moves on by its gap; all but the highest one also take the place that follows."""
    skips = build.node("Cast", unpacked(build, codes, bits), to=TensorProto.INT32)
    keeps = build.node("Less", skips, build.constant(np.array([2**bits - 1], np.int32)))
    keeps = build.node("Cast", keeps, to=TensorProto.INT32)
    ends = _summed(build, build.node("Add", skips, keeps))
    places = build.node("Sub", ends, build.constant(np.array([1], np.int32)))
    numbers = build.node("Mul", _summed(build, keeps), keeps)
    nothing = build.node("Expand", build.constant(np.array([0], np.int32)), build.constant(np.array([n], np.int64)))
    return build.node("ScatterElements", nothing, places, numbers)


def _summed(build: GraphBuilder, numbers: str) -> str:
    return build.node("CumSum", numbers, build.constant(np.array(0, np.int32)))


def _unpacked_plane(build: GraphBuilder, plane: Array, width: int, n: int) -> str:
    if width == 8:
        return build.constant(plane)
    shifts, mask = build.constant(shifts_of(width)), build.constant(np.array([2**width - 1], np.uint8))
    bits = build.node("BitShift", build.constant(plane[:, None]), shifts, direction="RIGHT")
    parts = reshaped(build, build.node("BitwiseAnd", bits, mask), (-1,))
    if len(plane) * 8 // width == n:
        return parts
    start, end = build.constant(np.array([0], np.int64)), build.constant(np.array([n], np.int64))
    return build.node("Slice", parts, start, end)
