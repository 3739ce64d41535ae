"""Whole residual blocks go."""

import pytest
import torch
from tiny_models import Block, conv_norm, inputs_of, tiny
from torch import nn

from autocompress.graph.blocks import Block as Found
from autocompress.graph.blocks import residual_blocks
from autocompress.graph.channel_groups import channel_groups
from autocompress.passes import DropBlocks, PassContext
from autocompress.passes.compose import compose
from autocompress.recipe import PassStep, Recipe

X = inputs_of("deep residual", 2)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def dropped(model: nn.Module, *blocks: str, **known):
    return DropBlocks(blocks=blocks).apply(model, PassContext(example=X, **known))


def test_what_is_left_computes_the_network_without_the_block():
    model, base = tiny("deep residual"), tiny("deep residual")
    own = parameters(base.features[3])
    outcome = dropped(model, "features.3")
    assert outcome.changed == {"features.3": f"removed, {own:,} parameters fewer"}
    assert outcome.rewired
    assert parameters(model) == parameters(base) - own
    before, _, after = base.features[:3], base.features[3], base.features[4:]
    assert torch.equal(model(X), base.head(after(before(X)).flatten(2).mean(2)))
    assert {name for name, _ in model.named_parameters()} == {
        name for name, _ in base.named_parameters() if not name.startswith("features.3.")
    }


def test_all_blocks_can_go():
    model = tiny("deep residual")
    dropped(model, "features.2", "features.3", "features.4")
    assert not any(isinstance(module, Block) for module in model.modules())
    assert model(X).shape == (2, 4)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("features", "it holds the residual blocks features.2, features.3, features.4; name those"),
        ("features.2.conv1", "it is no residual block, whose output has its input's shape and is that input with"),
        ("head", "it is no residual block"),
    ],
)
def test_what_is_no_block_is_skipped_with_the_reason(layer, reason):
    model = tiny("deep residual")
    expected = model(X)
    outcome = dropped(model, layer)
    assert not outcome.changed
    assert not outcome.rewired
    assert outcome.skipped[layer].startswith(reason)
    assert torch.equal(model(X), expected)


def test_a_reason_that_is_known_is_given():
    outcome = dropped(tiny("deep residual"), "features.2", blocks=(Found(name="features.2", params=1, reason="so"),))
    assert outcome.skipped == {"features.2": "so"}


class Either(nn.Module):
    """Runs without one of its blocks, not without both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Block(8, 8, 1), Block(8, 8, 1)

    def forward(self, x):
        if not any(True for _ in self.parameters()):
            raise ValueError("nothing left")
        return self.other(self.one(x))


def test_the_last_of_blocks_that_cannot_all_go_is_kept():
    model, x = Either().eval(), torch.randn(1, 8, 16, 16)
    assert not any(block.reason for block in residual_blocks(model, x))
    outcome = DropBlocks(blocks=("one", "other")).apply(model, PassContext(example=x))
    assert outcome.changed.keys() == {"one"}
    assert outcome.skipped == {"other": "the network does not run without it: ValueError: nothing left"}
    assert model(x).shape == x.shape


def test_modes_are_kept():
    model = tiny("deep residual").train()
    model.features[2].eval()
    dropped(model, "features.2", "features.3")
    assert model.training
    assert (model.features[2].training, model.features[3].training) == (False, True)


class StemLast(nn.Module):
    """Defines its blocks before the stem that they are coupled with, so that the group has the name of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 8, 1))
        self.stem, self.head = conv_norm(3, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def test_channels_are_pruned_by_the_groups_of_the_network_that_is_left():
    base = StemLast().eval()
    groups = channel_groups(base, X[:1])
    assert groups[1].outs == ("blocks.0.conv2.0", "blocks.1.conv2.0", "stem.0")
    steps = (
        PassStep(name="drop_blocks", settings={"blocks": ["blocks.0"]}),
        PassStep(name="prune_channels", settings={"ratios": {"stem.0": 0.5}}),
    )
    result = compose(base, Recipe(passes=steps), PassContext(example=X[:1], groups=groups))
    assert result.changed["prune_channels: blocks.1.conv2.0"] == "8 → 4 channels"
    assert result.model(X).shape == (2, 4)
