"""Symmetric integers of 2 to 8 bits for weights."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

FEWEST_BITS, MOST_BITS = 2, 8
_CLIPPED = torch.logspace(0, -1.2, 17)[1:]  # scales that are tried, as a share of the one that clips nothing
_AT_ONCE = 2**16  # weights whose scales are looked for together: they stay in the processor's cache


class ScaleBy(StrEnum):
    """How a scale is chosen."""

    MAX = "max"  # clips nothing
    ERROR = "error"  # least squared error: clips outliers where that pays, as it does below about 5 bits


@dataclass(frozen=True, kw_only=True)
class Integers:
    """A weight as ``codes * scale``: int8 of the weight's shape, and ``[c_out, 1, ...]`` with as many dimensions."""

    codes: Tensor
    scale: Tensor

    @property
    def dense(self) -> Tensor:
        """The values that the integers stand for."""
        return self.codes * self.scale


def to_integers(weight: Tensor, bits: int, *, scale_by: ScaleBy = ScaleBy.MAX) -> Integers:
    """The nearest integers in ``[-(2**(bits-1) - 1), 2**(bits-1) - 1]``, zero standing for zero, one scale per channel.

    Channels that are all zero have the scale 1. By error costs about a second for ten million weights.

    Args:
        weight: ``[c_out, ...]``, floating point.
        bits: 2 to 8.
        scale_by: the largest magnitude, or the least squared error.

    Raises:
        ValueError: ``bits`` lies outside its range.

    Source:
        Nagel et al. 2021, sec. 3.1, https://arxiv.org/abs/2106.08295 (by maximum and by squared error); here each scale
        that is tried is fitted to its codes.
    """
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"weights of integers must have {FEWEST_BITS} to {MOST_BITS} bits, got {bits}")
    rows = weight.detach().reshape(len(weight), -1)
    highest = 2 ** (bits - 1) - 1
    scale = _safe(rows.abs().amax(1, keepdim=True) / highest)
    if scale_by is ScaleBy.ERROR:
        count = max(1, _AT_ONCE // max(1, rows.shape[1]))
        parts = zip(torch.split(rows, count), torch.split(scale, count), strict=True)
        scale = torch.cat([_of_least_error(some, widest, highest) for some, widest in parts])
    codes = _codes(rows, scale, highest).to(torch.int8)
    return Integers(codes=codes.reshape(weight.shape), scale=scale.reshape(-1, *[1] * (weight.dim() - 1)))


def _codes(rows: Tensor, scale: Tensor, highest: int) -> Tensor:
    return (rows / scale).round_().clamp_(-highest, highest)


def _safe(scale: Tensor) -> Tensor:
    """1 instead of zero, and instead of what is too small to divide by."""
    return torch.where(scale > torch.finfo(scale.dtype).tiny, scale, torch.ones_like(scale))


def _of_least_error(rows: Tensor, widest: Tensor, highest: int) -> Tensor:
    """For each row the widest scale, or the best of those that fit the codes of smaller ones.

    Codes c leave the squared error ``|w|² - (c·w)² / c²`` at the scale that fits them, ``c·w / c²``.
    """
    best, most = widest, torch.full_like(widest, -1.0)
    for share in (1.0, *_CLIPPED.tolist()):
        codes = _codes(rows, _safe(widest * share), highest)
        along = torch.linalg.vecdot(codes, rows)[:, None]
        length = torch.linalg.vecdot(codes, codes)[:, None].clamp_(min=1)
        explained = along.square() / length
        better = explained > most
        best, most = torch.where(better, along / length, best), torch.where(better, explained, most)
    best = _safe(best)
    is_less = _squared_errors(rows, best, highest) < _squared_errors(rows, widest, highest)
    return torch.where(is_less, best, widest)


def _squared_errors(rows: Tensor, scale: Tensor, highest: int) -> Tensor:
    return _codes(rows, scale, highest).mul_(scale).sub_(rows).square_().sum(1, keepdim=True)
