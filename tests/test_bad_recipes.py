"""A recipe that cannot be carried out is refused before any work, with the nearest that can."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import inputs_of, tiny
from tiny_runs import NET, TASK, tiny_bench, tiny_net, tiny_task

import autocompress as ac
from autocompress.cli.app import run
from autocompress.commands import apply as applying
from autocompress.errors import RecipeError
from autocompress.passes import PassContext
from autocompress.passes.compose import compose
from autocompress.recipe import PassStep, Recipe

Steps = list[dict[str, Any]]
CODEBOOK = {"share_weights": {"layers": {"block.conv1": {"bits": 4}}}}
SPARSE = {"prune_weights": {"layers": {"head": {"sparsity": 0.5}}}}

BAD: dict[str, tuple[Steps, str]] = {
    "an absent layer": (
        [{"factorize": {"layers": {"block.conv3": {"rank": 4}}}}],
        "factorize.layers names the layer 'block.conv3', which the model does not have; near: block.conv2, block.conv1",
    ),
    "an absent layer of precision": (
        [{"quantize": {"layers": {"haed": {"weights": "int8"}}}}],
        "quantize.layers names the layer 'haed', which the model does not have; near: head",
    ),
    "an absent block": (
        [{"drop_blocks": {"blocks": ["blok"]}}],
        "drop_blocks.blocks names the layer 'blok', which the model does not have; near: block",
    ),
    "a layer that a pass before took away": (
        [{"drop_blocks": {"blocks": ["block"]}}, {"factorize": {"layers": {"block.conv1": {"rank": 4}}}}],
        "names the layer 'block.conv1', which the model does not have",
    ),
    "a rank beyond the layer": (
        [{"factorize": {"layers": {"down": {"rank": 99}}}}],
        "factorize.layers.down.rank must lie in [1, 32] at the layer's final width, got 99; nearest: 32",
    ),
    "a rank beyond the pruned layer": (
        [{"prune_channels": {"ratios": {"down": 0.5}}}, {"factorize": {"layers": {"down": {"rank": 20}}}}],
        "rank must lie in [1, 16] at the layer's final width, got 20; nearest: 16",
    ),
    "no rank": (
        [{"factorize": {"layers": {"down": {"rank": 0}}}}],
        "factorize.layers.down.rank: Input should be greater than or equal to 1, got 0; nearest: 1",
    ),
    "ranks of another method": (
        [{"factorize": {"layers": {"down": {"method": "tucker2", "rank": 4}}}}],
        "the method tucker2 needs ranks: [out, in], and no rank, got ",
    ),
    "a ratio": (
        [{"prune_channels": {"ratios": {"stem": 1.5}}}],
        "prune_channels.ratios: the pruned ratio of stem must lie in [0, 0.95], got 1.5; nearest: 0.95",
    ),
    "bits of a codebook": (
        [{"share_weights": {"layers": {"head": {"bits": 9}}}}],
        "share_weights.layers.head.bits: bits must lie in [2, 8], got 9; nearest: 8",
    ),
    "bits of a format": (
        [{"quantize": {"default": {"weights": "int9"}}}],
        "or 'int2', got 'int9'; nearest: int8",
    ),
    "a size of blocks": (
        [{"quantize": {"layers": {"head": {"weights": "int4", "block": 48}}}}],
        "block must be one of 16, 32, 64, 128, 256, got 48; nearest: 32",
    ),
    "a sparsity": (
        [{"prune_weights": {"layers": {"head": {"sparsity": 1.2}}}}],
        "sparsity must lie in [0, 0.99], got 1.2; nearest: 0.99",
    ),
    "a pattern": (
        [{"prune_weights": {"layers": {"head": {"pattern": "3:4"}}}}],
        "pattern must be one of 1:4, 2:4, 2:8, 4:8, got '3:4'; nearest: 2:4",
    ),
    "an alignment": (
        [{"prune_channels": {"align": 100}}],
        "prune_channels.align: Input should be less than or equal to 64, got 100; nearest: 64",
    ),
    "a setting": (
        [{"prune_channels": {"ratio": {"stem": 0.5}}}],
        "prune_channels.ratio: Extra inputs are not permitted, got {'stem': 0.5}; near: ratios",
    ),
    "a pass": ([{"prune_chanels": {}}], "got 'prune_chanels'; near: prune_channels"),
    "4 bits of a codebook's layer": (
        [CODEBOOK, {"quantize": {"layers": {"block.conv1": {"weights": "int4", "activations": "int8"}}}}],
        "a codebook of 4 bits; a layer has one of them: nearest: weights int8 without block (in quantize, after sha",
    ),
    "blocks of a sparse layer": (
        [SPARSE, {"quantize": {"layers": {"head": {"weights": "int8", "block": 32}}}}],
        "prune_weights leaves most of them out; a layer has one of them: nearest: the same weights without block",
    ),
    "two ratios of one group": (
        [{"prune_channels": {"ratios": {"stem": 0.5, "block.conv2": 0.25}}}],
        "gives each group one ratio; stem and block.conv2 are of one group; keep one of them",
    ),
    "passes out of order": (
        [{"quantize": {}}, {"prune_channels": {}}],
        "prune_channels must come before quantize: passes run in the order architecture, structure, sparsity,",
    ),
    "a pass twice": (
        [{"quantize": {}}, {"quantize": {}}],
        "a recipe has each pass once, got quantize twice; join their settings",
    ),
}
cases = pytest.mark.parametrize(("steps", "message"), BAD.values(), ids=BAD)


def recipe_of(steps: Steps) -> Recipe:
    return Recipe(passes=tuple(PassStep.model_validate(step) for step in steps))


@pytest.fixture
def no_work(monkeypatch):
    """Nothing may be trained, measured or exported."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a bad recipe must be refused before any work")

    for name in ("measure_pace", "ensure_trained", "export_base", "measured_baseline", "run_trial", "open_folder"):
        monkeypatch.setattr(applying, name, refuse)


@cases
def test_a_bad_recipe_is_refused_before_any_work_with_rule_value_and_nearest(tmp_path, no_work, steps, message):
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        ac.apply(recipe_of(steps), tiny_net(), tiny_task(), tmp_path / "out")
    assert str(caught.value).count("got ") == message.count("got ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", ["a rank beyond the layer", "bits of a codebook"])
def test_the_command_ends_with_code_2_and_writes_nothing(tmp_path, capfd, no_work, case):
    steps, message = BAD[case]
    file, out = tmp_path / "recipe.yaml", tmp_path / "out"
    file.write_text(recipe_of(steps).to_yaml())
    assert run(["apply", str(file), NET, "--data", TASK, "--out", str(out)]) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not out.exists()


def test_a_run_that_was_to_be_replaced_is_still_there(tmp_path, no_work):
    out = Path(tmp_path, "out")
    out.mkdir()
    (out / "config.yaml").write_text("kept")
    with pytest.raises(RecipeError, match="nearest: 32"):
        ac.apply(recipe_of(BAD["a rank beyond the layer"][0]), tiny_net(), tiny_task(), out, overwrite=True)
    assert [path.read_text() for path in out.iterdir()] == ["kept"]


@pytest.mark.parametrize("criterion", ["l1", "taylor"])
def test_a_good_recipe_is_tried_without_a_change_to_the_network(criterion):
    bench = tiny_bench()
    before = {name: value.clone() for name, value in bench.base.state_dict().items()}
    steps = [{"prune_channels": {"ratios": {"stem": 0.5}, "criterion": criterion}}, CODEBOOK, {"quantize": {}}]
    applying.try_recipe(recipe_of(steps), bench)
    assert bench.base.state_dict().keys() == before.keys()
    assert all(value.equal(before[name]) for name, value in bench.base.state_dict().items())
    assert all(parameter.grad is None for parameter in bench.base.parameters())


@pytest.mark.parametrize("name", ["vit blocks", "deep residual"])
def test_trying_finds_the_layers_and_constraints_of_the_real_thing_without_their_values(name):
    model, x = tiny(name), inputs_of(name, 1)
    layers = [layer for layer, module in model.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    few, others = layers[:2], layers[2:]
    recipe = recipe_of(
        [
            {"prune_weights": {"layers": {layer: {"sparsity": 0.5} for layer in layers}}},
            {"factorize": {"layers": {layer: {"rank": 2} for layer in few}, "gain": "smaller"}},
            {"share_weights": {"layers": {layer: {"bits": 2} for layer in others}}},
        ]
    )
    real, tried = (compose(model, recipe, PassContext(example=x, shapes_only=only)) for only in (False, True))
    assert tried.changed.keys() == real.changed.keys()
    assert tried.skipped == real.skipped
    assert [p.shape for p in tried.model.parameters()] == [p.shape for p in real.model.parameters()]
    assert tried.constraints.keys() == real.constraints.keys()
