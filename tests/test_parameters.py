from collections.abc import Mapping
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TINY_MODELS, inputs_of, shape_of, tiny

from autocompress.graph.anatomy import Anatomy, anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.passes.base import PassContext
from autocompress.passes.compose import Composed, compose
from autocompress.passes.prune_channels import Criterion
from autocompress.precision import FP32, INT8, Format
from autocompress.recipe import Base, Recipe, Recovery
from autocompress.search.parameters import Knob, RecipeBuilder
from autocompress.search.space import load_space
from autocompress.search.summary import summary

SLOWER = settings(max_examples=8, deadline=None)  # each example traces the network several times


@lru_cache
def model_of(name: str):
    return tiny(name)


@lru_cache
def anatomy(name: str) -> Anatomy:
    return anatomy_of(model_of(name), example_input(shape_of(name)))


@lru_cache
def builder_of(
    name: str, techniques: tuple[str, ...] = (), align: int = 8, space_name: str = "default"
) -> RecipeBuilder:
    space = load_space(space_name)
    return RecipeBuilder(
        space=space.only(techniques) if techniques else space,
        anatomy=anatomy(name),
        base=Base(model=name),
        recovery=Recovery(steps=7),
        seed=3,
        align=align,
    )


def applied(name: str, recipe: Recipe) -> Composed:
    model = model_of(name)

    def losses(copied):
        yield copied(inputs_of(name)).square().mean()

    known = anatomy(name)
    context = PassContext(
        example=example_input(shape_of(name)), losses=losses, groups=known.groups, blocks=known.blocks
    )
    return compose(model, recipe, context)


def drawn(data: st.DataObject, knobs: tuple[Knob, ...]) -> dict[str, float | str]:
    """One value for every knob, its ends likely."""
    values: dict[str, float | str] = {}
    for knob in knobs:
        if knob.range is None:
            values[knob.name] = data.draw(st.sampled_from(knob.choices), knob.name)
        else:
            low, high = knob.range.low, knob.range.high
            values[knob.name] = data.draw(st.sampled_from([low, high]) | st.floats(low, high), knob.name)
    return values


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize(("align", "space"), [(8, "default"), (16, "default"), (8, "everything")])
@given(data=st.data())
@SLOWER
def test_any_parameters_make_a_recipe_that_applies_whole(name, align, space, data):
    """No error, no skipped layer (so every rank is valid and pays at the pruned width), and the network runs."""
    builder = builder_of(name, align=align, space_name=space)
    recipe = builder.recipe(drawn(data, builder.knobs()))
    composed = applied(name, recipe)
    recurrent = {"quantize: recurrent": f"a {name.upper()} is computed and stored in fp32"}
    assert composed.skipped.items() <= recurrent.items()
    assert composed.model(inputs_of(name)).shape == (2, 4)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.parametrize("name", TINY_MODELS)
@given(data=st.data())
@SLOWER
def test_widths_that_ranks_are_chosen_for_are_those_that_pruning_leaves(name, data):
    builder = builder_of(name)
    values = drawn(data, builder.knobs())
    recipe = builder.recipe({key: value for key, value in values.items() if not key.startswith("rank")})
    pruned = applied(name, recipe).model
    kept = builder.steps(values).kept
    for layer in builder.anatomy.layers:
        weight = pruned.get_submodule(layer.name).weight
        if layer.groups == 1:  # grouped layers have no ranks
            assert builder.anatomy.widths_after(layer, kept) == (weight.shape[1], weight.shape[0])


@pytest.mark.parametrize("name", TINY_MODELS)
def test_uniform_zero_is_int8_and_nothing_else(name):
    builder = builder_of(name)
    recipe = builder.recipe(builder.uniform(0.0))
    assert [step.name for step in recipe.passes] == ["quantize"]
    assert recipe.settings_of("quantize") == {"default": INT8.model_dump(mode="json", exclude_none=True)}
    assert summary(recipe) == "int8"


@pytest.mark.parametrize("name", TINY_MODELS)
def test_nothing_pruned_in_fp32_at_full_rank_is_the_network_itself(name):
    builder = builder_of(name)
    recipe = builder.recipe(builder.uniform(0.0, Format.FP32))
    assert recipe.passes == ()
    assert summary(recipe) == "unchanged"


@pytest.mark.parametrize("name", TINY_MODELS)
def test_missing_values_leave_a_stage_as_it_is_but_for_the_first_precision(name):
    builder = builder_of(name)
    assert builder.recipe({}).passes == builder.recipe(builder.uniform(0.0)).passes


def test_uniform_values_are_clipped_to_the_space():
    builder = builder_of("residual")
    values = builder.uniform(0.95, Format.FP32, rank=0.01)
    assert {key: value for key, value in values.items() if key.startswith("prune")} == {
        "prune.0": 0.85,
        "prune.1": 0.85,
    }
    assert {values[key] for key in values if key.startswith("rank")} == {0.2}
    assert {values[key] for key in values if key.startswith("precision")} == {"fp32"}
    assert values["criterion"] == "l1"


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_knob_changes_the_recipe(name):
    builder = builder_of(name)
    start = builder.uniform(0.5, Format.FP32)
    for knob in builder.knobs():
        other: Mapping[str, float | str]
        if knob.range is None:
            other = {knob.name: next(choice for choice in knob.choices if choice != start[knob.name])}
        else:
            low, high = knob.range.low, knob.range.high
            other = {knob.name: low if start[knob.name] == high else high}
        if builder.recipe(start | other) == builder.recipe(start):
            # Ranks of layers so small that no pair pays; the space cannot know before it has the widths.
            assert knob.name.startswith("rank")


@pytest.mark.parametrize("technique", ["prune_channels", "factorize", "quantize"])
def test_a_single_technique_makes_recipes_of_that_pass_alone(technique):
    builder = builder_of("residual", (technique,))
    values = builder.uniform(0.5, Format.INT8, rank=0.5)
    assert {key.split(".")[0] for key in values} <= {"prune", "criterion", "rank", "precision"}
    assert [step.name for step in builder.recipe(values).passes] == [technique]


def test_base_recovery_and_seed_are_those_of_the_run():
    builder = builder_of("mlp")
    recipe = builder.recipe(builder.uniform(0.5))
    assert (recipe.base, recipe.recovery, recipe.seed) == (Base(model="mlp"), Recovery(steps=7), 3)


def test_the_criterion_asked_for_is_the_one_used():
    builder = builder_of("residual")
    recipe = builder.recipe(builder.uniform(0.5) | {"criterion": "taylor"})
    assert recipe.settings_of("prune_channels")["criterion"] == Criterion.TAYLOR


def test_a_stage_in_fp32_keeps_each_of_its_layers_out_of_int8():
    builder = builder_of("residual")
    recipe = builder.recipe(builder.uniform(0.0) | {"precision.1": "fp32"})
    kept = recipe.settings_of("quantize")["layers"]
    assert set(kept) == set(builder.anatomy.stages[1])
    assert all(value == FP32.model_dump(mode="json", exclude_none=True) for value in kept.values())


def test_a_summary_names_what_was_done():
    builder = builder_of("residual")
    recipe = builder.recipe(builder.uniform(0.5, rank=0.2) | {"precision.1": "fp32"})
    assert summary(recipe).startswith("−50% channels in 4 groups (l1) · low rank in ")
    assert summary(recipe).endswith(f"int8, {len(builder.anatomy.stages[1])} layers fp32")
