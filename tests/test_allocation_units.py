from collections import Counter

import pytest
from tiny_anatomy import anatomy
from tiny_models import TINY_MODELS

from autocompress.graph.units import by_units, units_of


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_layer_and_every_treatable_group_belongs_to_one_unit(name):
    units = units_of(anatomy(name))
    assert Counter(layer for unit in units for layer in unit.layers) == Counter(
        layer.name for layer in anatomy(name).layers
    )
    assert Counter(group for unit in units for group in unit.groups) == Counter(
        group.name for group in anatomy(name).groups if not group.reason
    )
    assert len({unit.name for unit in units}) == len(units)
    assert all(unit.layers or unit.groups for unit in units)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_stages_by_units_are_the_units(name):
    units, changed = units_of(anatomy(name)), by_units(anatomy(name))
    for place, unit in enumerate(units):
        assert changed.stages[place] == unit.layers
        assert {group.name for group in changed.groups_of_stage(place)} == set(unit.groups)
        assert changed.droppable(place) == ((unit.block,) if unit.droppable else ())
    assert units_of(changed) == units


def test_a_residual_block_is_a_unit_with_its_inner_channels():
    block = next(unit for unit in units_of(anatomy("deep residual")) if unit.block == "features.3")
    assert block.droppable
    assert block.layers == ("features.3.conv1.0", "features.3.conv2.0")
    assert block.groups == ("features.3.conv1.0",)


def test_channels_that_several_units_make_are_a_unit_without_layers_behind_the_first_of_them():
    names = [unit.name for unit in units_of(anatomy("deep residual"))]
    assert names[:2] == ["features.0.0", "features.0.0 (width)"]
    width = units_of(anatomy("deep residual"))[1]
    assert (width.layers, width.groups, width.droppable) == ((), ("features.0.0",), False)


def test_outside_of_blocks_layers_that_make_the_same_channels_are_one_unit():
    of_layer = {layer: unit.name for unit in units_of(anatomy("depthwise")) for layer in unit.layers}
    assert of_layer["features.2.0"] == of_layer["features.4.0"]  # the expansion and its depthwise convolution
    assert of_layer["features.2.0"] != of_layer["features.6.0"]
