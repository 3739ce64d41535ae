"""Whole channels go, the least important ones."""

import copy
import re

import pytest
import timm
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers
from timm.models.regnet import RegNet, RegNetCfg
from tiny_exports import preprocess_of, run
from tiny_models import Series, inputs_of, tiny
from tiny_tasks import vectors
from torch import nn

from autocompress.errors import RecipeError
from autocompress.export.onnx_file import to_onnx
from autocompress.graph.channel_groups import ChannelGroup, channel_groups
from autocompress.passes import PassContext, PruneChannels
from autocompress.passes.prune_channels import MOST_PRUNED, kept_width
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import training_losses


def pruned(name: str, seed: int = 0, **settings) -> tuple[nn.Module, dict[str, str], dict[str, str]]:
    model, x = tiny(name), inputs_of(name, 1)
    outcome = PruneChannels(**settings).apply(model, PassContext(example=x, seed=seed))
    return model, outcome.changed, outcome.skipped


def test_the_channels_of_least_l1_norm_go():
    """Li et al. 2017: filters are ranked by the sum of their absolute weights."""
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False)).eval()
    size = torch.tensor([5.0, 1, 8, 2, 7, 3, 6, 4])
    with torch.no_grad():
        model[0].weight.copy_(size[:, None].expand(8, 4))
        model[2].weight.fill_(1.0)
    PruneChannels(ratios={"0": 0.5}, align=1).apply(model, PassContext(example=torch.ones(1, 4)))
    assert model[0].weight[:, 0].tolist() == [5, 8, 7, 6]
    assert model[2].weight.shape == (2, 4)


def test_taylor_keeps_what_the_loss_needs():
    """Molchanov et al. 2019: (gradient × weight)² tells a large weight that nothing depends on from a small one."""
    model = nn.Sequential(nn.Linear(12, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False)).eval()
    with torch.no_grad():
        model[0].weight[:2] *= 0.1
        model[2].weight[:, :2] *= 10
        model[0].weight[2:] *= 10
        model[2].weight[:, 2:] = 0.0  # without effect on the outputs
    needed = model[0].weight[:2].clone()
    stream = SampleStream(vectors(), 0)
    context = PassContext(example=torch.ones(1, 12), losses=lambda net: training_losses(net, stream, batches=2))
    PruneChannels(ratios={"0": 0.5}, criterion="taylor", align=1).apply(model, context)
    assert torch.equal(model[0].weight, needed)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_taylor_without_data_is_refused():
    message = "prune_channels.criterion taylor needs training data; use another criterion where there is none"
    with pytest.raises(RecipeError, match=f"^{message}$"):
        pruned("mlp", ratios={"0": 0.5}, criterion="taylor")


def test_random_follows_the_seed():
    models = [pruned("mlp", seed, ratios={"0": 0.5}, criterion="random")[0][0].weight for seed in (0, 0, 1)]
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_coupled_layers_lose_the_same_channels():
    model, changed, _ = pruned("residual", ratios={"features.2.conv2.0": 0.5}, align=4)
    assert changed == {"features.0.0": "8 → 4 channels"}
    features = model.features
    widths = [features[0][0].out_channels, features[0][1].num_features, features[2].conv2[0].out_channels]
    fed = [features[2].conv1[0].in_channels, features[3].conv1[0].in_channels, features[3].shortcut[0].in_channels]
    assert widths == fed == [4] * 3


def test_grouped_channels_keep_the_same_number_in_every_part():
    model, changed, _ = pruned("grouped", ratios={"features.2.0": 0.5, "features.0.0": 0.75}, align=2)
    assert changed == {"features.2.0": "16 → 8 channels", "features.0.0": "16 → 4 channels"}
    convolution = model.features[2][0]
    assert (convolution.groups, convolution.in_channels, convolution.out_channels) == (2, 4, 8)
    assert model(inputs_of("grouped")).shape == (2, 4)


def test_the_parts_of_a_group_norm_stay_equal():
    model, changed, _ = pruned("group norm", ratios={"0": 0.4}, align=1)
    assert changed == {"0": "32 → 20 channels"}
    assert (model[1].num_groups, model[1].num_channels) == (4, 20)
    assert model(inputs_of("group norm")).shape == (2, 4)


def test_groups_that_were_tried_before_are_not_tried_again():
    model, x = tiny("mlp"), inputs_of("mlp", 1)
    groups = tuple(g.model_copy(update={"reason": "told so"}) for g in channel_groups(model, x))
    outcome = PruneChannels(ratios={"0": 0.5}).apply(model, PassContext(example=x, groups=groups))
    assert outcome.skipped == {"0": "told so"}


def test_a_layer_without_channels_of_its_own_is_skipped():
    _, changed, skipped = pruned("residual", ratios={"features.0.1": 0.5, "head": 0.5})
    assert changed == {}
    assert skipped == {
        "features.0.1": "its output channels belong to no group",
        "head": "its channels are the model's output",
    }


def test_a_ratio_too_small_to_matter_changes_nothing():
    model, changed, skipped = pruned("mlp", ratios={"0": 0.0, "3": 0.01})
    assert (changed, skipped) == ({}, {})
    assert model.state_dict().keys() == tiny("mlp").state_dict().keys()


def test_two_ratios_for_one_group_are_refused():
    message = (
        "prune_channels.ratios gives each group one ratio; features.0.0 and features.2.conv2.0 are of one group; "
        "keep one of them"
    )
    with pytest.raises(RecipeError, match=f"^{re.escape(message)}$"):
        pruned("residual", ratios={"features.0.0": 0.5, "features.2.conv2.0": 0.5})


def test_modes_and_gradients_are_as_they_were():
    model = tiny("residual")
    model.train()
    model.head.eval()
    model.head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    PruneChannels(ratios={"features.0.0": 0.5}).apply(model, PassContext(example=inputs_of("residual", 1)))
    assert [module.training for module in model.modules()] == modes
    assert not model.head.weight.requires_grad
    assert model.features[0][0].weight.requires_grad


def group(width: int, chunks: int = 1, unit: int = 1) -> ChannelGroup:
    return ChannelGroup(name="g", width=width * chunks * unit, chunks=chunks, unit=unit, outs=("g",), ins=())


@given(width=integers(1, 300), chunks=integers(1, 4), ratio=floats(0, MOST_PRUNED), align=integers(1, 64))
def test_the_kept_width_is_a_multiple_near_what_was_asked(width, chunks, ratio, align):
    kept = kept_width(group(width, chunks), ratio, align)
    assert 1 <= kept // chunks <= width
    assert kept % chunks == 0
    step = align
    while step > 1 and width < 4 * step:
        step //= 2
    assert (kept // chunks) % step == 0 or kept // chunks == width
    assert abs(kept / chunks - width * (1 - ratio)) <= max(step, 1)


@pytest.mark.parametrize(
    ("width", "ratio", "align", "kept"),
    [
        (64, 0.5, 8, 32),
        (64, 0.45, 8, 32),
        (64, 0.0, 8, 64),
        (64, 0.95, 8, 8),
        (12, 0.5, 8, 6),
        (3, 0.9, 8, 1),
        (65, 0, 8, 64),
    ],
)
def test_the_kept_width_by_example(width, ratio, align, kept):
    assert kept_width(group(width), ratio, align) == kept


@given(heads=integers(1, 16), unit=integers(2, 64), ratio=floats(0, MOST_PRUNED), align=integers(1, 64))
def test_heads_are_kept_whole_and_one_at_least(heads, unit, ratio, align):
    kept = kept_width(group(heads, unit=unit), ratio, align)
    assert kept % unit == 0
    assert 1 <= kept // unit <= heads
    assert abs(kept / unit - heads * (1 - ratio)) <= (0.5 if ratio <= 1 - 1 / heads else 1)


def test_the_heads_of_least_summed_norm_go():
    """A head with one huge channel and small others comes after one of middling channels."""
    model = tiny("vit blocks")
    attention = model.blocks[0].attn
    sums = [6.0, 4.0, 5.0, 1.0]
    with torch.no_grad():
        attention.proj.weight.fill_(1.0)
        of_channel = torch.tensor([[s, 0, 0, 0] if s == 4 else [s / 4] * 4 for s in sums]).flatten()
        attention.qkv.weight.copy_(of_channel.repeat(3)[:, None].expand(48, 16))
    before = attention.qkv.weight.clone()
    settings = PruneChannels(ratios={"blocks.0.attn.qkv": 0.5})
    outcome = settings.apply(model, PassContext(example=inputs_of("vit blocks", 1)))
    assert outcome.changed == {"blocks.0.attn.qkv": "4 → 2 heads"}
    kept = [part * 16 + head * 4 + i for part in range(3) for head in (0, 2) for i in range(4)]
    assert torch.equal(attention.qkv.weight, before[kept])


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_hidden_units_of_least_l1_norm_go(name):
    model = tiny(name)
    width, weak = 12, [1, 4, 7, 11]
    with torch.no_grad():
        for weight in model.recurrent.parameters():
            weight.view(-1, width, *weight.shape[1:])[:, weak] *= 0.01
    gates = model.recurrent.weight_ih_l0.view(-1, width, 8)[:, [j for j in range(width) if j not in weak]].clone()
    outcome = PruneChannels(ratios={"recurrent": 1 / 3}, align=4).apply(model, PassContext(example=inputs_of(name, 1)))
    assert outcome.changed == {"recurrent": "12 → 8 channels"}
    assert torch.equal(model.recurrent.weight_ih_l0.view(-1, 8, 8), gates)


def test_taylor_keeps_the_hidden_units_that_are_read():
    """A unit that nothing reads has no gradient, however large its weights are."""
    torch.manual_seed(0)
    model = Series(nn.LSTM(8, 12, batch_first=True), last=True).eval()
    with torch.no_grad():
        model.head.weight[:, :6] = 0.0
        model.recurrent.weight_hh_l0[:, :6] = 0.0
        model.recurrent.weight_ih_l0.view(4, 12, 8)[:, :6] *= 10
    read = model.recurrent.weight_ih_l0.view(4, 12, 8)[:, 6:].clone()
    context = PassContext(example=torch.randn(1, 10, 6), losses=lambda net: [net(torch.randn(4, 10, 6)).square().sum()])
    PruneChannels(ratios={"recurrent": 0.5}, criterion="taylor", align=2).apply(model, context)
    assert torch.equal(model.recurrent.weight_ih_l0.view(4, 6, 8), read)


@pytest.mark.parametrize(("name", "operator", "layers"), [("lstm", "LSTM", 2), ("gru", "GRU", 1)])
def test_a_narrower_recurrent_layer_is_one_operator_of_the_file(name, operator, layers):
    """Not a loop unrolled over time; one operator per layer, of the width that is left."""
    model, _, _ = pruned(name, ratios={"recurrent": 0.5}, align=2)
    proto = to_onnx(model, preprocess_of(name), 1)
    cells = [node for node in proto.graph.node if node.op_type == operator]
    assert [attribute.i for node in cells for attribute in node.attribute if attribute.name == "hidden_size"] == [
        6
    ] * layers
    torch.testing.assert_close(run(proto, inputs_of(name, 1).numpy()), model(inputs_of(name, 1)).detach().numpy())


ZOO = {
    "heads and an embedding": lambda: timm.create_model("vit_tiny_patch16_224", num_classes=4, img_size=32, depth=2),
    "layer scales between unlike layers": lambda: timm.create_model(
        "convnext_atto", num_classes=4, depths=(1, 1, 1, 1), conv_mlp=False
    ),
    "grouped convolutions with squeeze-excite": lambda: RegNet(
        RegNetCfg(depth=4, w0=24, wa=60.0, wm=1.6, group_size=8, se_ratio=0.25), num_classes=4
    ),
}


@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo_shrink_and_train(name):
    """Every group is treated, but the one of the output."""
    torch.manual_seed(0)
    model, x = ZOO[name]().eval(), torch.randn(2, 3, 32, 32)
    before = sum(p.numel() for p in model.parameters())
    groups = channel_groups(model, x[:1])
    context = PassContext(example=x[:1], groups=groups)
    outcome = PruneChannels(ratios={group.name: 0.5 for group in groups}).apply(model, context)
    assert list(outcome.skipped.values()) == ["its channels are the model's output"]
    assert sum(p.numel() for p in model.parameters()) < 0.4 * before
    trained = copy.deepcopy(model).train()
    trained(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in trained.parameters())


def test_pruning_all_there_is_leaves_a_network_that_runs_and_the_original_whole():
    model, x = tiny("residual"), inputs_of("residual", 1)
    original = copy.deepcopy(model)
    groups = channel_groups(model, x)
    ratios = {g.name: MOST_PRUNED for g in groups if not g.reason}
    PruneChannels(ratios=ratios, align=1).apply(model, PassContext(example=x, groups=groups))
    assert model(x).shape == (1, 4)
    assert sum(p.numel() for p in model.parameters()) < 0.1 * sum(p.numel() for p in original.parameters())
