"""A recipe that begins with a student: trained under the base, compressed by the other passes, written, run."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from tiny_runs import tiny_bench, tiny_net, trained_net
from torch import Tensor, nn

from autocompress.data.preprocess import model_input
from autocompress.errors import RecipeError
from autocompress.graph.anatomy import Anatomy, anatomy_of
from autocompress.graph.program import from_portable
from autocompress.graph.shared_weights import sharable_blocks
from autocompress.passes import PASSES, PassContext, Student
from autocompress.passes.compose import compose
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import teacher_outputs
from autocompress.search.summary import summary
from autocompress.students.build import build
from autocompress.students.family import Architecture, load_family, smallest
from autocompress.trial import Bench, finalist_of, make_model, make_structure, run_trial

SHAPE = (1, 12, 12)
RESNET = Architecture(
    family="resnet", values=smallest(load_family("resnet")).values | {"resolution": 1.0, "depth_1": 3}
)
INT8 = PassStep(name="quantize")
BRIEF = Recovery(steps=6, batch=16)


def student_step(architecture: Architecture = RESNET) -> PassStep:
    return PassStep(name="student", settings=Student.of(architecture).model_dump())


def network() -> nn.Module:
    return build(RESNET, shape=SHAPE, n_outputs=3, seed=0)


@cache
def anatomy() -> Anatomy:
    """The student's own, which the passes after it name."""
    return anatomy_of(network(), torch.zeros(1, *SHAPE), blocks=True)


@pytest.fixture(scope="module")
def bench() -> Bench:
    """With the base's groups and blocks, none of which a student has."""
    base = anatomy_of(trained_net(), torch.zeros(1, *SHAPE), blocks=True)
    return tiny_bench(groups=base.groups, blocks=base.blocks)


@pytest.fixture(scope="module")
def learned(bench):
    """In few steps, which want a larger rate than a whole training."""
    recovery = Recovery(steps=50, batch=32, learning_rate=1e-2)
    return run_trial(bench, Recipe(passes=(student_step(), INT8), recovery=recovery), threads=1)


def test_a_student_learns_from_the_base_and_its_int8_file_is_as_accurate_as_it(bench, learned):
    val = bench.task.val
    with torch.no_grad():
        outputs = learned.model(torch.from_numpy(model_input(bench.task.preprocess, val.inputs)))
    in_torch = float((outputs.argmax(1).numpy() == val.targets).mean())
    assert learned.facts.accuracy_val > 0.55
    assert learned.facts.accuracy_val == pytest.approx(in_torch, abs=0.05)
    assert learned.composed.changed["student: resnet"].startswith("in the place of the network, ")
    assert "quantize: layer1.0.conv1" in learned.composed.changed


def test_a_structure_costs_what_the_trained_student_does(bench, learned):
    structure = make_structure(bench, Recipe(passes=(student_step(), INT8)), threads=1).facts
    assert (structure.macs, structure.params) == (learned.facts.macs, learned.facts.params)
    assert structure.size_bytes == pytest.approx(learned.facts.size_bytes, rel=0.01)


def test_the_student_comes_back_trainable_from_what_a_run_keeps(bench, learned):
    product = finalist_of(learned, bench)
    assert {layer.name for layer in product.layers} == {layer.name for layer in anatomy().layers}
    x = torch.randn(3, *SHAPE)
    torch.testing.assert_close(from_portable(product.portable)(x), learned.model(x), rtol=1e-4, atol=1e-4)


def test_the_teacher_is_the_base(bench):
    """Its outputs computed ahead change nothing; those of another network do."""
    recipe = Recipe(passes=(student_step(),), recovery=BRIEF)
    stream = SampleStream(bench.task, bench.stream_seed)
    made = [make_model(bench, recipe, threads=1).model]
    for teacher in (bench.base, tiny_net()):
        ahead = teacher_outputs(teacher, stream, BRIEF.steps * BRIEF.batch, BRIEF.arithmetic).numpy()
        made.append(make_model(bench.with_teacher(ahead), recipe, threads=1).model)
    plain, same, other = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in made)
    assert torch.equal(plain, same)
    assert not torch.equal(plain, other)


def test_the_weights_that_a_student_begins_with_are_of_the_recipes_seed():
    one, again, other = (
        compose(trained_net(), Recipe(passes=(student_step(),)), replace(context(), seed=seed)).model.state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def settings_of(kind: str) -> dict[str, object]:
    """On layers of the student, those of the block that is dropped left out."""
    dropped = next(block.name for block in anatomy().blocks if not block.reason)
    layers = [layer.name for layer in anatomy().layers if not layer.name.startswith(f"{dropped}.")]
    match kind:
        case "drop_blocks":
            return {"blocks": [dropped]}
        case "prune_channels":
            free = [group.name for group in anatomy().groups if not group.reason]
            return {"ratios": {name: 0.5 for name in free if not name.startswith(f"{dropped}.")}, "align": 4}
        case "prune_weights":
            return {"layers": {name: {"sparsity": 0.6} for name in layers if name.startswith("layer3")}}
        case "factorize":
            return {"layers": {layers[-3]: {"rank": 2}}, "gain": "smaller"}
        case "share_layers":
            same = sharable_blocks(network())[-1]
            return {"groups": [[name for name in same if name != dropped][:2]]}
        case "share_weights":
            return {"layers": {name: {"bits": 3} for name in layers if name.startswith("layer2")}}
        case "quantize":
            return {}
    raise AssertionError(f"{kind} needs settings here")


LATER = [kind for kind in PASSES if kind != "student"]


@pytest.mark.parametrize("kinds", [*([kind] for kind in LATER), LATER], ids=[*LATER, "all"])
def test_a_student_is_compressed_like_any_network(bench, kinds):
    recovery = BRIEF.model_copy(update={"quantize_aware": kinds == LATER})
    steps = (student_step(), *(PassStep(name=kind, settings=settings_of(kind)) for kind in kinds))
    made = run_trial(bench, Recipe(passes=steps, recovery=recovery), threads=1, most_samples=16)
    assert {"student", *kinds} == {key.partition(": ")[0] for key in made.composed.changed}
    assert not any("quantize_aware" in note for note in made.notes)


def test_layers_of_the_base_are_none_of_the_student(bench):
    steps = (student_step(), PassStep(name="share_weights", settings={"layers": {"block.conv1": {"bits": 4}}}))
    message = "names the layer 'block.conv1', which the model does not have"
    with pytest.raises(RecipeError, match=rf"{re.escape(message)}.*\(in share_weights, after student\)$"):
        make_structure(bench, Recipe(passes=steps), threads=1)


def test_without_a_family_the_network_stays():
    result = compose(trained_net(), Recipe(passes=(PassStep(name="student"),)), context())
    assert (result.changed, result.skipped) == ({}, {})
    assert torch.equal(result.model(torch.ones(1, *SHAPE)), trained_net()(torch.ones(1, *SHAPE)))


def context() -> PassContext:
    return PassContext(example=torch.zeros(1, *SHAPE))


class Map(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float() * 2


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.zeros(1, *SHAPE), "student: a student gives one vector a sample, the network gives [1, 1, 12, 12]"),
        (
            torch.zeros(1, 12, dtype=torch.int64),
            "student: families take floating-point inputs, the network takes torch",
        ),
    ],
)
def test_what_no_student_can_replace_is_refused(example, message):
    with pytest.raises(RecipeError, match=f"^{re.escape(message)}"):
        compose(Map(), Recipe(passes=(student_step(),)), replace(context(), example=example))


def test_values_are_written_as_the_family_has_them():
    """A share of 1 and of 1.0 are one recipe, as far as the search tells recipes apart."""
    whole = Student.model_validate({"family": "resnet", "values": RESNET.values | {"resolution": 1}})
    assert whole == Student.of(RESNET)
    assert whole.digest() == Student.of(RESNET).digest()
    assert whole.architecture() == RESNET


def test_a_student_stands_in_the_summary_and_survives_yaml():
    recipe = Recipe(passes=(student_step(), INT8))
    assert summary(recipe) == "resnet student · int8"
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert np.isclose(recipe.passes[0].settings["values"]["growth"], 1.0)
