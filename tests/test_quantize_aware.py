"""Recovery with the file's roundings: what PyTorch computes is what the file computes, before and after training."""

from functools import cache

import numpy as np
import pytest
import torch
from tiny_exports import machine, preprocess_of, run
from tiny_models import inputs_of, tiny
from tiny_tasks import task_for

from autocompress.export.calibrate import Seen
from autocompress.export.write_file import Draft, draft
from autocompress.graph.layer_table import WEIGHTED
from autocompress.passes import PassContext
from autocompress.passes.compose import compose
from autocompress.recipe import Distill, PassStep, Recipe, Recovery
from autocompress.recover.quantize_aware import SHARE, float_steps, rounded_steps, train_draft, trainable
from autocompress.recover.sample_stream import SampleStream

INT8 = {"weights": "int8", "activations": "int8"}
SETTINGS = Recovery(steps=75, batch=16, learning_rate=3e-2, distill=Distill(logits=0), quantize_aware=True)
KINDS = {
    "int8": {},
    "int4 weights": {"quantize": {"default": {"weights": "int4", "activations": "int8"}}},
    "int3 weights, float arithmetic": {"quantize": {"default": {"weights": "int3"}}},
    "codebooks": {"share_weights": {"bits": 3}},
    "sparse codebooks": {"prune_weights": {"sparsity": 0.5}, "share_weights": {"bits": 2}},
}


def layers_of(name: str) -> list[str]:
    return [key for key, module in tiny(name).named_modules() if isinstance(module, WEIGHTED)]


def turned(name: str) -> torch.nn.Module:
    """The tiny model, every other channel turned round by its BatchNorm: its scale in the file is negative."""
    model = tiny(name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data[::2] *= -1
    return model


def drafted(name: str, kind: str) -> Draft:
    wanted = KINDS[kind]
    steps = [
        PassStep(name=each, settings={"layers": dict.fromkeys(layers_of(name), wanted[each])})
        for each in ("prune_weights", "share_weights")
        if each in wanted
    ]
    steps.append(PassStep(name="quantize", settings=wanted.get("quantize", {"default": INT8})))
    x = inputs_of(name, 24, seed=3)
    made = compose(turned(name), Recipe(passes=tuple(steps)), PassContext(example=x[:1]))
    return draft(
        made.model,
        made.plan,
        made.constraints,
        Seen(inputs=x.numpy(), batch=1),
        preprocess=preprocess_of(name),
        machine=machine(),
    )


@cache
def both(name: str, kind: str):
    """A draft before and after training, and the network that was trained."""
    before = drafted(name, kind)
    after, network, _ = train_draft(before, SampleStream(task_for(name), 0), SETTINGS, teacher=None)
    return before, after, network


def outputs(made: Draft, x: torch.Tensor) -> np.ndarray:
    return run(type(made.proto).FromString(made.finished()), x)


CASES = [("residual", kind) for kind in KINDS] + [("depthwise", "int8"), ("vit blocks", "int8"), ("tied", "codebooks")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_network_computes_what_the_packed_file_computes(name, kind):
    before, after, network = both(name, kind)
    x = inputs_of(name, 24, seed=3)
    for made, model in ((before, trainable(before)), (after, network)):
        ours, theirs = model(x).detach().numpy(), outputs(made, x)
        assert np.abs(ours - theirs).max() <= 0.02 * np.ptp(theirs)  # two of 255 steps, and a half in between
        assert np.median(np.abs(ours - theirs)) <= 0.002 * np.ptp(theirs)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_training_helps_the_file_on_its_task(name, kind):
    before, after, _ = both(name, kind)
    train = task_for(name).train
    losses = [
        torch.nn.functional.cross_entropy(torch.tensor(outputs(made, train.inputs)), torch.tensor(train.targets))
        for made in (before, after)
    ]
    few_numbers = "codebooks" in kind  # a dozen shared values learn less than a thousand weights
    assert losses[1] < losses[0] - (0.002 if few_numbers else 0.02)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_accuracy_in_pytorch_and_of_the_file_agree_within_a_third_of_a_point(name, kind):
    _, after, network = both(name, kind)
    samples = task_for(name, 1200).train
    with torch.no_grad():
        ours = network(torch.tensor(samples.inputs)).argmax(1).numpy()
    theirs = outputs(after, samples.inputs).argmax(1)
    accuracies = [np.mean(found == samples.targets) for found in (ours, theirs)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.003)


def test_clusters_and_zeros_are_in_the_trained_file():
    _, after, network = both("residual", "sparse codebooks")
    for weight in after.weights:
        integers = next(i for i in after.proto.graph.initializer if i.name == f"{weight.tensor}_quantized")
        values = np.frombuffer(integers.raw_data, np.int8).reshape(tuple(integers.dims))
        constraint = weight.constraint
        assert not values[~constraint.kept.numpy()].any()
        assert len(np.unique(values[constraint.kept.numpy()])) <= 4
    assert network.constrained()


def test_tied_weights_have_the_same_integers_after_training():
    _, after, _ = both("tied", "codebooks")
    stored = {item.name: item for item in after.proto.graph.initializer}
    tied = {weight.tensor for weight in after.weights if weight.tied_to is not None}
    integers = {stored[f"{tensor}_quantized"].raw_data for tensor in tied}
    assert len(integers) == 1


def test_the_steps_are_divided_and_none_is_lost():
    for steps in (0, 1, 2, 10, 300):
        settings = Recovery(steps=steps, quantize_aware=True)
        assert float_steps(settings) + rounded_steps(settings) == steps
        assert rounded_steps(settings) <= max(1, round(steps * SHARE))
    assert rounded_steps(Recovery(steps=300)) == 0
    assert float_steps(Recovery(steps=300)) == 300
