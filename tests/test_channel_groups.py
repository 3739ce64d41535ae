"""Coupled channels: who loses channels together, and where surgery is sound."""

import copy
from functools import cache

import pytest
import torch
from tiny_models import TINY_MODELS, Pooled, conv_norm, inputs_of, tiny
from torch import nn

from autocompress.graph.channel_groups import ChannelGroup, channel_groups, find_group, remove_channels
from autocompress.graph.coupling import group_at, trace

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
    "vit blocks": {
        "embed": (
            ("embed", "blocks.0.attn.proj", "blocks.0.mlp.2", "blocks.1.attn.out", "blocks.1.mlp.2"),
            (
                *("blocks.0.attn.qkv", "blocks.0.mlp.0"),
                *("blocks.1.attn.q", "blocks.1.attn.k", "blocks.1.attn.v", "blocks.1.mlp.0", "head"),
            ),
        ),
        "blocks.0.attn.qkv": (("blocks.0.attn.qkv",), ("blocks.0.attn.proj",)),
        "blocks.0.mlp.0": (("blocks.0.mlp.0",), ("blocks.0.mlp.2",)),
        "blocks.1.attn.q": (("blocks.1.attn.q", "blocks.1.attn.k", "blocks.1.attn.v"), ("blocks.1.attn.out",)),
        "blocks.1.mlp.0": (("blocks.1.mlp.0",), ("blocks.1.mlp.2",)),
    },
    "lstm": {"embed": (("embed",), ("recurrent",)), "recurrent": (("recurrent",), ("head",))},
    "gru": {"embed": (("embed",), ("recurrent",)), "recurrent": (("recurrent",), ("head",))},
}

NORMALIZED = {("group norm", "0"), ("group norm", "3"), ("vit blocks", "embed")}  # cutting changes a norm's means


@cache
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
        if group.reason or (name, group.name) in NORMALIZED:
            continue
        channels = _channels_of_units(group)
        cut, masked = copy.deepcopy(model), copy.deepcopy(model)
        remove_channels(trace(cut, x[:1]), group, channels)
        if isinstance(source := masked.get_submodule(group.name), nn.RNNBase):
            _deafen(source, masked.head, channels)
        else:
            for out in group.outs:
                copies = range(group.makes.get(out, 1))
                _zero_where_it_ends(masked, out, [part * group.width + c for part in copies for c in channels])
        torch.testing.assert_close(cut(x), masked(x), rtol=1e-4, atol=1e-5)


def _channels_of_units(group: ChannelGroup) -> list[int]:
    """The second and the last unit of each chunk, the first and the last of every other chunk."""
    units = [part * group.units + i for part in range(group.chunks) for i in (1 - part % 2, group.units - 1)]
    return [unit * group.unit + i for unit in units for i in range(group.unit)]


def _deafen(source: nn.RNNBase, reader: nn.Linear, units: list[int]) -> None:
    """Nothing hears these hidden units: not the cells, not the layer above, not the reader."""
    width = source.hidden_size
    both = [*units, *(width + unit for unit in units)]
    for name, weight in [*source.named_parameters(), ("weight_ih of the reader", reader.weight)]:
        if weight.dim() == 2 and not name.startswith("weight_ih_l0"):
            weight.data[:, units if weight.shape[1] == width else both] = 0


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
            "vit",  # it works out the channels of a head from the width of its input
            "attention.qkv",
            "the network does not run without channels of this group: RuntimeError: shape '[1, 16, 3, 2, 8]'",
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
    members = group_at(trace(model, inputs_of("plain", 1)), "2")
    assert members[0].idxs == list(range(16))


class TimesWidth(nn.Module):
    """Runs at any width, but its outputs depend on it."""

    def forward(self, x):
        return x * x.shape[1]


@pytest.mark.parametrize("norm", [nn.LayerNorm(16), nn.GroupNorm(1, 16), nn.RMSNorm(16)])
def test_a_norm_over_the_channels_hides_nothing(norm):
    """Cut and zeroed differ there by the norm's means alone; what else is wrong is still found out."""
    sound, unsound = (
        nn.Sequential(nn.Linear(4, 16), norm, other, nn.Linear(16, 4)).eval() for other in (nn.ReLU(), TimesWidth())
    )
    assert not channel_groups(sound, torch.randn(1, 4))[0].reason
    assert channel_groups(unsound, torch.randn(1, 4))[0].reason.startswith("removing its channels is not the same")


class Idle(nn.Module):
    """A branch that starts without effect, as layer scales and last BatchNorms do, and that mixes up channels."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)
        self.gain = nn.Parameter(torch.zeros(8, 1, 1))

    def forward(self, x):
        inner = torch.relu(self.first(x))
        return x + self.gain * self.last(inner + inner.flip(1))


def test_a_branch_without_effect_yet_is_tried_too():
    groups = channel_groups(Pooled(Idle(), 8).eval(), torch.randn(1, 8, 4, 4))
    assert find_group(groups, "features.first").reason.startswith("removing its channels is not the same")


def test_heads_go_whole_and_the_module_is_told():
    group = find_group(groups_of("vit blocks"), "blocks.0.attn.qkv")
    assert (group.width, group.unit, group.units, group.makes) == (16, 4, 4, {"blocks.0.attn.qkv": 3})
    assert group.sizes == {"blocks.0.attn.attn_dim": 1, "blocks.0.attn.num_heads": 4}
    model = tiny("vit blocks")
    remove_channels(trace(model, inputs_of("vit blocks", 1)), group, [0, 1, 2, 3, 8, 9, 10, 11])
    attention = model.blocks[0].attn
    assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (2, 4, 8)
    assert (attention.qkv.out_features, attention.proj.in_features) == (24, 8)


def test_a_head_is_not_a_slice_of_every_head():
    """Four heads of eight channels must not be taken for eight heads of four."""
    model = tiny("vit blocks", width=32)
    groups = channel_groups(model, inputs_of("vit blocks", 1))
    assert find_group(groups, "blocks.0.attn.qkv").sizes["blocks.0.attn.num_heads"] == 8
    assert find_group(groups, "blocks.1.attn.q").sizes == {"blocks.1.attn.heads": 8}


class Gated(nn.Module):
    """A gated linear unit: each channel is a value and its gate, half the layer further."""

    def __init__(self):
        super().__init__()
        self.both, self.last = nn.Linear(12, 32), nn.Linear(16, 4)

    def forward(self, x):
        value, gate = self.both(x).chunk(2, 1)
        return self.last(value * torch.sigmoid(gate))


def test_a_gate_goes_with_its_value():
    model, x = Gated().eval(), torch.randn(3, 12)
    group = channel_groups(model, x[:1])[0]
    assert (group.width, group.makes, group.feeds, group.reason) == (16, {"both": 2}, {"last": 1}, "")
    masked = copy.deepcopy(model)
    masked.last.weight.data[:, [3, 5]] = 0
    remove_channels(trace(model, x[:1]), group, [3, 5])
    assert model.both.out_features == 28
    torch.testing.assert_close(model(x), masked(x))


def test_groups_of_a_convolution_may_lose_unlike_inputs():
    model, x = tiny("grouped"), inputs_of("grouped")
    masked = copy.deepcopy(model)
    _zero_where_it_ends(masked, "features.0.0", [0, 1, 10, 15])
    remove_channels(trace(model, x[:1]), find_group(groups_of("grouped"), "features.0.0"), [0, 1, 10, 15])
    torch.testing.assert_close(model(x), masked(x))


class Read(nn.Module):
    """A recurrent layer, read in the way that is asked for."""

    def __init__(self, recurrent: nn.RNNBase, read: str):
        super().__init__()
        self.recurrent, self.read, self.norm = recurrent, read, nn.LayerNorm(8)
        ways = {"all states": 2, "both ways": 2, "flat": 5}.get(read, 1)
        self.score, self.head = nn.Linear(8, 1), nn.Linear(8 * ways, 4)

    def forward(self, x):
        out, states = self.recurrent(x)
        hidden = states[0] if isinstance(states, tuple) else states
        match self.read:
            case "last state":
                return self.head(hidden[-1])
            case "both ways":
                return self.head(torch.cat([hidden[-2], hidden[-1]], 1))
            case "last step":
                return self.head(torch.relu(out[:, -1]))
            case "normed":
                return self.head(self.norm(out).mean(1))
            case "flat":
                return self.head(out.flatten(1))
            case "attended":
                return self.head((self.score(out).softmax(1) * out).sum(1))
            case _:
                return self.head(out.mean(1) @ torch.ones(8, 8))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    ("read", "settings", "feeds"),
    [
        ("last state", {"num_layers": 2}, {"head": 1}),
        ("both ways", {"bidirectional": True, "num_layers": 2}, {"head": 2}),
        ("last step", {"bias": False}, {"head": 1}),
        ("normed", {}, {"head": 1}),
        ("flat", {}, {"head": 5}),
        ("attended", {}, {"score": 1, "head": 1}),
    ],
)
def test_hidden_units_go_however_they_are_read(kind, read, settings, feeds):
    model, x = Read(kind(3, 8, batch_first=True, **settings), read).eval(), torch.randn(2, 5, 3)
    (group,) = (g for g in channel_groups(model, x[:1]) if g.name == "recurrent")
    assert (group.width, group.feeds, group.reason) == (8, feeds, "")
    cut = copy.deepcopy(model)
    remove_channels(trace(cut, x[:1]), group, [0, 3, 5])
    assert (cut.recurrent.hidden_size, cut.recurrent.weight_hh_l0.shape[1]) == (5, 5)
    cut(x).sum().backward()


def test_hidden_units_that_are_mixed_before_they_are_read_stay():
    model = Read(nn.GRU(3, 8, batch_first=True), "mixed").eval()
    (group,) = (g for g in channel_groups(model, torch.randn(1, 5, 3)) if g.name == "recurrent")
    assert group.reason.startswith("the network does not run without channels of this group: RuntimeError: mat1")
