"""Recipes: complete, replayable, hashable."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis.strategies import (
    builds,
    dictionaries,
    floats,
    integers,
    lists,
    none,
    recursive,
    sampled_from,
    text,
)

from autocompress.errors import RecipeError
from autocompress.recipe import Arithmetic, Base, Distill, PassStep, Recipe, Recovery

EXAMPLE = """
schema: 1
base: {model: resnet18, sha256: abc}
passes:
  - prune_channels: {ratios: {layer1.0.conv1: 0.25}, criterion: l1}
  - factorize: {layers: {fc: {method: svd, rank: 32}}}
  - quantize:
recovery: {steps: 600, distill: {logits: 0.9, temperature: 2.0}}
seed: 3
"""
words = text("abcdefgxyz_.0123456789äé", min_size=1, max_size=8).filter(lambda word: word != "name")
values = recursive(
    integers(-5, 5) | floats(-10, 10) | words | none(),
    lambda inner: lists(inner) | dictionaries(words, inner),
    max_leaves=6,
)
recipes = builds(
    Recipe,
    base=none() | builds(Base, model=words, sha256=words),
    passes=lists(builds(PassStep, name=words, settings=dictionaries(words, values)), max_size=3).map(tuple),
    recovery=builds(
        Recovery,
        steps=integers(0, 9999),
        learning_rate=floats(1e-9, 10),
        distill=builds(Distill, logits=floats(0, 1), features=floats(0, 10)),
        arithmetic=sampled_from(Arithmetic),
    ),
    seed=integers(0, 2**63 - 1),
)


def test_the_example_reads_as_it_says():
    recipe = Recipe.from_yaml(EXAMPLE)
    assert [step.name for step in recipe.passes] == ["prune_channels", "factorize", "quantize"]
    assert recipe.settings_of("factorize") == {"layers": {"fc": {"method": "svd", "rank": 32}}}
    assert recipe.settings_of("quantize") == recipe.settings_of("drop_blocks") == {}
    assert (recipe.seed, recipe.recovery.steps, recipe.recovery.distill.temperature) == (3, 600, 2.0)


@given(recipe=recipes)
@settings(max_examples=40)
def test_a_recipe_is_read_back_from_yaml_and_json(recipe):
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_yaml(recipe.to_yaml()).digest() == recipe.digest()


def test_a_written_recipe_has_the_keys_of_the_format():
    written = json.loads(Recipe.from_yaml(EXAMPLE).to_json())
    assert list(written) == ["schema", "base", "passes", "recovery", "seed"]
    assert written["passes"][0] == {"prune_channels": {"ratios": {"layer1.0.conv1": 0.25}, "criterion": "l1"}}


def test_a_digest_is_the_same_in_every_process_and_version():
    assert Recipe.from_yaml(EXAMPLE).digest() == "212fd2ff83a24110"


def test_a_digest_knows_values_not_the_order_of_keys():
    one = Recipe(passes=(PassStep(name="p", settings={"a": 1, "b": 2}),))
    other = Recipe(passes=(PassStep(name="p", settings={"b": 2, "a": 1}),))
    assert one.digest() == other.digest()
    assert one.digest() != Recipe(passes=(PassStep(name="p", settings={"a": 1, "b": 3}),)).digest()
    assert one.digest() != one.with_steps(5).digest()
    assert one.digest() != Recipe(passes=one.passes, seed=1).digest()


def test_the_structure_digest_ignores_recovery_and_seed():
    recipe = Recipe.from_yaml(EXAMPLE)
    assert recipe.structure_digest() == recipe.with_steps(7).model_copy(update={"seed": 9}).structure_digest()
    assert recipe.structure_digest() != recipe.model_copy(update={"passes": ()}).structure_digest()
    assert recipe.structure_digest() != recipe.model_copy(update={"base": None}).structure_digest()


def test_with_steps_changes_the_steps_of_a_copy():
    recipe = Recipe.from_yaml(EXAMPLE)
    longer = recipe.with_steps(1200)
    assert (longer.recovery.steps, recipe.recovery.steps) == (1200, 600)
    assert longer.recovery.distill == recipe.recovery.distill


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "a recipe is a YAML file: while parsing a flow node"),
        ("!!python/object/apply:os.getcwd []", "a recipe is a YAML file: could not determine a constructor"),
        (
            "- 1",
            "a recipe has schema, base, passes, recovery and seed; at the top level: Input should be a valid dict",
        ),
        (
            "sed: 1",
            "a recipe has schema, base, passes, recovery and seed; at sed: Extra inputs are not permitted, got 1",
        ),
        ("schema: 2", "at schema: Input should be less than or equal to 1, got 2"),
        ("seed: -1", "at seed: Input should be greater than or equal to 0, got -1"),
        ("recovery: {steps: many}", "at recovery.steps: Input should be a valid integer"),
        (
            "recovery: {distill: {logits: 2}}",
            "at recovery.distill.logits: Input should be less than or equal to 1, got 2",
        ),
        (
            "passes: [{a: {}, b: {}}]",
            "at passes.0: Value error, a pass is one 'name: settings' pair, got the keys ['a', 'b']",
        ),
        ("passes: [{quantize: 5}]", "at passes.0.settings: Input should be a valid dictionary"),
    ],
)
def test_what_is_no_recipe_is_refused_with_the_place(text, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        Recipe.from_yaml(text)


def test_features_are_written_only_where_they_are_followed():
    """So that a recipe without them reads and counts as it did before they could be followed."""
    assert "features" not in Recipe().to_yaml()
    followed = Recipe(recovery=Recovery(distill=Distill(features=0.5)))
    assert "features: 0.5" in followed.to_yaml()
    assert followed.digest() != Recipe().digest()
