"""Low-rank factors of a matrix."""

import torch
from torch import Tensor


def low_rank_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of a matrix by two thin factors, in the least-squares sense.

    Args:
        matrix: ``[m, n]``, floating point.
        rank: at least 1, at most ``min(m, n)``.

    Returns:
        ``u [m, rank]`` and ``v [rank, n]`` with ``matrix ≈ u @ v``; each carries the square root of the singular
        values, so that both factors are trained at the same scale.

    Raises:
        ValueError: ``rank`` lies outside its range.

    Source:
        Eckart & Young 1936; Denton et al. 2014, sec. 3.2, https://arxiv.org/abs/1404.0736
    """
    most = min(matrix.shape)
    if not 1 <= rank <= most:
        raise ValueError(f"the rank of a {tuple(matrix.shape)} matrix must lie in [1, {most}], got {rank}")
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]
