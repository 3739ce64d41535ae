"""What every way to factorize a layer must do: the chain computes what the layer with the rebuilt weight computes."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.layers.factor_forms import FORMS, Method

CONVOLUTIONS = [
    nn.Conv2d(5, 7, 3),
    nn.Conv2d(5, 7, 3, stride=2, padding=1, bias=False),
    nn.Conv2d(5, 7, (1, 3), stride=(1, 2), padding=(0, 2), dilation=(1, 2)),
    nn.Conv2d(3, 9, 3, padding=1, padding_mode="reflect"),
    nn.Conv2d(4, 6, (5, 2), padding="same", dilation=2),
    nn.Conv2d(6, 4, (4, 3), stride=(3, 1), padding=(2, 1), padding_mode="circular"),
]
OTHERS = [nn.Linear(6, 5), nn.Linear(6, 5, bias=False), nn.Conv1d(4, 6, 3, stride=2, padding=1), nn.Conv2d(6, 5, 1)]
RANKS = {Method.TUCKER2: (3, 2)}  # the others take one


def dense_of(method, chain):
    """The weight that the chain stands for, put together from its parts independently of the maths that made them."""
    weights = {name: part.weight.detach() for name, part in chain.named_children()}
    if method is Method.SVD:
        return torch.einsum("or,r...->o...", weights["expand"].flatten(1), weights["reduce"])
    if method is Method.SPATIAL_SVD:
        return torch.einsum("orx,riy->oiyx", weights["row"].squeeze(2), weights["column"].squeeze(3))
    expand, reduce = weights["expand"][:, :, 0, 0], weights["reduce"][:, :, 0, 0]
    if method is Method.TUCKER2:
        return torch.einsum("op,pqyx,qi->oiyx", expand, weights["core"], reduce)
    column, row = weights["column"][:, 0, :, 0], weights["row"][:, 0, 0]
    return torch.einsum("or,ry,rx,ri->oiyx", expand, column, row, reduce)


def cases() -> list[Any]:
    return [
        pytest.param(method, layer, id=f"{method}-{layer}")
        for method, form in FORMS.items()
        for layer in (*CONVOLUTIONS, *OTHERS)
        if not form.takes(layer)
    ]


def input_of(layer):
    if isinstance(layer, nn.Linear):
        return torch.randn(2, 3, layer.in_features)
    return torch.randn(2, layer.in_channels, *(13, 12)[: layer.weight.dim() - 2])


@pytest.mark.parametrize(("method", "layer"), cases())
def test_the_chain_computes_what_the_rebuilt_layer_computes(method, layer):
    chain = FORMS[method].make(layer, *RANKS.get(method, (2,)))
    rebuilt = copy.deepcopy(layer)
    with torch.no_grad():
        rebuilt.weight.copy_(dense_of(method, chain))
    x = input_of(layer)
    torch.testing.assert_close(chain(x), rebuilt(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(rebuilt.weight, layer.weight)
    assert [part.bias is not None for part in chain] == [False] * (len(chain) - 1) + [layer.bias is not None]


@pytest.mark.parametrize(("method", "layer"), cases())
def test_at_the_largest_ranks_the_chain_computes_what_the_layer_computes(method, layer):
    chain, x = FORMS[method].make(layer, *FORMS[method].most(layer)), input_of(layer)
    rough = 0.02 if method is Method.CP else 1e-5  # ALS ends near
    torch.testing.assert_close(chain(x), layer(x), rtol=1e-4, atol=rough)


@pytest.mark.parametrize(
    ("method", "ranks", "weights"),
    [
        (Method.SVD, (8,), 8 * 16 * 9 + 32 * 8),
        (Method.SPATIAL_SVD, (8,), 8 * 16 * 3 + 32 * 8 * 3),
        (Method.TUCKER2, (8, 4), 4 * 16 + 8 * 4 * 9 + 32 * 8),
        (Method.CP, (8,), 8 * (16 + 3 + 3 + 32)),
    ],
)
def test_a_chain_has_the_weights_that_the_papers_count(method, ranks, weights):
    layer = nn.Conv2d(16, 32, 3, bias=False)
    chain = FORMS[method].make(layer, *ranks)
    assert sum(p.numel() for p in chain.parameters()) == weights
    assert sum(p.numel() for p in FORMS[method].empty(layer, ranks).parameters()) == weights


@pytest.mark.parametrize("method", Method)
def test_parts_of_a_chain_start_at_like_scales(method):
    layer = nn.Conv2d(16, 16, 3)
    with torch.no_grad():
        layer.weight.mul_(100)
    norms = [float(part.weight.norm().detach()) for part in FORMS[method].make(layer, *RANKS.get(method, (4,)))]
    assert max(norms) < 1.01 * min(norms)


@pytest.mark.parametrize("method", Method)
def test_the_chain_keeps_number_format_and_mode_and_draws_no_random_numbers(method):
    layer = nn.Conv2d(4, 4, 3).double().eval()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    chain = FORMS[method].make(layer, *RANKS.get(method, (2,)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.dtype == torch.float64 and p.requires_grad for p in chain.parameters())
    assert not any(module.training for module in chain.modules())


@pytest.mark.parametrize("method", [method for method in Method if method is not Method.SVD])
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Linear(4, 4), "a Linear has no 2-d kernel; svd factorizes it"),
        (nn.Conv1d(4, 4, 3), "a Conv1d has no 2-d kernel; svd factorizes it"),
        (nn.Conv2d(4, 4, 1), "its kernel is 1×1; svd factorizes it"),
        (nn.Conv2d(4, 4, 3, groups=2), "it is a grouped convolution"),
    ],
    ids=str,
)
def test_a_layer_without_a_2d_kernel_is_refused(method, layer, reason):
    assert FORMS[method].takes(layer) == reason
    with pytest.raises(ValueError, match=f"^no factors: {reason}$"):
        FORMS[method].make(layer, 1)
