"""A kernel as one pass down the columns and one along the rows."""

from torch import Tensor

from autocompress.linalg.svd import low_rank_factors


def spatial_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of a kernel by a column filter after which comes a row filter, in the least-squares sense.

    Args:
        weight: ``[c_out, c_in, k_h, k_w]``, floating point.
        rank: channels between the two; at least 1, at most ``min(c_out * k_w, c_in * k_h)``.

    Returns:
        ``column [rank, c_in, k_h, 1]`` and ``row [c_out, rank, 1, k_w]`` with
        ``weight[o, i, y, x] ≈ Σ_r row[o, r, 0, x] · column[r, i, y, 0]``; each carries the square root of the singular
        values.

    Raises:
        ValueError: ``rank`` lies outside its range.

    Source:
        Jaderberg et al. 2014, scheme 2, https://arxiv.org/abs/1405.3866; the optimum comes from one SVD of the kernel
        as a matrix ``[c_out · k_w, c_in · k_h]``, where the paper descends by gradients.
    """
    c_out, c_in, k_h, k_w = weight.shape
    matrix = weight.permute(0, 3, 1, 2).reshape(c_out * k_w, c_in * k_h)
    u, v = low_rank_factors(matrix, rank)
    return v.reshape(rank, c_in, k_h, 1), u.reshape(c_out, k_w, rank).permute(0, 2, 1).reshape(c_out, rank, 1, k_w)
