"""A convolution as ``column`` (k_h × 1) and then ``row`` (1 × k_w)."""

from torch import nn

from autocompress.layers.factor_form import Form, Ranks, along, chain_of, down, fill, takes_kernels, zero_conv
from autocompress.linalg.spatial_svd import spatial_factors


def _most(layer: nn.Module) -> Ranks:
    assert isinstance(layer, nn.Conv2d)
    k_h, k_w = layer.kernel_size
    return (min(layer.out_channels * k_w, layer.in_channels * k_h),)


def _empty(layer: nn.Module, ranks: Ranks) -> nn.Sequential:
    assert isinstance(layer, nn.Conv2d)
    (rank,) = ranks
    return chain_of(
        layer,
        column=zero_conv(layer.in_channels, rank, **down(layer)),
        row=zero_conv(rank, layer.out_channels, **along(layer), bias=layer.bias is not None),
    )


def _fill(chain: nn.Sequential, layer: nn.Module, ranks: Ranks) -> str:
    assert isinstance(layer, nn.Conv2d)
    column, row = spatial_factors(layer.weight.detach(), *ranks)
    fill(chain, layer, column=column, row=row)
    return ""


SPATIAL_SVD = Form(takes=takes_kernels, most=_most, empty=_empty, fill=_fill)
