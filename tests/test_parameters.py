from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TINY_MODELS, inputs_of, shape_of, tiny

from autocompress.graph.anatomy import Anatomy, anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.passes import PASSES
from autocompress.passes.base import PassContext
from autocompress.passes.compose import Composed, compose
from autocompress.passes.prune_channels import Criterion
from autocompress.precision import FP32, INT8, Format
from autocompress.recipe import Base, PassStep, Recipe, Recovery
from autocompress.search.parameters import Knob, RecipeBuilder
from autocompress.search.space import Techniques, load_space
from autocompress.search.summary import summary

SLOWER = settings(max_examples=8)  # each example traces the network several times


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
    kept, left = builder.steps(values).kept, dict(pruned.named_parameters(remove_duplicate=False))
    for layer in builder.anatomy.layers:
        weight = left.get(f"{layer.name}.weight")
        if layer.groups == 1 and weight is not None:  # grouped layers have no ranks, dropped ones no weight
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
@pytest.mark.parametrize("space", ["default", "everything"])
def test_every_knob_changes_the_recipe(name, space):
    builder = builder_of(name, space_name=space)
    start = builder.uniform(0.5, Format.FP32)
    for knob in builder.knobs():
        other: Mapping[str, float | str]
        if knob.range is None:
            other = {knob.name: next(choice for choice in knob.choices if choice != start[knob.name])}
        else:
            low, high = knob.range.low, knob.range.high
            other = {knob.name: low if start[knob.name] == high else high}
        if builder.recipe(start | other) == builder.recipe(start):
            # Layers so small that no pair or table pays; the space cannot know before it has the widths.
            assert knob.kind in {"rank", "codebook"}


@pytest.mark.parametrize("technique", [name for name in PASSES if name != "student"])
def test_a_single_technique_makes_recipes_of_that_pass_alone(technique):
    builder = builder_of("deep residual", (technique,), space_name="everything")
    recipe = builder.recipe(builder.uniform(0.5, Format.INT8, rank=0.5, strongest=True))
    assert [step.name for step in recipe.passes] == [technique]


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


# The space of everything: what one pass takes away is not named by the next


def everything(name: str, **values: float | str) -> Recipe:
    """One value for all stages: ``prune=0.5`` is ``prune.0``, ``prune.1`` and so on."""
    builder = builder_of(name, space_name="everything")
    given = {knob.name: values[knob.kind] for knob in builder.knobs() if knob.kind in values}
    return builder.recipe(builder.uniform(0.0) | given)


def layers_of(recipe: Recipe, technique: str) -> set[str]:
    return set(recipe.settings_of(technique).get("layers", {}))


def test_unused_everything_is_int8_and_the_strongest_of_it_uses_every_pass():
    builder = builder_of("deep residual", space_name="everything")
    assert builder.recipe(builder.uniform(0.0)) == builder_of("deep residual").recipe({})
    milder = {"drop.0": 0.0, "drop.1": 0.0, "sparse.0": 0.5, "sparse.1": 0.5}
    strongest = builder.uniform(0.5, strongest=True) | milder
    for values, unused in ((strongest, "factorize"), (strongest | {"rank.0": 0.3}, "share_layers")):
        names = [step.name for step in builder.recipe(values).passes]
        assert names == [name for name in Techniques.model_fields if name not in {unused, "student"}]


def test_half_of_three_blocks_are_the_last_two():
    builder = builder_of("deep residual", space_name="everything")
    everywhere = replace(builder.anatomy, stages=(tuple(layer.name for layer in builder.anatomy.layers),))
    whole = replace(builder, anatomy=everywhere)
    counts = {share: len(whole.recipe({"drop.0": share}).settings_of("drop_blocks")["blocks"]) for share in (0.2, 0.6)}
    assert counts == {0.2: 1, 0.6: 2}
    assert whole.recipe({"drop.0": 0.5}).settings_of("drop_blocks") == {"blocks": ["features.3", "features.4"]}


def test_layers_of_dropped_blocks_are_named_by_no_other_pass():
    builder = builder_of("deep residual", space_name="everything")
    treated = builder.uniform(0.5, Format.INT4, strongest=True)
    gone = ("features.3", "features.4")
    recipe = builder.recipe(treated | {"drop.0": 0.0})
    assert tuple(recipe.settings_of("drop_blocks")["blocks"]) == gone
    assert len(recipe.passes) > 3
    for step in recipe.passes[1:]:
        assert not any(name in str(step.settings) for name in gone), step.name
    assert recipe.settings_of("share_layers") == {}


def test_a_group_whose_first_layer_goes_is_pruned_by_one_that_stays():
    """Here the stem names the group of the stream; it could as well be a layer in a block."""
    builder = builder_of("deep residual", space_name="everything")
    stream = next(group for group in builder.anatomy.groups if "features.4.conv2.0" in group.outs)
    last = "features.4.conv2.0"
    turned = stream.model_copy(update={"outs": (last, *(name for name in stream.outs if name != last))})
    groups = tuple(turned if group is stream else group for group in builder.anatomy.groups)
    steps = replace(builder, anatomy=replace(builder.anatomy, groups=groups)).steps(
        {f"{kind}.{stage}": 0.5 for kind in ("drop", "prune") for stage in range(3)}
    )
    ratios = Recipe(passes=steps.all()).settings_of("prune_channels")["ratios"]
    assert turned.outs[1] in ratios
    assert turned.outs[0] not in ratios


def test_factorized_layers_are_neither_sparse_nor_clustered():
    builder = builder_of("vit blocks", space_name="everything")
    recipe = builder.recipe(builder.uniform(0.0, strongest=True) | {"rank.0": 0.3})
    assert layers_of(recipe, "factorize")
    for technique in ("prune_weights", "share_weights"):
        assert layers_of(recipe, technique)
        assert not layers_of(recipe, technique) & layers_of(recipe, "factorize")


@pytest.mark.parametrize(("precision", "format_"), [("int4", "int8"), ("int8", "int8"), ("fp32", "fp32")])
def test_a_layer_with_a_codebook_computes_in_int8_or_in_floats(precision, format_):
    builder = builder_of("deep residual", space_name="everything")
    values = builder.uniform(0.0, Format(precision)) | {"codebook.0": "4", "codebook.1": "4", "tie": "2"}
    recipe = builder.recipe(values)
    plan = applied("deep residual", recipe).plan
    clustered = {"features.0.0", "features.2.conv1.0", "features.2.conv2.0"}
    assert layers_of(recipe, "share_weights") == clustered
    of_tied = {"features.3.conv1.0", "features.3.conv2.0"}
    assert {plan.of(name).weights for name in clustered | of_tied} == {format_}
    assert {plan.of(name).weights for name in ("features.4.conv1.0", "head")} == {precision}


def test_a_weight_of_two_layers_is_named_once_and_stored_one_way():
    recipe = everything("tied", codebook="2", sparse=0.5, precision="int4")
    copies = anatomy("tied").copies
    assert copies == {"other": "one"}
    builder = builder_of("tied", space_name="everything")
    values = builder.uniform(0.0, Format.INT4) | {f"codebook.{builder.anatomy.stage_of['one']}": "4"}
    assert "other" not in layers_of(recipe, "prune_weights")
    plan = applied("tied", builder.recipe(values)).plan
    assert plan.of("one") == plan.of("other")


def test_blocks_share_weights_in_neighbouring_pairs_of_equal_treatment():
    pairs = everything("deep residual", tie="2").settings_of("share_layers")["groups"]
    assert pairs == [["features.2", "features.3"]]
    builder = builder_of("deep residual", space_name="everything")
    stages = {builder.anatomy.stage_of[layer.name] for layer in builder.anatomy.layers_in("features.3")}
    values = {"tie": "2"} | {f"sparse.{stage}": 0.5 for stage in stages}
    tied = builder.recipe(values).settings_of("share_layers").get("groups", [])
    assert all(builder.steps(values)._structure(one) == builder.steps(values)._structure(other) for one, other in tied)


def test_one_format_for_all_layers_is_the_default_of_the_recipe():
    builder = builder_of("deep residual", space_name="everything")
    assert summary(builder.recipe(builder.uniform(0.0, Format.INT4))) == "int4"


def test_a_summary_says_every_technique_in_few_words():
    settings: dict[str, dict[str, Any]] = {
        "drop_blocks": {"blocks": ["a"]},
        "prune_channels": {"ratios": {"b": 0.25, "c": 0.75}},
        "prune_weights": {"layers": {"d": {"sparsity": 0.5}, "e": {"sparsity": 0.9}, "f": {"pattern": "2:4"}}},
        "factorize": {"layers": {"g": {"rank": 3}}},
        "share_layers": {"groups": [["h", "i"], ["j", "k", "l"]]},
        "share_weights": {"layers": {"m": {"bits": 4}, "n": {}}},
        "quantize": {
            "default": {"weights": "int4", "activations": "int8"},
            "layers": {
                "o": {"weights": "fp16"},
                "p": {"weights": "int8", "activations": "int8_dynamic"},
                "q": {"weights": "int4", "block": 32},
            },
        },
    }
    recipe = Recipe(passes=tuple(PassStep(name=name, settings=each) for name, each in settings.items()))
    assert summary(recipe).split(" · ") == [
        "−1 block",
        "−50% channels in 2 groups (l1)",
        "2:4 to 90% sparse in 3 layers",
        "low rank in 1 layer",
        "5 blocks on 2 sets of weights",
        "4-bit codebooks in 2 layers",
        "int4, 1 layer fp16, 1 layer int8 dynamic, 1 layer int4 weights",
    ]
    assert summary(Recipe(passes=(PassStep(name="quantize"),))) == "int8"
