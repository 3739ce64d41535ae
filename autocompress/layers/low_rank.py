"""Two thin layers in the place of one."""

from collections import OrderedDict

import torch
from torch import nn

from autocompress.linalg.svd import low_rank_factors


def most_rank(layer: nn.Linear | nn.Conv2d) -> int:
    """The largest rank that a low-rank pair of ``layer`` can have."""
    return min(layer.weight.shape[0], layer.weight[0].numel())


def paying_rank(layer: nn.Linear | nn.Conv2d) -> int:
    """The largest rank at which the pair has fewer weights than ``layer``; 0 when none has."""
    rows, columns = layer.weight.shape[0], layer.weight[0].numel()
    return (rows * columns - 1) // (rows + columns)


def low_rank_pair(layer: nn.Linear | nn.Conv2d, rank: int) -> nn.Sequential:
    """``reduce`` to ``rank`` channels, then ``expand``: the SVD of the weight as a matrix ``[c_out, the rest]``.

    A convolution keeps its kernel, stride, padding and dilation in ``reduce``; ``expand`` is 1×1.

    Raises:
        ValueError: the rank lies outside its range, or the convolution is grouped.
    """
    if isinstance(layer, nn.Conv2d) and layer.groups != 1:
        raise ValueError(f"a grouped convolution has no low-rank pair, got groups={layer.groups}")
    u, v = low_rank_factors(layer.weight.detach().flatten(1), rank)
    reduce, expand = _thin_linear(layer, rank) if isinstance(layer, nn.Linear) else _thin_conv(layer, rank)
    with torch.no_grad():
        reduce.weight.copy_(v.reshape(reduce.weight.shape))
        expand.weight.copy_(u.reshape(expand.weight.shape))
        if layer.bias is not None and expand.bias is not None:
            expand.bias.copy_(layer.bias)
    return nn.Sequential(OrderedDict(reduce=reduce, expand=expand)).to(layer.weight.device, layer.weight.dtype)


def _thin_linear(layer: nn.Linear, rank: int) -> tuple[nn.Linear, nn.Linear]:
    bias = layer.bias is not None
    return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=bias)


def _thin_conv(layer: nn.Conv2d, rank: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    reduce = nn.Conv2d(
        layer.in_channels,
        rank,
        layer.kernel_size,  # type: ignore[arg-type]  # torch types it as tuple[int, ...]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        padding_mode=layer.padding_mode,
        bias=False,
    )
    return reduce, nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None)
