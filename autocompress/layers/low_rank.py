"""Two thin layers in the place of one: the weight as a matrix ``[c_out, the rest]``.

A convolution keeps its kernel, stride, padding and dilation in ``reduce``; ``expand`` is 1 wide.
"""

from torch import nn

from autocompress.layers.factor_form import (
    Form,
    Ranks,
    chain_of,
    fill,
    whole_window,
    zero_conv,
    zero_conv1d,
    zero_linear,
)
from autocompress.linalg.svd import low_rank_factors

Matrix = nn.Linear | nn.Conv1d | nn.Conv2d


def most_rank(layer: Matrix) -> int:
    """The largest rank that a low-rank pair of ``layer`` can have."""
    return min(layer.weight.shape[0], layer.weight[0].numel())


def _takes(layer: nn.Module) -> str:
    if not isinstance(layer, Matrix):
        return f"a {type(layer).__name__} cannot be factorized; linear layers, 1-d and 2-d convolutions can"
    if not isinstance(layer, nn.Linear) and layer.groups != 1:
        return "it is a grouped convolution"
    return ""


def _most(layer: nn.Module) -> Ranks:
    assert isinstance(layer, Matrix)
    return (most_rank(layer),)


def _empty(layer: nn.Module, ranks: Ranks) -> nn.Sequential:
    (rank,), bias = ranks, layer.bias is not None
    if isinstance(layer, nn.Linear):
        return chain_of(
            layer,
            reduce=zero_linear(layer.in_features, rank),
            expand=zero_linear(rank, layer.out_features, bias=bias),
        )
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    conv = zero_conv if isinstance(layer, nn.Conv2d) else zero_conv1d
    return chain_of(
        layer,
        reduce=conv(layer.in_channels, rank, **whole_window(layer)),
        expand=conv(rank, layer.out_channels, bias=bias),
    )


def _fill(chain: nn.Sequential, layer: nn.Module, ranks: Ranks) -> str:
    assert isinstance(layer, Matrix)
    u, v = low_rank_factors(layer.weight.detach().flatten(1), *ranks)
    fill(chain, layer, reduce=v, expand=u)
    return ""


SVD = Form(takes=_takes, most=_most, empty=_empty, fill=_fill)
