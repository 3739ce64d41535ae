"""A layer's weights take a few values."""

import pytest
import torch
from pass_examples import composed
from tiny_models import tiny
from tiny_tasks import task_for

from autocompress.layers.constraint import held, held_in
from autocompress.recipe import PassStep, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import recover


def clustering(layers: list[str], **each: object) -> PassStep:
    return PassStep(name="share_weights", settings={"layers": dict.fromkeys(layers, each)})


def values_of(weight: torch.Tensor) -> int:
    return len(weight.detach().unique())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_layer_has_so_many_values_and_they_are_the_means_of_their_weights(bits):
    result = composed("mlp", clustering(["0"], bits=bits))
    weight, before = result.model[0].weight.detach(), tiny("mlp")[0].weight.detach()
    assert values_of(weight) == 2**bits
    for value in weight.unique():
        assert float(before[weight == value].mean()) == pytest.approx(float(value), abs=1e-6)
    assert result.changed == {"share_weights: 0": f"{2**bits} shared values for 384 weights"}


def test_each_group_of_output_channels_has_its_own_values():
    weight = composed("mlp", clustering(["0"], bits=2, groups=4)).model[0].weight
    assert [values_of(part) for part in weight.chunk(4)] == [4] * 4
    assert values_of(weight) == 16


def test_zeros_stay_out_of_the_codebook():
    zeros = PassStep(name="prune_weights", settings={"layers": {"0": {"sparsity": 0.5}}})
    result = composed("mlp", zeros, clustering(["0"], bits=2))
    constraint, weight = result.constraints["0"], result.model[0].weight
    assert values_of(weight) == 5
    assert torch.equal(weight != 0, constraint.kept)
    assert int(constraint.indices[constraint.kept].max()) == 3


def test_clusters_last_through_recovery():
    result = composed("mlp", clustering(["0"], bits=2, groups=2))
    before = result.model[0].weight.detach().clone()
    with held(held_in(result.model, result.constraints)):
        settings = Recovery(steps=5, batch=16, learning_rate=1e-2)
        recover(result.model, SampleStream(task_for("mlp"), 0), settings, teacher=None)
    after = result.model[0].weight.detach()
    assert not torch.equal(after, before)
    assert [values_of(part) for part in after.chunk(2)] == [4, 4]


@pytest.mark.parametrize(
    ("name", "layer", "settings", "reason"),
    [
        ("mlp", "5", {"bits": 6}, "a table of 64 values is no smaller than its 64 weights"),
        ("mlp", "5", {"bits": 2, "groups": 5}, "5 groups need as many output channels, it has 4"),
        ("lstm", "recurrent", {}, "a LSTM has no single weight; linear layers and convolutions do"),
    ],
)
def test_what_would_save_nothing_is_skipped_with_the_reason(name, layer, settings, reason):
    result = composed(name, clustering([layer], **settings))
    assert result.skipped == {f"share_weights: {layer}": reason}
    assert not result.constraints


def test_of_a_sparse_layer_only_the_kept_weights_count():
    zeros = PassStep(name="prune_weights", settings={"layers": {"0": {"sparsity": 0.92}}})
    result = composed("mlp", zeros, clustering(["0"], bits=5))
    assert result.skipped == {"share_weights: 0": "a table of 32 values is no smaller than its 31 weights"}


def test_layers_that_share_a_weight_share_its_codebook():
    result = composed("tied", clustering(["one", "other"], bits=2))
    assert result.skipped == {"share_weights: other": "it shares its weight with one"}
    assert result.constraints["one"] is result.constraints["other"]
