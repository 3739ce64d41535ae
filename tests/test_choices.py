from functools import cache

import pytest
import torch
from tiny_anatomy import anatomy
from tiny_models import TINY_MODELS, inputs_of, tiny

from autocompress.graph.units import by_units, units_of
from autocompress.passes.base import PassContext
from autocompress.passes.compose import Composed, compose
from autocompress.precision import Format
from autocompress.recipe import Base, Recipe, Recovery
from autocompress.search.allocation.choices import Choice, choices_by_unit, choices_of, values_of
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.space import Range, SearchSpace, load_space
from autocompress.search.steps import blocks_that_may_go


@cache
def space() -> SearchSpace:
    return load_space("everything")


def recipe_of(name: str, picked: dict[int, Choice]) -> Recipe:
    units = units_of(anatomy(name))
    builder = RecipeBuilder(
        space=space(),
        anatomy=by_units(anatomy(name)),
        base=Base(model=name),
        recovery=Recovery(),
        seed=0,
        align=4,
    )
    return builder.recipe(values_of(dict.fromkeys(range(len(units)), Choice()) | picked))


def composed(name: str, recipe: Recipe) -> Composed:
    found = anatomy(name)
    context = PassContext(example=inputs_of(name, n=1), groups=found.groups, blocks=found.blocks, shapes_only=True)
    return compose(tiny(name), recipe, context)


def few(choices: tuple[Choice, ...]) -> list[Choice]:
    """The strongest of each technique alone, and the strongest of all that leave the unit there."""
    alone = {choice.technique_names: choice for choice in choices if len(choice.technique_names) < 2}
    return [*alone.values(), [choice for choice in choices if not choice.drop][-1]]


@pytest.mark.parametrize("name", TINY_MODELS)
def test_each_choice_of_each_unit_alone_composes_and_runs(name):
    layers = {layer.name for layer in anatomy(name).layers}
    for place, unit in enumerate(units_of(anatomy(name))):
        for choice in few(choices_of(unit, anatomy(name), space())):
            made = composed(name, recipe_of(name, {place: choice}))
            assert made.model(inputs_of(name)).shape == (2, 4)
            treated = {key.split(": ")[1] for key in made.changed} & layers
            assert treated <= {*unit.layers, *unit.groups, *anatomy(name).copies}, (unit.name, choice)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_choice_that_names_a_technique_changes_something_unless_it_does_not_pay(name):
    for place, unit in enumerate(units_of(anatomy(name))):
        for choice in few(choices_of(unit, anatomy(name), space())):
            names = {step.name for step in recipe_of(name, {place: choice}).passes}
            assert names <= choice.technique_names | {"quantize"}
            if choice == Choice():
                assert not names


def test_no_choice_is_there_twice_and_what_changes_nothing_comes_first():
    for unit in units_of(anatomy("deep residual")):
        choices = choices_of(unit, anatomy("deep residual"), space())
        assert len(set(choices)) == len(choices)
        assert choices[0] == Choice()


def test_a_dropped_unit_drops_its_block_and_nothing_else():
    units = units_of(anatomy("deep residual"))
    place = next(place for place, unit in enumerate(units) if unit.droppable)
    assert Choice(drop=True) in choices_of(units[place], anatomy("deep residual"), space())
    made = composed("deep residual", recipe_of("deep residual", {place: Choice(drop=True)}))
    assert isinstance(made.model.get_submodule(units[place].block), torch.nn.Identity)
    assert list(made.changed) == [f"drop_blocks: {units[place].block}"]


def test_channels_without_layers_of_their_own_are_pruned_and_nothing_else():
    units = units_of(anatomy("deep residual"))
    place = next(place for place, unit in enumerate(units) if not unit.layers)
    choices = choices_of(units[place], anatomy("deep residual"), space())
    assert choices == tuple(Choice(prune=share) for share in (0.0, 0.25, 0.5, 0.75))
    recipe = recipe_of("deep residual", {place: choices[2]})
    assert [step.name for step in recipe.passes] == ["prune_channels"]
    assert composed("deep residual", recipe).changed == {"prune_channels: features.0.0": "8 → 4 channels"}


def test_a_space_without_a_technique_has_none_of_its_choices():
    unit = next(unit for unit in units_of(anatomy("deep residual")) if unit.droppable)
    only = space().only(("prune_channels", "quantize"))
    choices = choices_of(unit, anatomy("deep residual"), only)
    assert {name for choice in choices for name in choice.technique_names} == {"prune_channels", "quantize"}
    assert len(choices) == 4 * 3


def test_joint_choices_are_there_and_contradictions_are_not():
    unit = next(unit for unit in units_of(anatomy("deep residual")) if unit.droppable)
    choices = choices_of(unit, anatomy("deep residual"), space())
    assert Choice(prune=0.5, rank=0.5, precision=Format.INT4) in choices
    assert Choice(prune=0.25, sparse=0.6, codebook=4, precision=Format.INT8) in choices
    assert not [choice for choice in choices if choice.sparse and choice.rank < 1]
    assert not [choice for choice in choices if choice.codebook and choice.precision is not Format.INT8]


def test_codebooks_in_float_stand_in_for_those_in_int8():
    unit = next(unit for unit in units_of(anatomy("deep residual")) if unit.droppable)
    usual = choices_of(unit, anatomy("deep residual"), space())
    in_float = choices_of(unit, anatomy("deep residual"), space(), Format.FP32)
    assert {choice.precision for choice in in_float if choice.codebook} == {Format.FP32}
    assert len(in_float) == len(usual)
    assert {choice for choice in in_float if not choice.codebook} == {choice for choice in usual if not choice.codebook}
    place = units_of(anatomy("deep residual")).index(unit)
    recipe = recipe_of("deep residual", {place: Choice(codebook=4)})
    assert [step.name for step in recipe.passes] == ["share_weights"]


@pytest.mark.parametrize(("share", "last"), [(0.0, ""), (0.3, "c"), (0.6, "bc"), (1.0, "abc")])
def test_of_a_stages_blocks_the_last_may_go_as_the_space_says(share, last):
    assert blocks_that_may_go("abc", share) == last
    found = anatomy("deep residual")
    assert [len(found.droppable(stage)) for stage in range(len(found.stages))] == [1, 1, 1]
    drop = space().passes.drop_blocks.model_copy(update={"share": Range(low=0.0, high=share)})
    narrow = space().model_copy(update={"passes": space().passes.model_copy(update={"drop_blocks": drop})})
    rows = zip(units_of(found), choices_by_unit(found, narrow), strict=True)
    gone = [unit.block for unit, row in rows if Choice(drop=True) in row]
    assert gone == (["features.2", "features.3", "features.4"] if share > 0.5 else [])


def test_values_round_trip_through_the_settings_of_a_recipe():
    """What a choice sets for its unit is what the recipe does to the unit's layers, and to no other layer."""
    units = units_of(anatomy("deep residual"))
    place = next(place for place, unit in enumerate(units) if unit.droppable)
    choice = Choice(prune=0.5, sparse=0.6, codebook=4, precision=Format.INT8)
    recipe = recipe_of("deep residual", {place: choice})
    (inner,) = units[place].groups
    assert recipe.settings_of("prune_channels")["ratios"] == {inner: 0.5}
    assert recipe.settings_of("prune_weights")["layers"] == {name: {"sparsity": 0.6} for name in units[place].layers}
    assert set(recipe.settings_of("share_weights")["layers"]) <= set(units[place].layers)
    others = {layer.name for layer in anatomy("deep residual").layers} - set(units[place].layers)
    assert set(recipe.settings_of("quantize")["layers"]) == others
    assert values_of({3: choice}) == {
        "drop.3": 0.0,
        "prune.3": 0.5,
        "rank.3": 1.0,
        "sparse.3": 0.6,
        "codebook.3": "4",
        "precision.3": "int8",
    }


def test_a_choice_round_trips_and_refuses_what_no_space_allows():
    choice = Choice(prune=0.5, rank=0.25, codebook=3, precision=Format.INT8)
    assert Choice.from_json(choice.to_json()) == choice
    with pytest.raises(ValueError, match="less than 1"):
        Choice(prune=1.0)
