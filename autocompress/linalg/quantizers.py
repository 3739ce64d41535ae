"""Symmetric integers of 2 to 8 bits for weights."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

FEWEST_BITS, MOST_BITS = 2, 8
_CLIPPED = torch.linspace(1.0, 0.1, 46)  # scales that are tried, as a share of the one that clips nothing


class Granularity(StrEnum):
    """Which values of a weight share a scale."""

    TENSOR = "tensor"
    CHANNEL = "channel"  # output channel, dimension 0
    BLOCK = "block"  # of neighbouring inputs of one output channel


class ScaleBy(StrEnum):
    """How a scale is chosen."""

    MAX = "max"  # clips nothing
    ERROR = "error"  # least squared error: clips outliers where that pays, as it does below about 5 bits


@dataclass(frozen=True, kw_only=True)
class Integers:
    """A weight as ``codes * scale``.

    ``codes``: int8, the weight's shape. ``scale``: ``[1, 1, …]`` for a tensor, ``[c_out, 1, …]`` for channels, with as
    many dimensions as the weight; ``[c_out, n_blocks]`` for blocks, the last of which may be shorter.
    """

    codes: Tensor
    scale: Tensor
    block_size: int | None = None

    @property
    def dense(self) -> Tensor:
        """The values that the integers stand for."""
        if self.block_size is None:
            return self.codes * self.scale
        rows = self.codes.reshape(len(self.codes), -1)
        scale = self.scale.repeat_interleave(self.block_size, 1)[:, : rows.shape[1]]
        return (rows * scale).reshape(self.codes.shape)


def to_integers(
    weight: Tensor,
    bits: int,
    *,
    granularity: Granularity = Granularity.CHANNEL,
    scale_by: ScaleBy = ScaleBy.MAX,
    block_size: int = 32,
) -> Integers:
    """The nearest integers in ``[-(2**(bits-1) - 1), 2**(bits-1) - 1]``, zero standing for zero.

    Values that are all zero have the scale 1. By error costs fifty times as much: a second for 2.4 million.

    Args:
        weight: ``[c_out, ...]``, floating point.
        bits: 2 to 8.
        granularity: of the scales.
        scale_by: the largest magnitude, or the least squared error.
        block_size: inputs that share a scale, counted over all dimensions but the first; for blocks only.

    Raises:
        ValueError: ``bits`` or ``block_size`` lies outside its range.

    Source:
        Nagel et al. 2021, sec. 3.1, https://arxiv.org/abs/2106.08295 (by maximum and by squared error); here the
        scale of least error is at last fitted to its codes.
    """
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"weights of integers must have {FEWEST_BITS} to {MOST_BITS} bits, got {bits}")
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    detached = weight.detach()
    rows = _rows(detached, granularity, block_size)
    highest = 2 ** (bits - 1) - 1
    scale = _safe(rows.abs().amax(1, keepdim=True) / highest)
    if scale_by is ScaleBy.ERROR:
        scale = _of_least_error(rows, scale, highest)
    codes = _codes(rows, scale, highest).to(torch.int8)
    if granularity is Granularity.BLOCK:
        flat = codes.reshape(len(weight), -1)[:, : detached[0].numel()]
        return Integers(codes=flat.reshape(weight.shape), scale=scale.reshape(len(weight), -1), block_size=block_size)
    return Integers(codes=codes.reshape(weight.shape), scale=scale.reshape(-1, *[1] * (weight.dim() - 1)))


def _rows(weight: Tensor, granularity: Granularity, block_size: int) -> Tensor:
    """``[n_scales, values of one scale]``; a channel's last block is filled up with zeros, which change no scale."""
    if granularity is Granularity.TENSOR:
        return weight.reshape(1, -1)
    rows = weight.reshape(len(weight), -1)
    if granularity is Granularity.CHANNEL:
        return rows
    return torch.nn.functional.pad(rows, (0, -rows.shape[1] % block_size)).reshape(-1, block_size)


def _codes(rows: Tensor, scale: Tensor, highest: int) -> Tensor:
    return (rows / scale).round().clamp(-highest, highest)


def _safe(scale: Tensor) -> Tensor:
    """1 instead of zero, and instead of what is too small to divide by."""
    return torch.where(scale > torch.finfo(scale.dtype).tiny, scale, torch.ones_like(scale))


def _of_least_error(rows: Tensor, widest: Tensor, highest: int) -> Tensor:
    """For each row the best of the widest scale and smaller ones, then the best for the codes that it gives."""
    best, least = widest, _squared_errors(rows, widest, highest)
    for share in _CLIPPED[1:].tolist():
        scale = _safe(widest * share)
        error = _squared_errors(rows, scale, highest)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    codes = _codes(rows, best, highest)
    fitted = _safe((rows * codes).sum(1, keepdim=True) / codes.square().sum(1, keepdim=True).clamp(min=1))
    return torch.where(_squared_errors(rows, fitted, highest) < least, fitted, best)


def _squared_errors(rows: Tensor, scale: Tensor, highest: int) -> Tensor:
    return (_codes(rows, scale, highest) * scale - rows).square().sum(1, keepdim=True)
