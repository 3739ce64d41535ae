from dataclasses import replace
from functools import cache

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tiny_runs import tiny_bench
from torch import nn

from autocompress import divergence as module
from autocompress.divergence import batches_of, bench_digest, distance, divergence, round_as_the_file
from autocompress.errors import RecipeError, RunError
from autocompress.export.calibrate import Seen
from autocompress.export.write_file import draft
from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.passes.compose import compose
from autocompress.recipe import PassStep, Recipe
from autocompress.search.launcher import Job, Work, perform
from autocompress.trial import Bench, calibration_inputs, pass_context


@cache
def bench() -> Bench:
    found = anatomy_of(tiny_bench().base, example_input((1, 12, 12)))
    return tiny_bench(groups=found.groups, blocks=found.blocks)


def recipe(**passes: dict) -> Recipe:
    return Recipe(passes=tuple(PassStep(name=name, settings=settings) for name, settings in passes.items()))


def weights_in(form: str, activations: str = "int8") -> Recipe:
    return recipe(quantize={"default": {"weights": form, "activations": activations}})


def pruned(ratio: float) -> Recipe:
    return recipe(prune_channels={"ratios": {"block.conv1": ratio, "down": ratio}, "align": 4})


def test_a_recipe_that_changes_nothing_has_none():
    assert divergence(bench(), Recipe()) == 0


def test_more_compression_diverges_more():
    bits = [divergence(bench(), weights_in(form)) for form in ("int8", "int4", "int2")]
    channels = [divergence(bench(), pruned(ratio)) for ratio in (0.25, 0.5, 0.75)]
    assert 0 < bits[0] < bits[1] < bits[2]
    assert 0 < channels[0] < channels[1] < channels[2]


def test_it_is_the_kl_divergence_of_class_probabilities():
    found = distance(bench().task, torch.log(torch.tensor([[0.5, 0.5]])), torch.log(torch.tensor([[0.25, 0.75]])))
    assert found == pytest.approx(0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))


def test_of_other_losses_it_is_the_squared_change_over_the_variance():
    task = replace(bench().task, loss=nn.functional.mse_loss)
    outputs = torch.tensor([[0.0], [2.0]])
    assert distance(task, outputs, outputs + 1) == pytest.approx(1 / float(outputs.var()))


def test_outputs_that_are_no_numbers_are_refused():
    with pytest.raises(RunError, match="outputs of a compressed network must be numbers, got a divergence of nan"):
        distance(bench().task, torch.zeros(2, 3), torch.full((2, 3), torch.nan))


def test_batchnorm_is_estimated_again(monkeypatch):
    """With the statistics of the original, a pruned network is judged by activations that it no longer has."""
    estimated = divergence(bench(), pruned(0.5))
    monkeypatch.setattr(module, "_ready", nn.Module.eval)
    module._recording.cache_clear()
    as_it_was = divergence(bench(), pruned(0.5))
    module._recording.cache_clear()
    assert as_it_was > 1.5 * estimated


CODEBOOK = {"layers": {"down": {"bits": 2}}}


@pytest.mark.parametrize(
    "treatment",
    [
        *(weights_in(form, "fp32") for form in ("int8", "int4", "int2", "fp16")),
        recipe(share_weights=CODEBOOK),
        recipe(
            prune_weights={"layers": {"down": {"sparsity": 0.7}}},
            quantize={"default": {"weights": "int3", "activations": "fp32"}},
        ),
        recipe(
            factorize={"layers": {"down": {"rank": 8}}, "gain": "smaller"},
            quantize={"default": {"weights": "int4", "activations": "fp32"}},
        ),
    ],
    ids=["int8", "int4", "int2", "fp16", "codebook", "sparse", "factors"],
)
def test_weights_are_rounded_as_in_the_file(treatment):
    emulated, exported, original = outputs(treatment)
    assert np.abs(emulated - exported).max() < 1e-3 * np.abs(original).max()


@pytest.mark.parametrize(
    "treatment",
    [weights_in("int3"), recipe(share_weights=CODEBOOK, quantize={})],
    ids=["int3", "codebook of integers"],
)
def test_integer_arithmetic_is_emulated_closely(treatment):
    emulated, exported, original = outputs(treatment)
    assert np.square(emulated - exported).mean() < 0.1 * np.square(exported - original).mean()


def test_the_roundings_of_activations_are_of_the_size_of_those_in_the_file():
    emulated, exported, original = outputs(weights_in("int8"))
    ratio = np.square(emulated - original).mean() / np.square(exported - original).mean()
    assert 0.2 < ratio < 3


def outputs(treatment: Recipe) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the network as it is emulated with the original's BatchNorm, of the file, and of the original."""
    inputs = calibration_inputs(bench(), 64)
    composed = compose(bench().base, treatment, pass_context(bench(), 0))
    file = draft(
        composed.model,
        composed.plan,
        composed.constraints,
        Seen(inputs=inputs, batch=1),
        preprocess=bench().task.preprocess,
        machine=bench().machine,
    ).finished()
    session = ort.InferenceSession(file)
    (name,) = [item.name for item in session.get_inputs()]
    exported = np.concatenate([session.run(None, {name: inputs[i : i + 1]})[0] for i in range(len(inputs))])
    round_as_the_file(composed, bench().machine)
    with torch.no_grad():
        emulated = composed.model.eval()(torch.from_numpy(inputs)).numpy()
        original = bench().base(torch.from_numpy(inputs)).numpy()
    return emulated, exported, original


def test_weights_that_are_tied_are_rounded_once():
    tied = tiny_bench()
    tied.base.block.conv2.weight = tied.base.block.conv1.weight
    composed = compose(tied.base, weights_in("int2"), pass_context(tied, 0))
    round_as_the_file(composed, tied.machine)
    block = composed.model.block
    assert block.conv1.weight is block.conv2.weight
    assert len(block.conv1.weight.unique()) <= 3 * 16


def test_large_inputs_go_in_parts_of_at_least_32():
    assert [len(part) for part in batches_of(torch.zeros(256, 3, 32, 32))] == [256]
    assert [len(part) for part in batches_of(torch.zeros(256, 3, 512, 512, device="meta"))] == [32] * 8


def test_the_digest_is_of_weights_data_and_method():
    same, other = bench_digest(tiny_bench()), tiny_bench()
    assert same == bench_digest(tiny_bench())
    other.base.head.bias.data[0] += 1
    assert bench_digest(other) != same
    assert bench_digest(tiny_bench(stream_seed=1)) != same
    assert bench_digest(tiny_bench(), samples=32) != same


def test_a_job_of_several_recipes_gives_each_its_divergence_and_says_what_broke():
    wrong = recipe(factorize={"layers": {"nowhere": {"rank": 1}}})
    job = Job(key=3, work=Work.DIVERGENCE, recipe=Recipe(), more=(wrong, pruned(0.5)))
    done, _ = perform(bench(), job)
    assert done.divergences[0] == 0
    assert np.isnan(done.divergences[1])
    assert done.divergences[2] == divergence(bench(), pruned(0.5))
    assert "RecipeError: factorize.layers names the layer 'nowhere'" in done.error
    with pytest.raises(RecipeError):
        divergence(bench(), wrong)
