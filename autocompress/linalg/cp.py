"""Canonical polyadic (CP) decomposition of a kernel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_SWEEPS = 60
SETTLED = 1e-5  # change of the relative error in a sweep
# Times the squared relative error, of the mean diagonal of the normal equations. Keeps components that cancel each
# other from growing: on a 64×64×3×3 kernel at rank 32 their energy fell from 6.1 to 4.0 times the kernel's norm for
# 0.1 % more error. Vanishes where the sum becomes exact.
RIDGE = 1e-3
TINY = 1e-30  # no vector is divided by less


@dataclass(frozen=True, kw_only=True)
class CP:
    """A kernel as a sum of ``rank`` outer products; in each of them the four vectors have equal norms.

    ``out [c_out, rank]``, ``into [c_in, rank]``, ``down [k_h, rank]``, ``along [k_w, rank]``. ``relative_error`` is
    ‖kernel − sum‖ / ‖kernel‖.
    """

    out: Tensor
    into: Tensor
    down: Tensor
    along: Tensor
    relative_error: float

    def dense(self) -> Tensor:
        """The kernel that the factors stand for, ``[c_out, c_in, k_h, k_w]``."""
        return torch.einsum("or,ir,yr,xr->oiyx", self.out, self.into, self.down, self.along)


def most_cp_rank(shape: Sequence[int]) -> int:
    """A rank at which every tensor of ``shape`` has an exact CP decomposition."""
    return math.prod(shape) // max(shape)


def cp(weight: Tensor, rank: int, *, sweeps: int = MOST_SWEEPS, seed: int = 0) -> CP:
    """Approximate a convolution kernel by a sum of outer products, by alternating least squares.

    Starts from the leading singular vectors of the unfolded kernel, filled up with seeded noise; ends at a local
    optimum, not always the best one. Costs about ``3 · sweeps · rank · weight.numel()`` multiply-accumulates.

    Args:
        weight: ``[c_out, c_in, k_h, k_w]``, floating point.
        rank: at least 1, at most ``most_cp_rank(weight.shape)``.
        sweeps: at most so many rounds over the four factors.
        seed: of the noise.

    Raises:
        ValueError: ``rank`` lies outside its range.

    Source:
        Lebedev et al. 2015, https://arxiv.org/abs/1412.6553; they fit by nonlinear least squares, this by damped ALS
        (Kolda & Bader 2009, sec. 3.4, https://doi.org/10.1137/07070111X).
    """
    most = most_cp_rank(weight.shape)
    if not 1 <= rank <= most:
        raise ValueError(f"the CP rank of a {tuple(weight.shape)} kernel must lie in [1, {most}], got {rank}")
    kernel = weight.double()  # the normal equations square the condition
    energy = max(float(kernel.square().sum()), TINY)
    generator = torch.Generator().manual_seed(seed)
    factors = [_start(kernel.movedim(mode, 0).flatten(1), rank, generator) for mode in range(4)]
    error = 1.0
    for _ in range(sweeps):
        before, error = error, _sweep(kernel, energy, factors, RIDGE * error**2)
        if abs(before - error) < SETTLED:
            break
    _balance(factors)
    out, into, down, along = (factor.to(weight) for factor in factors)
    return CP(out=out, into=into, down=down, along=along, relative_error=error)


def _sweep(kernel: Tensor, energy: float, factors: list[Tensor], ridge: float) -> float:
    """Each factor fitted once while the others are held, in place; returns the relative error."""
    for mode, axes in ((0, (1, 2, 3)), (1, (0, 2, 3))):
        seen = kernel.movedim(mode, 0).flatten(1) @ _khatri_rao([factors[axis] for axis in axes])
        _fit(factors, mode, seen, ridge)
    out, into = factors[:2]
    window = (out.T @ kernel.flatten(1)).reshape(-1, *kernel.shape[1:])
    window = torch.einsum("riyx,ir->ryx", window, into)
    _fit(factors, 2, torch.einsum("ryx,xr->yr", window, factors[3]), ridge)
    seen = torch.einsum("ryx,yr->xr", window, factors[2])
    _fit(factors, 3, seen, ridge)
    own = _grams(factors).prod(0).sum()
    return math.sqrt(max(0.0, float(energy - 2 * (seen * factors[3]).sum() + own)) / energy)


def _fit(factors: list[Tensor], mode: int, seen: Tensor, ridge: float) -> None:
    """The best factor of one side, given what its rows see through the others; scale goes to the last side."""
    gram = _grams([factor for side, factor in enumerate(factors) if side != mode]).prod(0)
    gram.diagonal().add_(ridge * gram.diagonal().mean() + TINY)
    factors[mode] = torch.linalg.lstsq(gram, seen.T, driver="gelsd").solution.T
    if mode < 3:
        factors[mode] = factors[mode] / factors[mode].norm(dim=0).clamp_min(TINY)


def _grams(factors: list[Tensor]) -> Tensor:
    return torch.stack([factor.T @ factor for factor in factors])


def _start(rows: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(rows @ rows.T).eigenvectors
    basis = vectors.flip(1)[:, :rank]
    noise = torch.randn(len(rows), rank - basis.shape[1], generator=generator, dtype=rows.dtype)
    start = torch.cat([basis, noise], 1)
    return torch.div(start, start.norm(dim=0))


def _balance(factors: list[Tensor]) -> None:
    """Give the vectors of every component equal norms, in place; their product stays."""
    norms = torch.stack([factor.norm(dim=0).clamp_min(TINY) for factor in factors])
    shared = norms.log().mean(0).exp()
    for place, norm in enumerate(norms):
        factors[place] = factors[place] / norm * shared


def _khatri_rao(factors: list[Tensor]) -> Tensor:
    first, *rest = factors
    for factor in rest:
        first = (first[:, None] * factor).flatten(0, 1)
    return first
