"""One layer becomes a chain of thin ones."""

import re

import pytest
import torch
import torch.nn.functional as F
from pass_examples import paying_rank
from pydantic import ValidationError
from tiny_models import inputs_of, tiny
from torch import nn

from autocompress.errors import RecipeError
from autocompress.graph.layer_table import layer_table
from autocompress.passes import Factorize, PassContext
from autocompress.passes.factorize import Factors, thin_layers, weights_of


def factorized(model: nn.Module, x: torch.Tensor, **ranks: int):
    layers = {name.replace("__", "."): {"rank": rank} for name, rank in ranks.items()}
    return Factorize(layers=layers, gain="smaller").apply(model, PassContext(example=x))


def test_a_layer_of_that_rank_loses_nothing():
    model, x = tiny("mlp"), inputs_of("mlp", 5)
    with torch.no_grad():
        model[3].weight.copy_(torch.randn(16, 3) @ torch.randn(3, 32))
    expected = model(x)
    outcome = factorized(model, x, **{"3": 3})
    assert outcome.changed.keys() == {"3"}
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert [name for name, _ in model[3].named_children()] == ["reduce", "expand"]


def test_a_rank_that_saves_nothing_is_skipped_with_the_one_that_does():
    model, x = tiny("mlp"), inputs_of("mlp", 1)
    most = paying_rank(model[0])
    outcome = factorized(model, x, **{"0": most + 1})
    after = (most + 1) * (12 + 32)
    assert outcome.skipped == {
        "0": f"svd, rank {most + 1} saves no weights, 384 would become {after}; rank {most} does"
    }
    assert isinstance(model[0], nn.Linear)
    assert factorized(model, x, **{"0": most}).changed.keys() == {"0"}


def test_a_rank_beyond_the_layer_is_refused():
    message = r"^factorize\.layers\.0\.rank must lie in \[1, 12\] at the layer's final width, got 13; nearest: 12$"
    with pytest.raises(RecipeError, match=message):
        factorized(tiny("mlp"), inputs_of("mlp", 1), **{"0": 13})


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("mlp", "1", "a ReLU cannot be factorized; linear layers, 1-d and 2-d convolutions can"),
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
    assert factorized(model, torch.randn(1, 12), **{"0": 2}).changed.keys() == {"0"}


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


def wide(size: int = 14) -> tuple[nn.Module, torch.Tensor]:
    """A convolution that is worth factorizing, and its input."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)).eval(), torch.randn(1, 64, size, size)


def by(model: nn.Module, x: torch.Tensor, gain: str = "faster", block: int = 16, **factors):
    return Factorize(layers={"0": factors}, gain=gain).apply(model, PassContext(example=x, channel_block=block))


@pytest.mark.parametrize(
    ("factors", "parts", "said"),
    [
        ({"rank": 16}, ["reduce", "expand"], "svd, rank 16; 36,864 → 10,240 weights; estimated at 0.3"),
        ({"method": "spatial_svd", "rank": 16}, ["column", "row"], "spatial_svd, rank 16; 36,864 → 6,144 weights; "),
        (
            {"method": "tucker2", "ranks": [32, 16]},
            ["reduce", "core", "expand"],
            "tucker2, ranks [32, 16]; 36,864 → 7,680 weights; estimated at ",
        ),
        (
            {"method": "cp", "rank": 32},
            ["reduce", "column", "row", "expand"],
            "cp, rank 32; 36,864 → 4,288 weights; estimated at ",
        ),
    ],
    ids=str,
)
def test_what_changed_is_said_with_its_weights_and_its_estimated_time(factors, parts, said):
    model, x = wide()
    outcome = by(model, x, **factors)
    assert outcome.skipped == {}
    assert outcome.changed["0"].startswith(said)
    assert list(thin_layers("0", model[0])) == [f"0.{part}" for part in parts]
    assert f"{weights_of(model[0]):,} weights" in outcome.changed["0"]
    assert ("relative error 0." in outcome.changed["0"]) == (factors.get("method") == "cp")


def test_factors_that_are_smaller_but_not_faster_are_made_for_their_bytes_only():
    """At an odd rank the runtime leaves its blocked layout: fewer weights, more time."""
    factors = {"method": "cp", "rank": 99}
    model, x = wide(2)
    outcome = by(model, x, **factors)
    (reason,) = outcome.skipped.values()
    assert re.fullmatch(
        r"cp, rank 99 is estimated at [1-9]\.\d\d times the layer's time on this target; "
        r"gain: smaller factorizes it for its bytes",
        reason,
    )
    assert isinstance(model[0], nn.Conv2d)
    assert by(model, x, "smaller", **factors).changed.keys() == {"0"}
    assert isinstance(model[0], nn.Sequential)


def test_the_decision_depends_on_the_target_s_block():
    """Rank 36 fills nine blocks of four, and leaves most of its third block of sixteen empty."""
    outcomes = {}
    for block in (4, 16):
        model, x = wide()
        outcomes[block] = by(model, x, rank=36, block=block)
    assert outcomes[4].changed != outcomes[16].changed


def test_a_layer_that_the_example_does_not_reach_has_no_time():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, x):
            return self.used(x)

    model, x = Idle(), torch.randn(1, 64)
    outcome = Factorize(layers={"idle": {"rank": 2}}).apply(model, PassContext(example=x))
    assert outcome.skipped["idle"].startswith("svd, rank 2 is of unknown time on this target; gain: smaller")
    outcome = Factorize(layers={"idle": {"rank": 2}}, gain="smaller").apply(model, PassContext(example=x))
    assert outcome.changed == {"idle": "svd, rank 2; 4,096 → 256 weights"}


def test_the_layers_of_a_series_are_factorized_by_svd():
    model, x = tiny("conv1d"), inputs_of("conv1d", 1)
    outcome = factorized(model, x, features__3=2)
    assert outcome.changed.keys() == {"features.3"}
    assert {facts.name: facts.kernel for facts in layer_table(model, x)}["features.3.reduce"] == (3,)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({}, "the method svd needs rank: a number, and no ranks"),
        ({"method": "cp", "ranks": [1, 2]}, "the method cp needs rank: a number, and no ranks"),
        ({"method": "tucker2", "rank": 3}, r"the method tucker2 needs ranks: \[out, in\], and no rank"),
        (
            {"method": "tucker2", "rank": 3, "ranks": [1, 2]},
            r"the method tucker2 needs ranks: \[out, in\], and no rank",
        ),
        ({"method": "tucker2", "ranks": [0, 2]}, "greater than or equal to 1"),
    ],
    ids=str,
)
def test_a_method_is_given_the_ranks_that_it_needs(factors, message):
    with pytest.raises(ValidationError, match=message):
        Factors(**factors)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (
            {"method": "tucker2", "ranks": [65, 3]},
            r"ranks must lie in \[1, 64\] × \[1, 64\] .* widths, got \[65, 3\]; nearest: \[64, 3\]$",
        ),
        ({"method": "spatial_svd", "rank": 200}, r"rank must lie in \[1, 192\] .*, got 200; nearest: 192$"),
        ({"method": "cp", "rank": 600}, r"rank must lie in \[1, 576\] .*, got 600; nearest: 576$"),
    ],
    ids=str,
)
def test_ranks_beyond_the_layer_are_refused_with_the_nearest(factors, message):
    with pytest.raises(RecipeError, match=message):
        by(*wide(), **factors)
