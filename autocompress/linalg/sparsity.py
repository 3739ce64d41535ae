"""Which weights stay when the least important ones go."""

import torch
from torch import Tensor


def kept_by_share(scores: Tensor, sparsity: float) -> Tensor:
    """True for the highest ``scores``, so that a share of ``sparsity`` is False, rounded; at least one stays.

    Equal scores are told apart by their place, so the count is exact.
    """
    count = max(1, round(scores.numel() * (1 - sparsity)))
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    kept[scores.flatten().argsort(descending=True, stable=True)[:count]] = True
    return kept.reshape(scores.shape)


def kept_by_pattern(scores: Tensor, n: int, m: int) -> Tensor:
    """True for the ``n`` highest of every ``m`` neighbours along the input channels of ``[c_out, c_in, ...]``.

    Source: Zhou et al. 2021, https://arxiv.org/abs/2102.04010; Mishra et al. 2021, https://arxiv.org/abs/2104.08378.

    Raises:
        ValueError: the input channels are no multiple of ``m``.
    """
    if scores.shape[1] % m:
        raise ValueError(f"its {scores.shape[1]} input channels are no multiple of {m}")
    channels_last = scores.movedim(1, -1)
    blocks = channels_last.reshape(-1, m)
    kept = torch.zeros_like(blocks, dtype=torch.bool)
    kept.scatter_(1, blocks.argsort(dim=1, descending=True, stable=True)[:, :n], value=True)
    return kept.reshape(channels_last.shape).movedim(-1, 1)
