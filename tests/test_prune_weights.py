"""Single weights become zero and stay zero."""

import pytest
import torch
from pass_examples import composed, layers_of
from tiny_models import inputs_of, tiny
from tiny_tasks import task_for

from autocompress.layers.constraint import held, held_in
from autocompress.passes import PassContext
from autocompress.passes.compose import compose
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import recover


def pruned(name: str, *more: PassStep, criterion: str = "magnitude", layers=None, **each: object):
    layers = layers or list(layers_of(name))
    settings = {"layers": dict.fromkeys(layers, each), "criterion": criterion}
    return composed(name, PassStep(name="prune_weights", settings=settings), *more)


@pytest.mark.parametrize("sparsity", [0.25, 0.9])
def test_the_smallest_weights_go_and_the_others_stay(sparsity):
    result = pruned("residual", sparsity=sparsity)
    for layer, module in layers_of("residual").items():
        before, after = module.weight.detach(), result.model.get_submodule(layer).weight.detach()
        kept = after != 0
        assert int(kept.sum()) == round(before.numel() * (1 - sparsity))
        assert torch.equal(after[kept], before[kept])
        assert before[kept].abs().min() >= before[~kept].abs().max()
        assert torch.equal(result.constraints[layer].kept, kept)


@pytest.mark.parametrize(("pattern", "n", "m"), [("1:4", 1, 4), ("2:4", 2, 4), ("2:8", 2, 8), ("4:8", 4, 8)])
def test_a_pattern_keeps_n_of_every_m_inputs(pattern, n, m):
    result = pruned("residual", pattern=pattern)
    assert "prune_weights: features.0.0" in result.skipped  # three input channels
    weight = result.model.features[2].conv1[0].weight.detach()
    blocks = (weight != 0).movedim(1, -1).reshape(-1, m).sum(1)
    assert (blocks == n).all()
    assert result.constraints["features.2.conv1.0"].pattern == pattern


def test_taylor_keeps_what_the_loss_needs():
    """A large weight of an input that is always zero has no gradient: it goes first."""
    model = tiny("mlp")
    with torch.no_grad():
        model[0].weight[:, 0] = 3.0
    context = PassContext(example=inputs_of("mlp", 1), losses=lambda m: (m(blind) ** 2).sum()[None])
    blind = inputs_of("mlp", 16)
    blind[:, 0] = 0
    kept = {}
    for criterion in ("magnitude", "taylor"):
        step = PassStep(name="prune_weights", settings={"layers": {"0": {"sparsity": 0.5}}, "criterion": criterion})
        kept[criterion] = compose(model, Recipe(passes=(step,)), context).constraints["0"].kept[:, 0]
    assert kept["magnitude"].all()
    assert not kept["taylor"].any()


def test_layers_that_share_a_weight_share_its_zeros():
    result = pruned("tied", sparsity=0.5)
    assert result.skipped == {"prune_weights: other": "it shares its weight with one"}
    assert result.constraints["one"] is result.constraints["other"]


def test_what_is_no_layer_is_skipped_with_its_kind():
    result = pruned("lstm", layers=["recurrent"], sparsity=0.5)
    assert "LSTM has no single weight" in result.skipped["prune_weights: recurrent"]
    assert not result.constraints


def test_factors_inherit_the_sparsity_of_their_layer():
    factors = PassStep(name="factorize", settings={"layers": {"0": {"rank": 3}}, "gain": "smaller"})
    result = pruned("mlp", factors, sparsity=0.75)
    assert "factorize: 0" in result.changed
    parts = [name for name in result.constraints if name.startswith("0.")]
    assert len(parts) == 2
    for name in parts:
        weight = result.model.get_submodule(name).weight
        assert int((weight != 0).sum()) == round(weight.numel() / 4)
        assert torch.equal(result.constraints[name].kept, weight != 0)
    assert "0" not in result.constraints


def test_a_factor_that_does_not_fit_the_pattern_gets_its_share_and_is_not_said_to_have_it():
    factors = PassStep(name="factorize", settings={"layers": {"0": {"rank": 3}}, "gain": "smaller"})
    constraints = pruned("mlp", factors, pattern="2:4").constraints
    assert constraints["0.reduce"].pattern == "2:4"  # 12 inputs
    assert constraints["0.expand"].pattern is None  # 3 inputs
    assert constraints["0.expand"].kept.float().mean() == 0.5


def test_zeros_last_through_recovery():
    result = pruned("mlp", sparsity=0.8)
    before = result.model[0].weight.detach().clone()
    with held(held_in(result.model, result.constraints)):
        settings = Recovery(steps=5, batch=16, learning_rate=1e-2)
        recover(result.model, SampleStream(task_for("mlp"), 0), settings, teacher=None)
    after = result.model[0].weight.detach()
    assert torch.equal(after != 0, before != 0)
    assert not torch.equal(after, before)
