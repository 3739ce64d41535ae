import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tiny_runs import tiny_bench, tiny_task

from autocompress import trial
from autocompress.errors import RecipeError
from autocompress.evaluate import wilson_interval
from autocompress.recipe import Base, Distill, PassStep, Recipe, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import teacher_outputs
from autocompress.target import Target
from autocompress.trial import (
    accuracy_of,
    calibration_inputs,
    export_base,
    facts_of,
    finalist_of,
    make_model,
    make_structure,
    more_metrics_of,
    product_of,
    run_trial,
)

PRUNE = PassStep(name="prune_channels", settings={"ratios": {"stem": 0.5, "down": 0.5}, "criterion": "taylor"})
FACTORIZE = PassStep(name="factorize", settings={"layers": {"block.conv1": {"rank": 4}}, "gain": "smaller"})
QUANTIZE = PassStep(name="quantize")
BRIEF = Recovery(steps=6, batch=16)
EVERYTHING = Recipe(passes=(PRUNE, FACTORIZE, QUANTIZE), recovery=BRIEF, seed=5)
INT8 = Recipe(passes=(QUANTIZE,), recovery=BRIEF)
PRUNED = Recipe(passes=(PRUNE,), recovery=BRIEF)


@pytest.fixture(scope="module")
def bench():
    return tiny_bench()


@pytest.fixture(scope="module")
def base_file(bench):
    return export_base(bench)


@pytest.fixture(scope="module")
def tried(bench):
    return run_trial(bench, EVERYTHING, threads=1)


def outputs_of(file: bytes, inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    name, batch = session.get_inputs()[0].name, session.get_inputs()[0].shape[0]
    return np.concatenate([session.run(None, {name: inputs[i : i + batch]})[0] for i in range(0, len(inputs), batch)])


def test_an_untrained_structure_costs_what_the_trained_file_costs(bench, tried):
    structure = make_structure(bench, EVERYTHING, threads=1).facts
    assert (structure.macs, structure.params) == (tried.facts.macs, tried.facts.params)
    assert structure.size_bytes == pytest.approx(tried.facts.size_bytes, rel=0.01)
    assert structure.accuracy_val is None


def test_the_same_recipe_gives_the_same_file_to_the_last_byte_and_leaves_the_base_alone(bench, tried):
    before = copy.deepcopy(bench.base.state_dict())
    torch.manual_seed(99)
    assert make_model(bench, EVERYTHING, threads=1).file == tried.file
    for name, tensor in bench.base.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_seed_is_part_of_a_recipe(bench):
    random = PassStep(name="prune_channels", settings={"ratios": {"stem": 0.5}, "criterion": "random"})
    one, other = (make_structure(bench, Recipe(passes=(random,), seed=seed), threads=1).file for seed in (0, 1))
    assert one != other


def test_outputs_of_the_teacher_computed_ahead_change_nothing(bench, tried):
    stream = SampleStream(bench.task, bench.stream_seed)
    known = teacher_outputs(bench.base, stream, 200, BRIEF.arithmetic).numpy()
    assert make_model(bench.with_teacher(known), EVERYTHING, threads=1).file == tried.file


def test_a_steps_seconds_are_those_of_training_alone(bench, monkeypatch):
    """The first one warms up; BatchNorm and the export come after the last."""
    now = [0.0]
    monkeypatch.setattr(trial, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def recover(*_args, progress, **_others) -> int:
        for seconds in (5.0, 1.0, 2.0):
            now[0] += seconds
            progress(0, 3)
        now[0] += 10.0
        return 3

    monkeypatch.setattr(trial, "recover", recover)
    assert make_model(bench, PRUNED, threads=1).step_s == 1.5
    monkeypatch.setattr(trial, "recover", lambda *_args, progress, **_others: progress(0, 1) or 1)
    assert make_model(bench, PRUNED, threads=1).step_s is None


def test_accuracy_is_that_of_the_file_on_the_whole_validation_split(bench, tried):
    task = bench.task
    pixels = task.val.inputs.astype(np.float32) / 255
    inputs = ((pixels - 0.5) / 0.25).transpose(0, 3, 1, 2)
    correct = int((outputs_of(tried.file, inputs).argmax(1) == task.val.targets).sum())
    assert tried.facts.accuracy_val == correct / 90
    assert tried.facts.accuracy_val_interval == pytest.approx(wilson_interval(correct, 90))
    assert tried.facts.accuracy_test is None


def test_recovery_makes_a_damaged_network_better(bench):
    damaged, recovered = (
        accuracy_of(make_model(bench, pruned_for(steps), threads=1).file, bench.task, "train", threads=1)
        for steps in (0, 40)
    )
    assert recovered.value > damaged.value + 0.1


def pruned_for(steps: int) -> Recipe:
    return PRUNED.model_copy(update={"recovery": Recovery(steps=steps, batch=32, learning_rate=1e-2)})


def test_the_file_has_the_batch_of_the_target(bench, base_file):
    wide = replace(bench, target=Target(batch=4))
    made = make_structure(wide, INT8, threads=1)
    base_facts = facts_of(base_file)
    assert ort.InferenceSession(made.file).get_inputs()[0].shape == [4, 1, 12, 12]
    assert made.facts.macs == base_facts.macs  # of one sample


def test_what_a_pass_skipped_is_said_with_its_reason(bench):
    head = PassStep(name="factorize", settings={"layers": {"head": {"rank": 3}}})
    made = make_structure(bench, Recipe(passes=(head,)), threads=1)
    assert made.notes == ("factorize: head: svd, rank 3 saves no weights, 96 would become 105; rank 2 does",)


def test_a_recipe_that_does_not_fit_is_refused_with_its_pass(bench):
    wrong = PassStep(name="factorize", settings={"layers": {"haed": {"rank": 3}}})
    with pytest.raises(RecipeError, match=r"'haed', which the model does not have; near: head \(in factorize"):
        make_structure(bench, Recipe(passes=(PRUNE, wrong)), threads=1)


def test_a_product_holds_the_file_only_when_asked(tried):
    assert product_of(tried, file=False).file is None
    assert product_of(tried, file=True).file == tried.file
    assert product_of(tried, file=False).facts == tried.facts


def test_a_finalist_holds_the_network_as_data_and_its_layers_as_they_ended_up(bench, tried):
    product = finalist_of(tried, bench)
    assert product.file == tried.file
    assert product.portable is not None
    kinds = {layer.name: str(layer) for layer in product.layers}
    assert kinds["stem"] == "Conv2d 1→8 3×3"
    assert kinds["block.conv1.reduce"] == "Conv2d 8→4 3×3"
    assert sum(layer.params for layer in product.layers) < 4000


def test_the_base_is_exported_as_it_is(bench, base_file):
    file = base_file
    inputs = torch.randn(3, 1, 12, 12)
    with torch.no_grad():
        np.testing.assert_allclose(outputs_of(file, inputs.numpy()), bench.base(inputs), atol=1e-5)
    facts = facts_of(file)
    assert facts.size_bytes == len(file)
    # Two convolutions of the block on 12×12, the stem, the one that halves, and the head; BatchNorms are folded.
    assert facts.macs == 144 * 16 * 9 * (1 + 16 + 16) + 36 * 32 * 16 * 9 + 32 * 3
    assert facts.params == 16 * 9 * (1 + 16 + 16) + 3 * 16 + 32 * 16 * 9 + 32 + 32 * 3 + 3


def test_calibration_takes_unchanged_training_samples_the_same_each_time(bench):
    inputs = calibration_inputs(bench, 10)
    assert inputs.shape == (10, 1, 12, 12)
    np.testing.assert_array_equal(inputs, calibration_inputs(bench, 10))
    stored = (bench.task.train.inputs.transpose(0, 3, 1, 2) / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    assert all(np.isclose(stored, one, atol=1e-6).all(axis=(1, 2, 3)).any() for one in inputs)


def test_a_split_that_is_too_small_for_calibration_is_repeated():
    few = tiny_bench(task=tiny_task(n_train=6))
    assert calibration_inputs(few, 20).shape == (20, 1, 12, 12)


def test_balanced_accuracy_is_that_of_the_test_split_and_of_classification_only(bench, base_file):
    file = base_file
    plain = accuracy_of(file, bench.task, "test", threads=1).value
    assert more_metrics_of(file, bench.task, 1)["balanced_accuracy"] == pytest.approx(plain)  # 30 of each class
    own = replace(bench.task, loss=lambda outputs, _: outputs.sum())
    assert more_metrics_of(file, own, 1) == {}


def test_labels_alone_need_no_teacher(bench):
    settings = Recovery(steps=2, batch=8, distill=Distill(logits=0.0))
    broken = replace(bench, teacher=np.full((3, 3), np.nan, np.float32))
    made = make_model(broken, Recipe(passes=(PRUNE,), recovery=settings, base=Base(model="tiny")), threads=1)
    assert np.isfinite(outputs_of(made.file, np.zeros((1, 1, 12, 12), np.float32))).all()
