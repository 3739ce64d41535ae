"""Whole channels go, the least important ones."""

import copy
import re

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers
from tiny_models import inputs_of, tiny
from tiny_tasks import vectors
from torch import nn

from autocompress.errors import RecipeError
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
    message = "prune_channels.criterion taylor needs training data; use l1 where there is none"
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


def group(width: int, chunks: int = 1) -> ChannelGroup:
    return ChannelGroup(name="g", width=width * chunks, chunks=chunks, outs=("g",), ins=())


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


def test_pruning_all_there_is_leaves_a_network_that_runs_and_the_original_whole():
    model, x = tiny("residual"), inputs_of("residual", 1)
    original = copy.deepcopy(model)
    groups = channel_groups(model, x)
    ratios = {g.name: MOST_PRUNED for g in groups if not g.reason}
    PruneChannels(ratios=ratios, align=1).apply(model, PassContext(example=x, groups=groups))
    assert model(x).shape == (1, 4)
    assert sum(p.numel() for p in model.parameters()) < 0.1 * sum(p.numel() for p in original.parameters())
