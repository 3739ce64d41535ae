"""What every registered pass must do, on every tiny model. A new pass needs examples here, and no more."""

import copy
import re
from itertools import combinations

import pytest
import torch
from pass_examples import EXAMPLES, NAMED, UNKNOWN_LAYER, Settings, composed, composed_once, context_of
from tiny_models import TINY_MODELS, inputs_of, tiny
from tiny_tasks import task_for
from torch import nn

from autocompress.errors import RecipeError
from autocompress.layers.constraint import held, held_in
from autocompress.passes import PASSES, Pass, Stage
from autocompress.passes.compose import compose, read_passes
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import recover
from autocompress.students.family import load_family, smallest

KEEPS_SHAPES = {"prune_weights", "share_weights", "quantize"}  # what they save shows in the file
MAY_GROW = {"student"}  # as large as its recipe says
VIT = smallest(load_family("vit")).values
OUT_OF_RANGE: dict[str, list[tuple[Settings, str]]] = {
    "student": [
        (
            {"family": "vti", "values": VIT},
            "student: a family is one of resnet, mbconv, convnext, vit, mlp, conv1d, got",
        ),
        ({"family": "vit", "values": VIT | {"width": 50}}, "in steps of 8, got 50; nearest: 48"),
        (
            {"family": "vit", "values": VIT | {"heads": 5}},
            "heads must divide width, got width 48, heads 5; nearest: heads",
        ),
        ({"family": "vit", "values": VIT | {"hed": 5}}, "expansion, got 'hed'; near: heads"),
        ({"family": "vit"}, "student: resolution is missing: share of the input's height and width"),
        ({"values": {"width": 8}}, "student: values belong to a family, got {'width': 8} without one"),
        (
            {"family": "mlp", "values": smallest(load_family("mlp")).values},
            "student.family: mlp takes samples of the kind vector, got the shape [3, 16, 16]; families for it:",
        ),
    ],
    "prune_channels": [
        (
            {"ratios": {"head": 0.96}},
            "prune_channels.ratios: the pruned ratio of head must lie in [0, 0.95], got 0.96; nearest: 0.95",
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
    "prune_weights": [
        (
            {"layers": {"head": {"sparsity": 1.5}}},
            "prune_weights.layers.head: sparsity must lie in [0, 0.99], got 1.5; nearest: 0.99",
        ),
        ({"layers": {"head": {"sparsity": -1}}}, "sparsity must lie in [0, 0.99], got -1.0; nearest: 0.0"),
        (
            {"layers": {"head": {"pattern": "3:4"}}},
            "pattern must be one of 1:4, 2:4, 2:8, 4:8, got '3:4'; nearest: 2:4",
        ),
        ({"layers": {"head": {}}}, "prune_weights.layers.head: a layer has either a sparsity or a pattern, got {}"),
        ({"layers": {"head": {"sparsity": 0.5, "pattern": "2:4"}}}, "a layer has either a sparsity or a pattern"),
        ({"criterion": "l1"}, "prune_weights.criterion: Input should be 'magnitude' or 'taylor', got 'l1'"),
    ],
    "share_weights": [
        (
            {"layers": {"head": {"bits": 9}}},
            "share_weights.layers.head.bits: bits must lie in [2, 8], got 9; nearest: 8",
        ),
        ({"layers": {"head": {"bits": 1}}}, "bits must lie in [2, 8], got 1; nearest: 2"),
        ({"layers": {"head": {"groups": 0}}}, "layers.head.groups: Input should be greater than or equal to 1, got 0"),
    ],
    "quantize": [
        ({"default": {"weights": "int9"}}, "quantize.default.weights: Input should be 'fp32', 'fp16', 'int8'"),
        (
            {"layers": {"head": {"activations": "int8"}}},
            "quantize.layers.head: integer arithmetic needs integer weights, got weights fp32 with activations int8",
        ),
        ({"default": {"weights": "int4", "block": 48}}, "block must be one of 16, 32, 64, 128, 256, got 48; nearest: "),
        (
            {"default": {"weights": "int3", "block": 32}},
            "block goes with int4 or int8 weights and fp32 activations, got",
        ),
        ({"calibration": "guess"}, "quantize.calibration: Input should be 'min_max', 'percentile', 'entropy' or 'mse'"),
    ],
}


# As many for every model: settings themselves come from graphs that take seconds to look into.
COUNTS = {kind: len(EXAMPLES[kind]("mlp")) for kind in PASSES}
on_every_example = pytest.mark.parametrize(
    ("name", "kind", "place"),
    [(name, kind, place) for name in TINY_MODELS for kind in PASSES for place in range(COUNTS[kind])],
)


@pytest.fixture
def step(name, kind, place) -> PassStep:
    return PassStep(name=kind, settings=EXAMPLES[kind](name)[place])


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_pass_has_examples_and_says_where_it_comes_from():
    assert set(PASSES) == EXAMPLES.keys() == NAMED.keys() == OUT_OF_RANGE.keys()
    assert set(PASSES) - {"student"} == UNKNOWN_LAYER.keys(), "a student names no layers of the base"
    for name, kind in PASSES.items():
        assert kind.name == name
        assert kind.stage in Stage
        assert kind.source.startswith("https://")
        assert kind.saves
        assert kind.__doc__


@pytest.mark.parametrize("kind", list(PASSES))
def test_every_model_has_as_many_examples(kind):
    assert {len(EXAMPLES[kind](name)) for name in TINY_MODELS} == {COUNTS[kind]}


@on_every_example
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


@on_every_example
def test_the_same_seed_gives_the_same_model(name, step):
    one, other = composed_once(name, step), composed(name, step)
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert (one.changed, one.skipped, one.plan) == (other.changed, other.skipped, other.plan)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@on_every_example
def test_every_layer_that_is_named_is_changed_or_skipped_with_a_reason(name, step):
    result = composed_once(name, step)
    named = NAMED[step.name](step.settings)
    told = {key.partition(": ")[2] for key in (*result.changed, *result.skipped)}
    assert named <= told
    assert told == named or "default" in type(PASSES[step.name]()).model_fields
    assert all(what for what in (*result.changed.values(), *result.skipped.values()))
    assert not result.changed.keys() & result.skipped.keys()
    if result.changed and step.name not in KEEPS_SHAPES | MAY_GROW:
        assert parameters(result.model) < parameters(tiny(name))


@on_every_example
def test_the_result_is_trained_and_still_runs(name, step):
    result = composed_once(name, step)
    model, stream = copy.deepcopy(result.model), SampleStream(task_for(name), 0)
    before = model(inputs_of(name))
    with held(held_in(model, result.constraints)):
        recover(model, stream, Recovery(steps=2, batch=8, learning_rate=1e-2), teacher=None)
    after = model(inputs_of(name))
    assert after.shape == before.shape == (2, 4)
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", list(UNKNOWN_LAYER))
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
    known = ", ".join(PASSES)
    message = f"pass must be one of {known}; got 'prune_chanels'; near: prune_channels, prune_weights"
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
    stages = "architecture, structure, sparsity, decompose, share, cluster, precision"
    message = f"{early} must come before {late}: passes run in the order {stages}"
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
