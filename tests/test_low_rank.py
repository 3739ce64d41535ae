"""Two thin layers in the place of one."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, sampled_from
from pass_examples import paying_rank
from torch import nn

from autocompress.layers.low_rank import SVD, most_rank

CONVOLUTIONS = [
    nn.Conv2d(5, 7, 3),
    nn.Conv2d(5, 7, 3, stride=2, padding=1, bias=False),
    nn.Conv2d(5, 7, (1, 3), stride=(1, 2), padding=(0, 2), dilation=(1, 2)),
    nn.Conv2d(3, 40, 3, padding=1, padding_mode="reflect"),
    nn.Conv2d(4, 6, 5, padding="same", dilation=2),
    nn.Conv2d(9, 4, 1),
    nn.Conv1d(5, 7, 3, stride=2, padding=1, dilation=2),
]


def weights(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for name, p in module.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_at_full_rank_a_convolution_and_its_pair_are_equal(layer):
    x = torch.randn(2, layer.in_channels, *(11, 12)[: layer.weight.dim() - 2])
    torch.testing.assert_close(SVD.make(layer, most_rank(layer))(x), layer(x), rtol=1e-4, atol=1e-5)


@given(n_in=integers(1, 10), n_out=integers(1, 10), bias=booleans())
@settings(max_examples=30)
def test_at_full_rank_a_linear_layer_and_its_pair_are_equal(n_in, n_out, bias):
    layer = nn.Linear(n_in, n_out, bias=bias).double()
    x = torch.randn(3, 2, n_in, dtype=torch.float64)
    torch.testing.assert_close(SVD.make(layer, most_rank(layer))(x), layer(x))


@pytest.mark.parametrize("layer", [*CONVOLUTIONS, nn.Linear(6, 9)], ids=str)
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_at_any_rank_the_pair_is_the_best_weight_of_that_rank(layer, rank):
    layer = deepcopy(layer).double()  # where singular values lie close together, floats do not tell them apart
    pair = SVD.make(layer, rank)
    product = pair.expand.weight.flatten(1) @ pair.reduce.weight.flatten(1)
    u, s, v = torch.linalg.svd(layer.weight.flatten(1))
    torch.testing.assert_close(product, u[:, :rank] * s[:rank] @ v[:rank])
    assert pair.reduce.bias is None
    assert (pair.expand.bias is None) == (layer.bias is None)


@given(kind=sampled_from([nn.Linear, nn.Conv2d]), c_in=integers(1, 9), c_out=integers(1, 9), kernel=integers(1, 3))
def test_the_paying_rank_is_the_last_one_that_saves_weights(kind, c_in, c_out, kernel):
    layer = nn.Linear(c_in, c_out) if kind is nn.Linear else nn.Conv2d(c_in, c_out, kernel)
    rank = paying_rank(layer)
    assert 0 <= rank <= most_rank(layer)
    if rank:
        assert weights(SVD.make(layer, rank)) < weights(layer)
    if rank < most_rank(layer):
        assert weights(SVD.make(layer, rank + 1)) >= weights(layer)


def test_the_pair_keeps_the_number_format():
    assert SVD.make(nn.Linear(3, 4).double(), 2).expand.weight.dtype == torch.float64


def test_a_grouped_convolution_is_refused():
    with pytest.raises(ValueError, match=r"^no factors: it is a grouped convolution$"):
        SVD.make(nn.Conv2d(4, 4, 3, groups=2), 1)


def test_a_rank_beyond_the_matrix_is_refused():
    with pytest.raises(ValueError, match=r"the rank of a \(4, 3\) matrix must lie in \[1, 3\], got 4"):
        SVD.make(nn.Linear(3, 4), 4)
