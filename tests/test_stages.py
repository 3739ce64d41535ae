"""Layers grouped into a handful of stages."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from
from tiny_models import TINY_MODELS, inputs_of, tiny

from autocompress.graph.layer_table import LayerFacts, layer_table
from autocompress.graph.stages import MOST_STAGES, stages_of


def layers_at(*positions: int) -> tuple[LayerFacts, ...]:
    return tuple(
        LayerFacts(name=f"l{i}", kind="Conv2d", c_in=1, c_out=1, kernel=(1, 1), groups=1, positions=count, params=1)
        for i, count in enumerate(positions)
    )


def test_layers_of_one_resolution_form_a_stage_and_pooled_ones_join_the_stage_before():
    assert stages_of(layers_at(64, 64, 1, 1, 64, 16, 1, 4, 1)) == (
        ("l0", "l1", "l2", "l3", "l4"),
        ("l5", "l6"),
        ("l7", "l8"),
    )


def test_a_resolution_that_comes_back_is_the_same_stage():
    assert stages_of(layers_at(64, 16, 64)) == (("l0", "l2"), ("l1",))


def test_the_smallest_neighbours_are_joined_until_few_enough_are_left():
    assert stages_of(layers_at(64, 32, 16, 8, 8, 8), most=3) == (("l0", "l1"), ("l2",), ("l3", "l4", "l5"))


@pytest.mark.parametrize(
    ("count", "stages"),
    [
        (0, ()),
        (1, (("l0",),)),
        (2, (("l0",), ("l1",))),
        (7, (("l0", "l1"), ("l2", "l3", "l4"), ("l5", "l6"))),
    ],
)
def test_a_network_of_one_resolution_is_cut_by_depth(count, stages):
    assert stages_of(layers_at(*[16] * count)) == stages


@given(positions=lists(sampled_from([1, 4, 16, 49, 64, 196, 784]), max_size=30), most=integers(1, 8))
def test_every_layer_is_in_exactly_one_stage(positions, most):
    layers = layers_at(*positions)
    stages = stages_of(layers, most)
    assert sorted(name for stage in stages for name in stage) == sorted(layer.name for layer in layers)
    assert len(stages) <= max(most, 3)
    assert all(stages)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_real_networks_have_few_stages(name):
    stages = stages_of(layer_table(tiny(name), inputs_of(name, 1)))
    assert 1 <= len(stages) <= MOST_STAGES
