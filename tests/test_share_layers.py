"""One set of weights for several blocks."""

from itertools import pairwise

import pytest
import timm
import torch
from tiny_models import Block, inputs_of, shape_of, tiny
from tiny_tasks import task_for
from torch import nn

from autocompress.graph.program import from_portable, to_portable
from autocompress.graph.shared_weights import matrices_of, sharable_blocks, share_matrices
from autocompress.passes import PassContext, ShareLayers
from autocompress.recipe import Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import recover

NAME = "deep residual"
BLOCKS = ("features.2", "features.3", "features.4")
KERNELS = ("conv1.0.weight", "conv2.0.weight")


def shared(model: nn.Module, *groups: tuple[str, ...]):
    return ShareLayers(groups=groups).apply(model, PassContext(example=torch.empty(0)))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def are_one(model: nn.Module, blocks: tuple[str, ...] = BLOCKS) -> bool:
    first, *others = (model.get_submodule(name) for name in blocks)
    return all(other.get_parameter(key) is first.get_parameter(key) for other in others for key in KERNELS)


def test_kernels_become_those_of_the_first_and_the_rest_stays_its_own():
    model, base = tiny(NAME), tiny(NAME)
    outcome = shared(model, BLOCKS)
    assert are_one(model)
    kernels = 2 * 8 * 8 * 9
    expected = f"has the weights of features.2, {kernels:,} parameters fewer"
    assert outcome.changed == {"features.3": expected, "features.4": expected}
    assert parameters(model) == parameters(base) - 2 * kernels
    for name in BLOCKS:
        ours, theirs = model.get_submodule(name).state_dict(), base.get_submodule(name).state_dict()
        first = base.get_submodule(BLOCKS[0]).state_dict()
        assert all(torch.equal(value, (first if key in KERNELS else theirs)[key]) for key, value in ours.items())


def test_training_keeps_them_one():
    model = tiny(NAME)
    shared(model, BLOCKS)
    before = parameters(model)
    recover(model, SampleStream(task_for(NAME), 0), Recovery(steps=3, batch=8, learning_rate=1e-2), teacher=None)
    assert are_one(model)
    assert parameters(model) == before
    start = tiny(NAME).get_submodule(BLOCKS[0])
    assert not torch.equal(model.get_submodule(BLOCKS[0]).get_parameter(KERNELS[0]), start.get_parameter(KERNELS[0]))
    norms = [model.get_submodule(name).conv1[1] for name in BLOCKS]
    assert not torch.equal(norms[0].weight, norms[1].weight)
    assert not torch.equal(norms[0].running_mean, norms[1].running_mean)


def test_a_stored_network_stays_shared():
    model = tiny(NAME)
    shared(model, BLOCKS)
    back = from_portable(to_portable(model, shape_of(NAME)))
    assert parameters(back) == parameters(model)
    torch.testing.assert_close(back(inputs_of(NAME)), model(inputs_of(NAME)))


class Wide(nn.Sequential):
    """Linear layers in a row."""

    def __init__(self, *widths: int, bias: bool = True) -> None:
        super().__init__(*(nn.Linear(a, b, bias=bias) for a, b in pairwise(widths)))


@pytest.mark.parametrize(
    ("first", "other", "reason"),
    [
        (Wide(4, 6, 4), Wide(4, 5, 4), "its 0.weight is [5, 4], that of 0 is [6, 4]"),
        (Wide(4, 6, 4), Wide(4, 6, 4, bias=False), "it has no 0.bias, which 0 has"),
        (Wide(4, 4), Wide(4, 4, 4), "it has 1.weight, which 0 does not have"),
        (Wide(4, 4), nn.Identity(), "it has no 0.weight, which 0 has"),
        (nn.ReLU(), nn.ReLU(), "it has no matrices or kernels to share"),
        (nn.LayerNorm((4, 4)), nn.LayerNorm((4, 4)), "it has no matrices or kernels to share"),
    ],
)
def test_a_block_of_another_structure_is_skipped_with_the_first_difference(first, other, reason):
    outcome = shared(nn.Sequential(first, other), ("0", "1"))
    assert (outcome.changed, outcome.skipped) == ({}, {"1": reason})


def test_a_block_that_differs_does_not_keep_the_others_apart():
    model = nn.Sequential(Wide(4, 6, 4), Wide(4, 5, 4), Wide(4, 6, 4))
    outcome = shared(model, ("0", "1", "2"))
    assert (outcome.changed.keys(), outcome.skipped.keys()) == ({"2"}, {"1"})
    assert model[2][0].weight is model[0][0].weight


def test_weights_that_are_used_elsewhere_too_save_nothing():
    model = tiny("tied")
    outcome = shared(model, ("one", "other"))
    reason = "its weights are used elsewhere too, so that sharing saves nothing"
    assert (outcome.changed, outcome.skipped) == ({}, {"other": reason})


def test_recurrent_layers_run_on_the_shared_weights():
    one, other = nn.LSTM(4, 4), nn.LSTM(4, 4)
    share_matrices(one, other)
    assert matrices_of(one) == ("weight_ih_l0", "weight_hh_l0")
    for bias in ("bias_ih_l0", "bias_hh_l0"):
        assert other.get_parameter(bias) is not one.get_parameter(bias)
        other.get_parameter(bias).data.copy_(one.get_parameter(bias))
    x = torch.randn(3, 1, 4)
    assert torch.equal(other(x)[0], one(x)[0])


def test_matrices_are_what_multiplies():
    block = nn.Module()
    block.attention, block.norm = nn.MultiheadAttention(8, 2), nn.LayerNorm((4, 8))
    block.position = nn.Parameter(torch.zeros(1, 8))
    assert matrices_of(block) == ("attention.in_proj_weight", "attention.out_proj.weight")


@pytest.mark.parametrize(
    ("model", "groups"),
    [
        pytest.param(tiny(NAME), (BLOCKS,), id="siblings"),
        pytest.param(tiny("mlp"), (), id="layers are no blocks"),
        pytest.param(nn.Sequential(Wide(4, 4), Wide(4, 4)), (), id="nor are layers in a box"),
        pytest.param(nn.Sequential(Block(8, 8, 1), Block(8, 8, 2), Block(8, 8, 1)), (("0", "2"),), id="not in a row"),
        pytest.param(
            nn.Sequential(nn.Sequential(Wide(4, 4, 4), Wide(4, 4, 4)), Wide(4, 4)),
            (("0.0", "0.1"),),
            id="in their parent",
        ),
        pytest.param(
            nn.Sequential(*(nn.Sequential(Wide(4, 4, 4), Wide(4, 4, 4)) for _ in range(2))),
            (("0", "1"),),
            id="the outermost",
        ),
    ],
)
def test_sharable_blocks_are_siblings_of_equal_structure(model, groups):
    assert sharable_blocks(model) == groups


def test_sharable_blocks_of_known_networks():
    assert sharable_blocks(timm.create_model("vit_tiny_patch16_224")) == (tuple(f"blocks.{i}" for i in range(12)),)
    assert sharable_blocks(timm.create_model("resnet18")) == (("layer1.0", "layer1.1"),)


def test_blocks_that_share_already_are_no_candidates():
    model = tiny(NAME)
    shared(model, BLOCKS[:2])
    assert sharable_blocks(model) == ((BLOCKS[0], BLOCKS[2]),)
    shared(model, (BLOCKS[0], BLOCKS[2]))
    assert sharable_blocks(model) == ()
