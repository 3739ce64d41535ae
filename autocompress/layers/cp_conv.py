"""A convolution as ``reduce`` (1×1), ``column`` and ``row`` (depthwise k_h × 1 and 1 × k_w), and ``expand`` (1×1)."""

from torch import nn

from autocompress.layers.factor_form import Form, Ranks, along, chain_of, down, fill, takes_kernels, zero_conv
from autocompress.linalg.cp import cp, most_cp_rank


def _most(layer: nn.Module) -> Ranks:
    assert isinstance(layer, nn.Conv2d)
    return (most_cp_rank(layer.weight.shape),)


def _empty(layer: nn.Module, ranks: Ranks) -> nn.Sequential:
    assert isinstance(layer, nn.Conv2d)
    (rank,) = ranks
    return chain_of(
        layer,
        reduce=zero_conv(layer.in_channels, rank),
        column=zero_conv(rank, rank, **down(layer), groups=rank),
        row=zero_conv(rank, rank, **along(layer), groups=rank),
        expand=zero_conv(rank, layer.out_channels, bias=layer.bias is not None),
    )


def _fill(chain: nn.Sequential, layer: nn.Module, ranks: Ranks) -> str:
    assert isinstance(layer, nn.Conv2d)
    found = cp(layer.weight.detach(), *ranks)
    fill(chain, layer, reduce=found.into.T, column=found.down.T, row=found.along.T, expand=found.out)
    return f"relative error {found.relative_error:.2f}"


CP = Form(takes=takes_kernels, most=_most, empty=_empty, fill=_fill)
