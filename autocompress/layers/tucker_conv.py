"""A convolution as ``reduce`` (1×1), a small ``core`` with its kernel, and ``expand`` (1×1)."""

from torch import nn

from autocompress.layers.factor_form import Form, Ranks, chain_of, fill, takes_kernels, whole_window, zero_conv
from autocompress.linalg.scale import of_equal_norms
from autocompress.linalg.tucker import tucker2


def _most(layer: nn.Module) -> Ranks:
    assert isinstance(layer, nn.Conv2d)
    return layer.out_channels, layer.in_channels


def _empty(layer: nn.Module, ranks: Ranks) -> nn.Sequential:
    assert isinstance(layer, nn.Conv2d)
    rank_out, rank_in = ranks
    return chain_of(
        layer,
        reduce=zero_conv(layer.in_channels, rank_in),
        core=zero_conv(rank_in, rank_out, **whole_window(layer)),
        expand=zero_conv(rank_out, layer.out_channels, bias=layer.bias is not None),
    )


def _fill(chain: nn.Sequential, layer: nn.Module, ranks: Ranks) -> str:
    assert isinstance(layer, nn.Conv2d)
    found = tucker2(layer.weight.detach(), *ranks)
    reduce, core, expand = of_equal_norms(found.u_in.T, found.core, found.u_out)
    fill(chain, layer, reduce=reduce, core=core, expand=expand)
    return ""


TUCKER2 = Form(takes=takes_kernels, most=_most, empty=_empty, fill=_fill)
