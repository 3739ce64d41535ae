"""Residual blocks, found in the graph and tried."""

import copy
import re

import pytest
import timm
import torch
from tiny_models import TINY_MODELS, Attention, Block, Pooled, SqueezeExcite, conv_norm, inputs_of, tiny
from torch import Tensor, nn

from autocompress.errors import ModelError
from autocompress.graph import blocks
from autocompress.graph.blocks import residual_blocks

# What can go, by hand from the code: equal widths, stride one, a shortcut without a layer on it.
IN_TINY = {
    "residual": ["features.2"],
    "deep residual": ["features.2", "features.3", "features.4"],
    "padded shortcut": ["features.3"],
    "vit blocks": ["blocks.0", "blocks.1"],
}
IN_TIMM = {
    "resnet18": ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"],
    "vit_tiny_patch16_224": [f"blocks.{i}" for i in range(12)],
    "convnext_atto": [f"stages.{s}.blocks.{i}" for s, depth in enumerate((2, 2, 6, 2)) for i in range(depth)],
    "efficientnet_lite0": [f"blocks.{s}.{i}" for s, depth in enumerate((1, 2, 2, 3, 3, 4, 1)) for i in range(1, depth)],
    "regnety_002": [*(f"s3.b{i}" for i in (2, 3, 4)), *(f"s4.b{i}" for i in range(2, 8))],
}  # fmt: skip


class Residual(nn.Module):
    """``x + f(x)`` around any module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class PreNorm(nn.Module):
    """A transformer block with layer scale, which adds twice."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 32), nn.Linear(32, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.attention(self.norm1(x))
        return torch.addcmul(x, self.scale, self.fc2(self.fc1(self.norm2(x)).relu()))


class Projected(nn.Module):
    """A shortcut of equal shape with a layer on it."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.shortcut = conv_norm(8, 8), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)


class Moved(nn.Module):
    """A position added to every token: an addition, but no branch."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 8, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.position


class Given(nn.Module):
    """Adds what was computed outside it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.conv(x) + other


class Outside(nn.Module):
    """Calls a module with two tensors."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x.relu())


class Reads(nn.Module):
    """Needs more of a block than to be called."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Residual(nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) * self.block.inner.weight.mean()


class Twice(nn.Module):
    """One block that runs twice."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x).relu())


IMAGE = torch.randn(1, 8, 16, 16)
TOKENS = torch.randn(1, 9, 16)


def names(model: nn.Module, x: Tensor) -> list[str]:
    found = residual_blocks(model.eval(), x)
    assert not any(block.reason for block in found)
    return [block.name for block in found]


@pytest.mark.parametrize("name", TINY_MODELS)
def test_blocks_of_the_tiny_networks(name):
    assert names(tiny(name), inputs_of(name, 1)) == IN_TINY.get(name, [])


@pytest.mark.parametrize("name", IN_TIMM)
def test_blocks_of_known_networks(name):
    more = {"img_size": 32} if name.startswith("vit") else {}
    size = 32 if more else 64
    assert names(timm.create_model(name, **more), torch.randn(1, 3, size, size)) == IN_TIMM[name]


@pytest.mark.parametrize(
    ("model", "x", "expected"),
    [
        pytest.param(nn.Sequential(PreNorm(), PreNorm()), TOKENS, ["0", "1"], id="transformer"),
        pytest.param(nn.Sequential(nn.Sequential(Block(8, 8, 1)), nn.ReLU()), IMAGE, ["0.0"], id="the innermost"),
        pytest.param(nn.Sequential(Residual(Block(8, 8, 1))), IMAGE, ["0.inner"], id="nested"),
        pytest.param(Twice(Block(8, 8, 1)), IMAGE, ["block"], id="a block that runs twice"),
        pytest.param(nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1)), IMAGE, [], id="equal shape alone"),
        pytest.param(nn.Sequential(Projected()), IMAGE, [], id="a layer on the shortcut"),
        pytest.param(nn.Sequential(SqueezeExcite(8, 4)), IMAGE, [], id="a gate"),
        pytest.param(nn.Sequential(Moved()), IMAGE, [], id="an added constant"),
        pytest.param(nn.Sequential(Residual(nn.ReLU())), IMAGE, [], id="no parameters"),
        pytest.param(Outside(Given()), IMAGE, [], id="two tensors in"),
        pytest.param(nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()), IMAGE, [], id="a norm"),
    ],
)
def test_a_block_is_what_adds_to_its_input_and_nothing_else(model, x, expected):
    assert names(model, x) == expected


def test_the_parameters_are_those_that_leave_with_the_block():
    one, other = Block(8, 8, 1), Block(8, 8, 1)
    other.conv1[0].weight = one.conv1[0].weight
    own = sum(p.numel() for p in other.parameters()) - one.conv1[0].weight.numel()
    found = residual_blocks(Pooled(nn.Sequential(one, other), 8).eval(), IMAGE)
    assert [(block.name, block.params) for block in found] == [("features.0", own), ("features.1", own)]


def test_a_block_whose_weights_are_all_used_elsewhere_stays():
    one, other = Residual(nn.Conv2d(8, 8, 1, bias=False)), Residual(nn.Conv2d(8, 8, 1, bias=False))
    other.inner.weight = one.inner.weight
    found = residual_blocks(nn.Sequential(one, other), IMAGE)
    assert [(block.params, block.reason) for block in found] == [(0, "its weights are also used outside it")] * 2


def test_a_block_that_is_read_from_outside_stays_with_the_reason():
    (block,) = residual_blocks(Reads(), IMAGE)
    assert block.name == "block"
    assert re.match("the network does not run without it: AttributeError: 'Identity' object has no", block.reason)


def test_a_block_without_which_the_output_has_another_shape_stays(monkeypatch):
    """No graph says so of a true block: the search for them is told that a downsampling layer is one."""
    monkeypatch.setattr(blocks, "_is_residual", lambda call: len(call.nodes) == 1)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1))
    (block,) = residual_blocks(model, IMAGE)
    assert block.reason == "without it the output is [1, 8, 16, 16] instead of [1, 8, 8, 8]"


def test_the_model_is_left_alone():
    model = tiny("deep residual").train()
    model.features[0].eval()
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    residual_blocks(model, inputs_of("deep residual", 2))
    assert [module.training for module in model.modules()] == modes
    assert isinstance(model.features[2], Block)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_network_that_cannot_be_traced_is_refused():
    class Wilful(nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(ModelError, match=r"^the model must be traceable by torch\.export: "):
        residual_blocks(Wilful(), torch.randn(1, 4))
