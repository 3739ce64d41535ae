"""Tucker decomposition of a kernel along its two channel axes."""

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_SWEEPS = 20  # HOOI gains little after the first few sweeps
SETTLED = 1e-6  # relative growth of the core's energy in a sweep


@dataclass(frozen=True, kw_only=True)
class Tucker2:
    """A kernel as ``core`` between two channel bases with orthonormal columns.

    ``u_out [c_out, rank_out]``, ``core [rank_out, rank_in, k_h, k_w]``, ``u_in [c_in, rank_in]``.
    """

    u_out: Tensor
    core: Tensor
    u_in: Tensor

    def dense(self) -> Tensor:
        """The kernel that the factors stand for, ``[c_out, c_in, k_h, k_w]``."""
        return torch.einsum("op,pqyx,iq->oiyx", self.u_out, self.core, self.u_in)


def tucker2(weight: Tensor, rank_out: int, rank_in: int, *, sweeps: int = MOST_SWEEPS) -> Tucker2:
    """Approximate a convolution kernel by a small core between two channel bases.

    Starts from the leading singular vectors of the unfolded kernel (HOSVD) and improves one basis after the other while
    the other is held (HOOI), which never makes the error larger.

    Args:
        weight: ``[c_out, c_in, k_h, k_w]``, floating point.
        rank_out: at least 1, at most ``c_out``.
        rank_in: at least 1, at most ``c_in``.
        sweeps: at most so many improvements of both bases; 0 gives the HOSVD.

    Raises:
        ValueError: a rank lies outside its range.

    Source:
        Kim et al. 2016, sec. 3.1, https://arxiv.org/abs/1511.06530; ranks are arguments here, the paper estimates them.
        HOOI: De Lathauwer et al. 2000, https://doi.org/10.1137/S0895479898346995
    """
    for side, rank, most in (("rank_out", rank_out, weight.shape[0]), ("rank_in", rank_in, weight.shape[1])):
        if not 1 <= rank <= most:
            raise ValueError(f"{side} of a {tuple(weight.shape)} kernel must lie in [1, {most}], got {rank}")
    kernel = weight.double()  # Gram matrices square the condition
    u_out, u_in = _basis(kernel, rank_out), _basis(kernel.transpose(0, 1), rank_in)
    energy = _core(kernel, u_out, u_in).square().sum()
    for _ in range(sweeps):
        u_out = _basis(torch.einsum("oiyx,iq->oqyx", kernel, u_in), rank_out)
        u_in = _basis(torch.einsum("oiyx,op->ipyx", kernel, u_out), rank_in)
        before, energy = energy, _core(kernel, u_out, u_in).square().sum()
        if energy <= before * (1 + SETTLED):
            break
    core = _core(kernel, u_out, u_in)
    return Tucker2(u_out=u_out.to(weight), core=core.to(weight), u_in=u_in.to(weight))


def _basis(tensor: Tensor, rank: int) -> Tensor:
    """The ``rank`` leading left singular vectors of ``tensor`` unfolded along its first axis.

    By the Gram matrix: its eigenvectors are a whole basis, also where the unfolded tensor has fewer columns than rows.
    """
    rows = tensor.flatten(1)
    vectors: Tensor = torch.linalg.eigh(rows @ rows.T).eigenvectors
    return vectors.flip(1)[:, :rank].contiguous()


def _core(kernel: Tensor, u_out: Tensor, u_in: Tensor) -> Tensor:
    return torch.einsum("oiyx,op,iq->pqyx", kernel, u_out, u_in)
