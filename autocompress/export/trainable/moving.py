"""Operators that only move numbers about. Sizes that a file has for its own batch become free here."""

from functools import partial
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autocompress.export.trainable.node import Function, Node, Shape


def reshape(node: Node) -> Function:
    """A new shape, in which the axis that carries the batch is free."""
    shape = node.shape()
    target = _resolved(node)
    axis = node.batch_axes[0]
    if axis is not None:
        place = _carrier(target, prod(shape[:axis]), node.batch)
        if place is None:
            raise node.refuse(f"the batch of {shape} has no axis of its own in {target}")
        target = (*target[:place], -1, *target[place + 1 :])
    return lambda x: x.reshape(target)


def _resolved(node: Node) -> Shape:
    """The target shape at the file's batch, without ONNX's marks for "as before" and "what is left"."""
    given = node.constant(1)
    if given is None:
        raise node.refuse("its shape must be constant")
    shape = node.shape()
    keeps_zero = bool(node.get("allowzero", 0))
    target = [shape[i] if size == 0 and not keeps_zero else int(size) for i, size in enumerate(given)]
    if -1 in target:
        target[target.index(-1)] = prod(shape) // -prod(target)
    return tuple(target)


def _carrier(target: Shape, outer: int, batch: int) -> int | None:
    """The axis of ``target`` that the batch is the outermost part of; ``outer`` numbers lie outside of the batch.

    Both shapes count the same numbers in the same order, so the batch lies in the first axis with as many outside.
    """
    for place, size in enumerate(target):
        if prod(target[:place]) == outer and size % batch == 0:
            return place
    return None


def flatten(node: Node) -> Function:
    """Two axes: those before ``axis``, and the others."""
    axis = int(node.get("axis", 1)) % len(node.shape())
    if axis == 0:
        raise node.refuse("it flattens the batch")
    return lambda x: x.flatten(axis).flatten(0, axis - 1)


def transpose(node: Node) -> Function:
    """Axes in another order."""
    order = tuple(node.get("perm", range(len(node.shape()))[::-1]))
    return lambda x: x.permute(order)


def squeeze(node: Node) -> Function:
    """Without some axes of one element; without all but the batch where none are named."""
    axes = node.axes(1)
    if axes is None:
        axes = [i for i, size in enumerate(node.shape()) if size == 1 and i != node.batch_axes[0]]
    kept = tuple(axes)
    return lambda x: x.squeeze(kept)


def unsqueeze(node: Node) -> Function:
    """With new axes of one element."""
    axes = node.axes(1) or []
    rank = len(node.shape()) + len(axes)
    ordered = sorted(axis % rank for axis in axes)

    def grow(x: Tensor) -> Tensor:
        for axis in ordered:
            x = x.unsqueeze(axis)
        return x

    return grow


def expand(node: Node) -> Function:
    """Repeated along axes of one element; the batch stays as it is."""
    given = node.constant(1)
    if given is None:
        raise node.refuse("its shape must be constant")
    shape = node.shape()
    rank = max(len(shape), len(given))
    padded, wanted = (1,) * (rank - len(shape)) + shape, (1,) * (rank - len(given)) + tuple(int(s) for s in given)
    target = [max(own, new) for own, new in zip(padded, wanted, strict=True)]
    if node.batch_axes[0] is not None:
        target[node.batch_axes[0] + rank - len(shape)] = -1
    return lambda x: x.expand(target)


def concat(node: Node) -> Function:
    """Side by side; what does not follow the batch (a class token) is repeated to it."""
    axis = node.axis()
    leader = next((i for i, found in enumerate(node.batch_axes) if found is not None), None)
    if leader is None:
        return lambda *parts: torch.cat(parts, axis)
    along = node.batch_axes[leader]
    assert along is not None
    if along == axis:
        raise node.refuse("it joins along the batch")
    still = [found is None for found in node.batch_axes]

    def join(*parts: Tensor) -> Tensor:
        sizes = [-1] * parts[leader].dim()
        sizes[along] = parts[leader].shape[along]
        return torch.cat(
            [part.expand(sizes) if alone else part for part, alone in zip(parts, still, strict=True)], axis
        )

    return join if any(still) else lambda *parts: torch.cat(parts, axis)


def split(node: Node) -> Function:
    """Parts along an axis."""
    axis, given = node.axis(), node.constant(1)
    listed = node.get("split", None) if given is None else given
    if listed is not None:
        return partial(_split, sizes=[int(size) for size in listed], axis=axis)
    size = -(-node.shape()[axis] // node.n_outputs)
    return partial(_split, sizes=size, axis=axis)


def _split(x: Tensor, sizes: int | list[int], axis: int) -> tuple[Tensor, ...]:
    return torch.split(x, sizes, axis)


def slice_(node: Node) -> Function:
    """Every k-th element from one place to another."""
    starts, ends = node.constant(1), node.constant(2)
    if starts is None or ends is None:
        raise node.refuse("its bounds must be constant")
    axes = node.axes(3) or list(range(len(starts)))
    given = node.constant(4)
    steps = [1] * len(axes) if given is None else [int(step) for step in given]
    if min(steps) < 1:
        raise node.refuse("its steps must be positive")
    shape = node.shape()
    parts = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        first, last, _ = slice(int(start), int(end), step).indices(shape[axis])
        if axis % len(shape) == node.batch_axes[0]:
            if (first, last, step) != (0, node.batch, 1):
                raise node.refuse("it takes a part of the batch")
        else:
            parts[axis] = slice(first, last, step)
    chosen = tuple(parts)
    return lambda x: x[chosen]


def gather(node: Node) -> Function:
    """Chosen elements along an axis: one of them, a few, or rows of a table by number."""
    axis, index = node.axis(), node.constant(1)
    if index is not None and index.ndim == 0:
        one = int(index)
        return lambda x, _: x.select(axis, one)
    if axis == node.batch_axes[0]:
        return _gather_in_samples(node)
    if axis == 0 and node.batch_axes[0] is None and len(node.shape()) == 2:
        return lambda table, numbers: F.embedding(numbers, table)

    def pick(x: Tensor, numbers: Tensor) -> Tensor:
        numbers = torch.where(numbers < 0, numbers + x.shape[axis], numbers)
        taken = x.index_select(axis, numbers.flatten())
        return taken.reshape(*x.shape[:axis], *numbers.shape, *x.shape[axis + 1 :])

    return pick


def _gather_in_samples(node: Node) -> Function:
    """Chosen elements where batch and elements are one axis, as exporters write a view with strides."""
    index, count = node.constant(1), node.shape()[0]
    if node.axis() or index is None or node.batch != 1 or index.shape[0] != 1 or len(node.shape()) > 1:
        raise node.refuse("it takes a part of the batch")
    shape = index.shape[1:]
    if np.array_equal(index.flatten(), np.arange(count)):
        return lambda x, _: x.reshape(-1, *shape)
    return lambda x, numbers: x.reshape(-1, count).index_select(1, numbers.flatten()).reshape(-1, *shape)


def pad(node: Node) -> Function:
    """More elements at the ends of axes."""
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    given, value, rank = node.constant(1), node.constant(2), len(node.shape())
    pads = node.get("pads", None) if given is None else given
    if pads is None:
        raise node.refuse("its sizes must be constant")
    axes = node.axes(3) or list(range(rank))
    sizes = {axis % rank: (int(pads[i]), int(pads[i + len(axes)])) for i, axis in enumerate(axes)}
    while sizes and sizes.get(min(sizes)) == (0, 0):
        del sizes[min(sizes)]
    first = min(sizes, default=rank)
    listed = [size for axis in reversed(range(first, rank)) for size in sizes.get(axis, (0, 0))]
    mode = modes[node.get("mode", "constant")]
    filling = float(value) if mode == "constant" and value is not None and value.size else 0.0
    return lambda x: F.pad(x, listed, mode, filling) if mode == "constant" else F.pad(x, listed, mode)
