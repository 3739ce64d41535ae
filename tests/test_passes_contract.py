"""What every registered pass must do, on every tiny model. A new pass needs examples here, and no more."""

import copy
import re
from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from tiny_exports import machine, preprocess_of, run
from tiny_models import TINY_MODELS, inputs_of, tiny
from tiny_tasks import task_for
from torch import nn

from autocompress.errors import RecipeError
from autocompress.export.onnx_file import to_onnx
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.graph.blocks import Block, residual_blocks
from autocompress.graph.channel_groups import ChannelGroup, channel_groups
from autocompress.graph.layer_table import WEIGHTED
from autocompress.graph.shared_weights import sharable_blocks
from autocompress.layers.low_rank import most_rank, paying_rank
from autocompress.passes import PASSES, Pass, PassContext, Stage
from autocompress.passes.compose import Composed, compose, read_passes
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import recover, training_losses

Settings = dict[str, Any]


@cache
def groups_of(name: str) -> tuple[ChannelGroup, ...]:
    return channel_groups(tiny(name), inputs_of(name, 1))


@cache
def blocks_of(name: str) -> tuple[Block, ...]:
    return residual_blocks(tiny(name), inputs_of(name, 1))


def layers_of(name: str) -> dict[str, nn.Module]:
    return {key: module for key, module in tiny(name).named_modules() if isinstance(module, WEIGHTED)}


def dropping(name: str) -> list[Settings]:
    """The last block and a layer that is none."""
    return [{"blocks": [*(block.name for block in blocks_of(name)[-1:]), next(iter(layers_of(name)))]}]


def pruning(name: str) -> list[Settings]:
    """Every group, those that cannot be treated included, by each criterion."""
    ratios = {group.name: 0.5 for group in groups_of(name)}
    return [{"ratios": ratios, "criterion": criterion, "align": 4} for criterion in ("l1", "taylor", "random")]


def factorizing(name: str) -> list[Settings]:
    """Every layer, those that a method cannot treat included, by each method; for bytes, and where it is faster."""
    layers = layers_of(name)
    by_svd = {key: {"rank": max(1, min(paying_rank(layer), most_rank(layer) // 4))} for key, layer in layers.items()}
    others = [
        {"method": "spatial_svd", "rank": 1},
        {"method": "tucker2", "ranks": [1, 1]},
        {"method": "cp", "rank": 2},
    ]
    mixed = {key: others[place % 3] for place, key in enumerate(layers)}
    return [{"layers": by_svd, "gain": "smaller"}, {"layers": by_svd}, {"layers": mixed, "gain": "smaller"}]


def sharing(name: str) -> list[Settings]:
    """Every group of blocks; two layers that differ where there is none."""
    groups = sharable_blocks(tiny(name)) or [tuple(layers_of(name))[:2]]
    return [{"groups": [list(group) for group in groups]}]


def quantizing(name: str) -> list[Settings]:
    """All layers, and all but the first."""
    first = next(iter(layers_of(name)))
    return [{}, {"layers": {first: {"weights": "fp32", "activations": "fp32"}}}]


EXAMPLES: dict[str, Callable[[str], list[Settings]]] = {
    "drop_blocks": dropping,
    "prune_channels": pruning,
    "factorize": factorizing,
    "share_layers": sharing,
    "quantize": quantizing,
}
# The layers that settings name, each of which is changed or skipped.
NAMED: dict[str, Callable[[Settings], set[str]]] = {
    "drop_blocks": lambda settings: set(settings["blocks"]),
    "prune_channels": lambda settings: set(settings["ratios"]),
    "factorize": lambda settings: set(settings["layers"]),
    "share_layers": lambda settings: {name for group in settings["groups"] for name in group[1:]},
    "quantize": lambda _: set(),  # decides on the file
}
UNKNOWN_LAYER: dict[str, Settings] = {
    "drop_blocks": {"blocks": ["hea"]},
    "share_layers": {"groups": [["head", "hea"]]},
    "prune_channels": {"ratios": {"hea": 0.5}},
    "factorize": {"layers": {"hea": {"rank": 1}}},
    "quantize": {"layers": {"hea": {}}},
}
OUT_OF_RANGE: dict[str, list[tuple[Settings, str]]] = {
    "prune_channels": [
        (
            {"ratios": {"head": 0.96}},
            "prune_channels.ratios: the pruned ratio of head must lie in [0, 0.95], got 0.96; nearest: 0.95, got {",
        ),
        ({"ratios": {"head": -1}}, "the pruned ratio of head must lie in [0, 0.95], got -1.0; nearest: 0.0"),
        ({"criterion": "l7"}, "prune_channels.criterion: Input should be 'l1', 'taylor' or 'random', got 'l7'"),
        ({"align": 0}, "prune_channels.align: Input should be greater than or equal to 1, got 0"),
    ],
    "factorize": [
        (
            {"layers": {"head": {"rank": 0}}},
            "factorize.layers.head.rank: Input should be greater than or equal to 1, got 0",
        ),
        (
            {"layers": {"head": {"rank": 5}}},
            "factorize.layers.head.rank must lie in [1, 4] at the layer's final width, got 5; nearest: 4 (in factori",
        ),
        (
            {"layers": {"head": {"rank": 2, "method": "qr"}}},
            "factorize.layers.head.method: Input should be 'svd', 'spatial_svd', 'tucker2' or 'cp', got 'qr'",
        ),
        (
            {"layers": {"head": {"method": "tucker2", "rank": 2}}},
            "factorize.layers.head: the method tucker2 needs ranks: [out, in], and no rank, got {",
        ),
        ({"gain": "nicer"}, "factorize.gain: Input should be 'faster' or 'smaller', got 'nicer'"),
    ],
    "drop_blocks": [
        ({"blocks": ["head", "head"]}, "drop_blocks.blocks: a block is named once, head is named twice, got ["),
    ],
    "share_layers": [
        ({"groups": [["head"]]}, "share_layers.groups: a group has at least two blocks, ['head'] has 1, got [["),
        ({"groups": [["a", "b"], ["c", "a"]]}, "a block belongs to one group, once; a is named twice, got [["),
        ({"groups": [["a", "a"]]}, "a block belongs to one group, once; a is named twice, got [["),
        ({"groups": [["a.b", "c"], ["d", "a"]]}, "blocks lie apart, a.b lies in a; name one of them, got [["),
    ],
    "quantize": [
        ({"default": {"weights": "int3"}}, "quantize.default.weights: Input should be 'fp32' or 'int8', got 'int3'"),
        (
            {"layers": {"head": {"weights": "int8"}}},
            "quantize.layers.head: weights and activations must both be int8 or both fp32, got weights int8 with",
        ),
    ],
}


def examples() -> list[Any]:
    return [
        pytest.param(name, PassStep(name=kind, settings=settings), id=f"{name}-{kind}-{place}")
        for name in TINY_MODELS
        for kind in PASSES
        for place, settings in enumerate(EXAMPLES[kind](name))
    ]


def context_of(name: str, seed: int = 0) -> PassContext:
    stream = SampleStream(task_for(name), 0)
    return PassContext(
        example=inputs_of(name, 1),
        seed=seed,
        losses=lambda model: training_losses(model, stream, batches=2, batch=8),
        groups=groups_of(name),
        blocks=blocks_of(name),
    )


def composed(name: str, *steps: PassStep, seed: int = 0) -> Composed:
    torch.manual_seed(seed)
    return compose(tiny(name), Recipe(passes=steps), context_of(name, seed))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_pass_has_examples_and_says_where_it_comes_from():
    assert set(PASSES) == EXAMPLES.keys() == NAMED.keys() == UNKNOWN_LAYER.keys() == OUT_OF_RANGE.keys()
    for name, kind in PASSES.items():
        assert kind.name == name
        assert kind.stage in Stage
        assert kind.source.startswith("https://")
        assert kind.saves
        assert kind.__doc__


@pytest.mark.parametrize(("name", "step"), examples())
def test_the_base_is_left_alone_to_the_last_bit(name, step):
    base = tiny(name)
    base.train()
    next(base.children()).eval()
    modes = [module.training for module in base.modules()]
    before = copy.deepcopy(base.state_dict())
    compose(base, Recipe(passes=(step,)), context_of(name))
    assert [module.training for module in base.modules()] == modes
    assert base.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in base.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in base.parameters())


@pytest.mark.parametrize(("name", "step"), examples())
def test_the_same_seed_gives_the_same_model(name, step):
    one, other = composed(name, step), composed(name, step)
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert (one.changed, one.skipped, one.plan) == (other.changed, other.skipped, other.plan)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(("name", "step"), examples())
def test_every_layer_that_is_named_is_changed_or_skipped_with_a_reason(name, step):
    result = composed(name, step)
    named = NAMED[step.name](step.settings)
    assert {key.partition(": ")[2] for key in (*result.changed, *result.skipped)} == named
    assert all(what for what in (*result.changed.values(), *result.skipped.values()))
    assert not result.changed.keys() & result.skipped.keys()
    if result.changed:
        assert parameters(result.model) < parameters(tiny(name))


@pytest.mark.parametrize(("name", "step"), examples())
def test_the_result_is_trained_and_still_runs(name, step):
    result = composed(name, step)
    stream = SampleStream(task_for(name), 0)
    before = result.model(inputs_of(name))
    recover(result.model, stream, Recovery(steps=2, batch=8, learning_rate=1e-2), teacher=None)
    after = result.model(inputs_of(name))
    assert after.shape == before.shape == (2, 4)
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)
    assert all(parameter.grad is not None for parameter in result.model.parameters())


SUBSETS = [*combinations(PASSES, 2), tuple(PASSES)]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        *(("deep residual", subset) for subset in SUBSETS),
        *((name, SUBSETS[-1]) for name in ("vit", "depthwise", "conv1d")),
    ],
    ids=str,
)
def test_any_set_of_passes_ends_in_a_file_that_computes_what_the_model_computes(name, kinds):
    """apply → recover → finalize → export → runtime."""
    steps = [PassStep(name=kind, settings=_gentle(name, kind)) for kind in kinds]
    result = composed(name, *steps)
    recover(result.model, SampleStream(task_for(name), 0), Recovery(steps=3, batch=16), teacher=None)
    x = inputs_of(name, 16)
    expected = result.model(x).detach().numpy()

    proto = to_onnx(result.model, preprocess_of(name), 1)
    proto = quantize_onnx(proto, result.plan, x.numpy(), machine(), 1)  # so that nothing lies outside the ranges

    error = np.abs(run(proto, x) - expected).max()
    if result.plan.is_quantized:
        assert 0 < error < 0.05 * np.ptp(expected)
    else:
        assert error < 1e-5 * np.ptp(expected) + 1e-6
    alone = {kind for kind in kinds if composed(name, PassStep(name=kind, settings=_gentle(name, kind))).changed}
    assert {key.partition(": ")[0] for key in result.changed} == alone
    assert name != "deep residual" or alone == set(kinds) - {"quantize"}


def _gentle(name: str, kind: str) -> Settings:
    """An example that still holds after blocks and channels are gone: ranks of one, which any width has."""
    settings = EXAMPLES[kind](name)[0]
    dropped = tuple(f"{block.name}." for block in blocks_of(name)[-1:])
    if kind == "prune_channels":
        return settings | {"ratios": {key: r for key, r in settings["ratios"].items() if not key.startswith(dropped)}}
    if kind == "factorize":
        left = {layer: {"rank": 1} for layer in settings["layers"] if not layer.startswith(dropped)}
        return {"layers": left, "gain": "smaller"}
    return settings


@pytest.mark.parametrize("kind", list(PASSES))
def test_an_unknown_layer_is_refused_with_the_near_ones(kind):
    message = f"names the layer 'hea', which the model does not have; near: head (in {kind})"
    with pytest.raises(RecipeError, match=rf"^{kind}\.\w+ {re.escape(message)}$"):
        composed("residual", PassStep(name=kind, settings=UNKNOWN_LAYER[kind]))


@pytest.mark.parametrize(
    ("kind", "settings", "message"), [(kind, *example) for kind in OUT_OF_RANGE for example in OUT_OF_RANGE[kind]]
)
def test_a_value_out_of_range_is_refused_with_the_range(kind, settings, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        composed("residual", PassStep(name=kind, settings=settings))


@pytest.mark.parametrize("kind", list(PASSES))
def test_an_unknown_setting_is_refused_with_its_place(kind):
    with pytest.raises(RecipeError, match=rf"^{kind}\.nonsense: Extra inputs are not permitted, got 1$"):
        composed("mlp", PassStep(name=kind, settings={"nonsense": 1}))


def test_an_unknown_pass_is_refused_with_the_near_ones():
    known = "drop_blocks, prune_channels, factorize, share_layers, quantize"
    message = f"pass must be one of {known}; got 'prune_chanels'; near: prune_channels"
    with pytest.raises(RecipeError, match=f"^{re.escape(message)}$"):
        composed("mlp", PassStep(name="prune_chanels"))


@pytest.mark.parametrize("kind", list(PASSES))
def test_a_pass_twice_is_refused(kind):
    message = f"a recipe has each pass once, got {kind} twice; join their settings"
    for between in ((), (PassStep(name="factorize"),) if kind != "factorize" else ()):
        with pytest.raises(RecipeError, match=f"^{message}$"):
            composed("mlp", PassStep(name=kind), *between, PassStep(name=kind))


@pytest.mark.parametrize(
    ("early", "late"), [pair for pair in combinations(PASSES, 2) if PASSES[pair[0]].stage < PASSES[pair[1]].stage]
)
def test_passes_out_of_order_are_refused(early, late):
    message = f"{early} must come before {late}: passes run in the order structure, decompose, share, precision"
    with pytest.raises(RecipeError, match=f"^{message}$"):
        composed("mlp", PassStep(name=late), PassStep(name=early))
    assert [item.name for item in read_passes(Recipe(passes=(PassStep(name=early), PassStep(name=late))))] == [
        early,
        late,
    ]


def test_a_failure_names_its_pass_and_those_before_it():
    steps = [
        PassStep(name="prune_channels", settings={"ratios": {"0": 0.5}}),
        PassStep(name="factorize", settings={"layers": {"0": {"rank": 17}}}),
    ]
    message = (
        r"factorize\.layers\.0\.rank must lie in \[1, 12\] .*; nearest: 12 \(in factorize, after prune_channels\)$"
    )
    with pytest.raises(RecipeError, match=message):
        composed("mlp", *steps)


def test_no_passes_give_a_copy():
    base = tiny("mlp")
    result = compose(base, Recipe(), context_of("mlp"))
    assert result.model is not base
    assert (result.changed, result.skipped, result.plan.is_quantized) == ({}, {}, False)
    assert torch.equal(result.model(inputs_of("mlp")), base(inputs_of("mlp")))


def test_a_pass_that_has_no_step_says_so():
    class Idle(Pass):
        name = "idle"

    with pytest.raises(RecipeError, match=r"^the pass idle has no apply step$"):
        Idle().apply(tiny("mlp"), context_of("mlp"))
