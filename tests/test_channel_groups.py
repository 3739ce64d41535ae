"""Coupled channels: who loses channels together, and where surgery is sound."""

import copy

import pytest
import torch
from tiny_models import TINY_MODELS, Pooled, conv_norm, inputs_of, tiny
from torch import nn

from autocompress.graph.channel_groups import channel_groups, find_group, group_at, remove_channels, trace

OUTPUT = "its channels are the model's output"
# Members of each group that can be treated: those that lose outputs, then those that lose inputs.
TREATABLE = {
    "plain": {"0": (("0",), ("2",)), "2": (("2",), ("5",))},
    "residual": {
        "features.0.0": (
            ("features.0.0", "features.2.conv2.0"),
            ("features.2.conv1.0", "features.3.conv1.0", "features.3.shortcut.0"),
        ),
        "features.2.conv1.0": (("features.2.conv1.0",), ("features.2.conv2.0",)),
        "features.3.conv1.0": (("features.3.conv1.0",), ("features.3.conv2.0",)),
        "features.3.conv2.0": (("features.3.conv2.0", "features.3.shortcut.0"), ("head",)),
    },
    "deep residual": {
        "features.0.0": (
            ("features.0.0", *(f"features.{place}.conv2.0" for place in (2, 3, 4))),
            (*(f"features.{place}.conv1.0" for place in (2, 3, 4)), "head"),
        ),
        **{f"features.{i}.conv1.0": ((f"features.{i}.conv1.0",), (f"features.{i}.conv2.0",)) for i in (2, 3, 4)},
    },
    "padded shortcut": {
        "features.2.conv1.0": (("features.2.conv1.0",), ("features.2.conv2.0",)),
        "features.3.conv1.0": (("features.3.conv1.0",), ("features.3.conv2.0",)),
    },
    "depthwise": {
        "features.0.0": (("features.0.0",), ("features.2.0",)),
        "features.2.0": (("features.2.0", "features.4.0"), ("features.6.0",)),
        "features.6.0": (("features.6.0",), ("head",)),
    },
    "grouped": {
        "features.0.0": (("features.0.0",), ("features.2.0",)),
        "features.2.0": (("features.2.0",), ("features.4.0",)),
        "features.4.0": (("features.4.0",), ("head",)),
    },
    "concat": {
        "features.stem.0": (("features.stem.0",), ("features.left.0", "features.right.0", "features.joined.0")),
        "features.left.0": (("features.left.0",), ("features.joined.0",)),
        "features.right.0": (("features.right.0",), ("features.joined.0",)),
        "features.joined.0": (("features.joined.0",), ("head",)),
    },
    "squeeze-excite": {
        "features.0.0": (("features.0.0", "features.2.expand"), ("features.2.reduce", "features.3.0")),
        "features.2.reduce": (("features.2.reduce",), ("features.2.expand",)),
        "features.3.0": (("features.3.0",), ("head",)),
    },
    "group norm": {"0": (("0",), ("3",)), "3": (("3",), ("7",))},
    "vit": {"fc1": (("fc1",), ("fc2",))},
    "tied": {},
    "conv1d": {"features.0": (("features.0",), ("features.3",)), "features.3": (("features.3",), ("head",))},
    "mlp": {"0": (("0",), ("3",)), "3": (("3",), ("5",))},
}


def groups_of(name: str):
    return channel_groups(tiny(name), inputs_of(name, 1))


@pytest.mark.parametrize("name", TINY_MODELS)
def test_groups_couple_what_the_wiring_couples(name):
    assert {g.name: (g.outs, g.ins) for g in groups_of(name) if not g.reason} == TREATABLE[name]


@pytest.mark.parametrize("name", TINY_MODELS)
def test_removing_channels_of_a_treatable_group_is_zeroing_them(name):
    """Independent of the module's own check: the zeroed channels are others, and set at the group's own layers."""
    model, x = tiny(name), inputs_of(name)
    for group in groups_of(name):
        size = group.width // group.chunks
        if group.reason or any(isinstance(m, nn.GroupNorm | nn.LayerNorm) for m in model.modules()):
            continue
        channels = [part * size + i for part in range(group.chunks) for i in (1, size - 1)]
        cut, masked = copy.deepcopy(model), copy.deepcopy(model)
        remove_channels(trace(cut, x[:1]), cut, group.name, channels)
        for out in group.outs:
            _zero_where_it_ends(masked, out, channels)
        torch.testing.assert_close(cut(x), masked(x), rtol=1e-4, atol=1e-5)


def _zero_where_it_ends(model: nn.Module, layer: str, channels: list[int]) -> None:
    """Zero the channels of a layer and of the BatchNorm that follows it in the tiny models."""
    modules = [model.get_submodule(layer)]
    parent, _, last = layer.rpartition(".")
    siblings = dict(model.get_submodule(parent).named_children())
    follower = siblings.get(str(int(last) + 1)) if last.isdigit() else None
    if isinstance(follower, nn.BatchNorm1d | nn.BatchNorm2d):
        modules.append(follower)
    for module in modules:
        for parameter in module.parameters(recurse=False):
            parameter.data[channels] = 0


@pytest.mark.parametrize("name", TINY_MODELS)
def test_the_model_is_left_alone(name):
    model = tiny(name)
    model.train()
    next(model.children()).eval()
    for parameter in list(model.parameters())[::2]:
        parameter.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    needed = [parameter.requires_grad for parameter in model.parameters()]
    before = copy.deepcopy(model.state_dict())

    channel_groups(model, inputs_of(name, 1))

    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == needed
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "group", "reason"),
    [
        *((name, "head", OUTPUT) for name in ("residual", "vit", "conv1d")),
        ("mlp", "5", OUTPUT),
        (
            "padded shortcut",
            "features.0.0",
            "the network does not run without channels of this group: RuntimeError: mat1",
        ),
        (
            "vit",
            "embed",
            "the network does not run without channels of this group: RuntimeError: shape '[1, 16, 3, 2, 4]'",
        ),
        (
            "tied",
            "one",
            "removing its channels is not the same as zeroing them: the forward pass uses them in a way not",
        ),
    ],
)
def test_what_cannot_be_treated_has_a_reason(name, group, reason):
    found = find_group(groups_of(name), group)
    assert found is not None
    assert found.reason.startswith(reason)


class Mirror(nn.Module):
    """Adds the channels in reverse order: runs at any width, but cut channels pair up with others."""

    def forward(self, x):
        return x + x.flip(1)


def test_surgery_that_runs_but_moves_channels_is_found_out():
    model = Pooled(nn.Sequential(conv_norm(3, 16), Mirror(), nn.Conv2d(16, 8, 1)), 8).eval()
    (first, *_) = channel_groups(model, torch.randn(1, 3, 8, 8))
    assert first.name == "features.0.0"
    assert first.reason == (
        "removing its channels is not the same as zeroing them: the forward pass uses them in a way not traced"
    )


def test_too_few_channels_are_a_reason():
    model = Pooled(nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Conv2d(1, 4, 1)), 4).eval()
    assert channel_groups(model, torch.randn(1, 3, 8, 8))[0].reason == "has only 1 channels"
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(4, 4), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(256, 4))
    assert channel_groups(model.eval(), torch.randn(1, 3, 8, 8))[0].reason == "has only 4 channels in 4 parts"


@pytest.mark.parametrize(
    ("name", "group", "chunks"),
    [
        ("grouped", "features.0.0", 2),
        ("grouped", "features.2.0", 2),
        ("grouped", "features.4.0", 1),
        ("depthwise", "features.2.0", 1),
        ("group norm", "0", 4),
        ("group norm", "3", 1),
    ],
)
def test_channels_come_in_the_parts_that_groups_need(name, group, chunks):
    assert find_group(groups_of(name), group).chunks == chunks


def test_a_channel_before_a_flatten_feeds_one_input_per_position():
    assert find_group(groups_of("plain"), "2").feeds == {"5": 16}
    assert find_group(groups_of("concat"), "features.stem.0").feeds == {
        "features.left.0": 1,
        "features.right.0": 1,
        "features.joined.0": 1,
    }


def test_a_layer_is_found_by_any_of_the_group_and_not_by_what_it_feeds():
    groups = groups_of("residual")
    assert find_group(groups, "features.2.conv2.0").name == "features.0.0"
    assert find_group(groups, "features.3.shortcut.0").name == "features.3.conv2.0"
    assert find_group(groups, "absent") is None


def test_groups_come_in_the_order_of_definition():
    model = tiny("residual")
    order = [name for name, _ in model.named_modules()]
    names = [group.name for group in groups_of("residual")]
    assert names == sorted(names, key=order.index)


def test_all_channels_are_meant_when_none_are_named():
    model = tiny("plain")
    members = group_at(trace(model, inputs_of("plain", 1)), model, "2")
    assert members[0].idxs == list(range(16))
