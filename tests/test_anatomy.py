"""What a search needs to know of a network."""

import copy
from dataclasses import replace

import pytest
from tiny_models import TINY_MODELS, inputs_of, tiny

from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.blocks import residual_blocks
from autocompress.graph.layer_table import layer_table
from autocompress.passes import PassContext, PruneChannels
from autocompress.passes.prune_channels import kept_width


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize("share", ["each", "all"])
def test_widths_after_pruning_are_those_of_the_pruned_network(name, share):
    model, x = tiny(name), inputs_of(name, 1)
    anatomy = anatomy_of(model, x)
    groups = [group for group in anatomy.groups if not group.reason]
    for chosen in [[group] for group in groups] if share == "each" else [groups]:
        ratios = {group.name: 0.25 + 0.25 * (place % 2) for place, group in enumerate(chosen)}
        kept = {group.name: kept_width(group, ratios[group.name], 4) for group in chosen}
        pruned = copy.deepcopy(model)
        PruneChannels(ratios=ratios, align=4).apply(pruned, PassContext(example=x, groups=anatomy.groups))
        real = {layer.name: (layer.c_in, layer.c_out) for layer in layer_table(pruned, x)}
        assert {layer.name: anatomy.widths_after(layer, kept) for layer in anatomy.layers} == real


@pytest.mark.parametrize("name", TINY_MODELS)
def test_nothing_pruned_leaves_every_width(name):
    anatomy = anatomy_of(tiny(name), inputs_of(name, 1))
    assert all(anatomy.widths_after(layer, {}) == (layer.c_in, layer.c_out) for layer in anatomy.layers)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_layer_has_a_stage_and_every_treatable_group_is_in_one(name):
    anatomy = anatomy_of(tiny(name), inputs_of(name, 1))
    assert anatomy.stage_of.keys() == {layer.name for layer in anatomy.layers}
    staged = [group.name for stage in range(len(anatomy.stages)) for group in anatomy.groups_of_stage(stage)]
    assert sorted(staged) == sorted(group.name for group in anatomy.groups if not group.reason)


def test_every_droppable_block_is_in_one_stage_and_none_is_known_where_none_was_looked_for():
    model, x = tiny("deep residual"), inputs_of("deep residual", 1)
    anatomy = anatomy_of(model, x)
    staged = [block for stage in range(len(anatomy.stages)) for block in anatomy.droppable(stage)]
    assert staged == [block.name for block in residual_blocks(model, x)] == ["features.2", "features.3", "features.4"]
    assert anatomy.alike == (("features.2", "features.3", "features.4"),)
    without = anatomy_of(model, x, blocks=False)
    assert without.blocks is None
    assert without.droppable(0) == ()


def test_a_block_that_must_stay_is_known_and_not_droppable():
    anatomy = anatomy_of(tiny("deep residual"), inputs_of("deep residual", 1))
    assert anatomy.blocks is not None
    staying = tuple(block.model_copy(update={"reason": "it must"}) for block in anatomy.blocks)
    assert [replace(anatomy, blocks=staying).droppable(stage) for stage in range(3)] == [(), (), ()]


def test_layers_with_one_weight_are_known_by_the_first():
    anatomy = anatomy_of(tiny("tied"), inputs_of("tied", 1), blocks=False)
    assert anatomy.copies == {"other": "one"}
    assert anatomy_of(tiny("plain"), inputs_of("plain", 1), blocks=False).copies == {}
