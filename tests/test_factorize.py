"""One layer becomes two thin ones."""

import pytest
import torch
import torch.nn.functional as F
from tiny_models import inputs_of, tiny
from torch import nn

from autocompress.errors import RecipeError
from autocompress.layers.low_rank import paying_rank
from autocompress.passes import Factorize, PassContext


def factorized(model: nn.Module, x: torch.Tensor, **ranks: int):
    settings = Factorize(layers={name.replace("__", "."): {"rank": rank} for name, rank in ranks.items()})
    return settings.apply(model, PassContext(example=x))


def test_a_layer_of_that_rank_loses_nothing():
    model, x = tiny("mlp"), inputs_of("mlp", 5)
    with torch.no_grad():
        model[3].weight.copy_(torch.randn(16, 3) @ torch.randn(3, 32))
    expected = model(x)
    outcome = factorized(model, x, **{"3": 3})
    assert outcome.changed == {"3": "rank 3 of 16"}
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert [name for name, _ in model[3].named_children()] == ["reduce", "expand"]


def test_a_rank_that_saves_nothing_is_skipped_with_the_one_that_does():
    model, x = tiny("mlp"), inputs_of("mlp", 1)
    most = paying_rank(model[0])
    outcome = factorized(model, x, **{"0": most + 1})
    assert outcome.skipped == {"0": f"rank {most + 1} saves no weights; it does up to {most}"}
    assert isinstance(model[0], nn.Linear)
    assert factorized(model, x, **{"0": most}).changed == {"0": f"rank {most} of 12"}


def test_a_rank_beyond_the_layer_is_refused():
    message = r"^factorize\.layers\.0\.rank must lie in \[1, 12\] at the layer's final width, got 13; nearest: 12$"
    with pytest.raises(RecipeError, match=message):
        factorized(tiny("mlp"), inputs_of("mlp", 1), **{"0": 13})


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("conv1d", "features.0", "a Conv1d cannot be factorized; linear layers and 2-d convolutions can"),
        ("mlp", "1", "a ReLU cannot be factorized; linear layers and 2-d convolutions can"),
        ("grouped", "features.2.0", "it is a grouped convolution"),
        ("depthwise", "features.4.0", "it is a grouped convolution"),
    ],
)
def test_what_has_no_pair_is_skipped_with_the_reason(name, layer, reason):
    model, x = tiny(name), inputs_of(name, 1)
    expected = model(x)
    outcome = factorized(model, x, **{layer.replace(".", "__"): 1})
    assert (outcome.changed, outcome.skipped) == ({}, {layer: reason})
    assert torch.equal(model(x), expected)


class SamePadding(nn.Conv2d):
    """Pads on its own, as TensorFlow's convolutions do."""

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Standardized(nn.Conv2d):
    """Scales its weight on its own."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Timed(nn.Linear):
    """A subclass that computes the same."""

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


@pytest.mark.parametrize("kind", [SamePadding, Standardized])
def test_a_layer_that_does_more_than_its_weight_says_is_skipped(kind):
    model = nn.Sequential(kind(3, 16, 3, 2), nn.Flatten(), nn.LazyLinear(4)).eval()
    x = torch.randn(1, 3, 16, 16)
    expected = model(x)
    outcome = factorized(model, x, **{"0": 1})
    assert outcome.skipped == {"0": f"a {kind.__name__} does more than its weight says"}
    assert torch.equal(model(x), expected)


def test_a_subclass_that_computes_the_same_is_factorized():
    model = nn.Sequential(Timed(12, 12))
    assert factorized(model, torch.randn(1, 12), **{"0": 2}).changed == {"0": "rank 2 of 12"}


def test_a_layer_whose_weight_is_read_from_outside_is_put_back():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
            self.head = nn.Linear(16, 16)

        def forward(self, x):
            attended, _ = self.layer.self_attn(x, x, x, need_weights=False)
            return self.head(self.layer.linear2(F.relu(self.layer.linear1(attended))))

    model = Encoder().eval()
    x = torch.randn(1, 5, 16)
    outcome = factorized(model, x, layer__self_attn__out_proj=2, layer__linear1=2, head=2)
    reason = "the module around it reads its weight without calling it"
    assert outcome.skipped == {"layer.self_attn.out_proj": reason}
    assert outcome.changed.keys() == {"layer.linear1", "head"}
    assert model(x).shape == (1, 5, 16)


def test_the_pair_is_in_the_mode_of_the_layer():
    model, x = tiny("mlp"), inputs_of("mlp", 1)
    model[0].train()
    factorized(model, x, **{"0": 1, "3": 1})
    assert model[0].expand.training
    assert not model[3].expand.training
    assert not model.training
