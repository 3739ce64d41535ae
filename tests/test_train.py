"""One training loop: for baselines, and for compressed models under their teacher."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from tiny_models import TINY_MODELS, tiny
from tiny_tasks import images, regression, task_for, vectors
from torch import nn

from autocompress.errors import RunError
from autocompress.recipe import Arithmetic, Distill, Recovery
from autocompress.recover.losses import distillation_loss, label_loss
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import teacher_outputs
from autocompress.recover.train import (
    recover,
    reestimate_batchnorm,
    step_times,
    train_baseline,
    training_losses,
    trains_channels_last,
)
from autocompress.task import Augment, Task

LABELS = Distill(logits=0)


def label_loss_of(model: nn.Module, task: Task) -> float:
    inputs, targets = SampleStream(task, 0).batch(0, len(task.train))
    with torch.no_grad():
        return float(label_loss(task, model(inputs), targets))


@pytest.mark.parametrize(
    "name", [name for name in TINY_MODELS if name not in ("tied", "gru")]
)  # they learn more slowly
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_recovery_lowers_the_loss(name, arithmetic):
    model, task = tiny(name), task_for(name)
    reestimate_batchnorm(model, SampleStream(task, 0))
    before = label_loss_of(model, task)
    settings = Recovery(steps=30, batch=32, learning_rate=1e-2, distill=LABELS, arithmetic=arithmetic)
    recover(model, SampleStream(task, 0), settings, teacher=None)
    assert label_loss_of(model, task) < 0.7 * before
    assert not model.training
    assert all(p.is_contiguous() and p.dtype == torch.float32 for p in model.parameters())


def test_recovery_under_a_teacher_comes_closer_to_it_without_labels():
    task = vectors()
    teacher, student = tiny("mlp"), tiny("mlp")
    nn.init.normal_(student[0].weight)
    stream = SampleStream(task, 0)
    settings = Recovery(steps=60, batch=32, learning_rate=1e-2, distill=Distill(logits=1))
    followed = teacher_outputs(teacher, stream, 60 * 32, Arithmetic.FP32)

    def distance() -> float:
        inputs, _ = stream.batch(0, 96)
        with torch.no_grad():
            return float(distillation_loss(task, student(inputs), teacher(inputs), 2.0))

    before = distance()
    recover(student, stream, settings, teacher=followed)
    assert distance() < 0.3 * before


def test_the_teacher_of_a_position_is_its_own():
    """A teacher that is right at each position is followed; one that is off by one is not."""
    task, settings = vectors(), Recovery(steps=40, batch=16, learning_rate=1e-2, distill=Distill(logits=1))
    stream = SampleStream(task, 0)
    answers = 8 * nn.functional.one_hot(stream.batch(0, 40 * 16)[1], 4).float()
    losses = []
    for shift in (0, 1):
        model = tiny("mlp")
        recover(model, stream, settings, teacher=answers.roll(shift, 0))
        losses.append(label_loss_of(model, task))
    assert losses[0] < 0.3 < losses[1]


def test_a_task_with_its_own_loss_is_recovered():
    model, task = tiny("mlp"), regression()
    before = label_loss_of(model, task)
    recover(
        model, SampleStream(task, 0), Recovery(steps=80, batch=32, learning_rate=1e-2, distill=LABELS), teacher=None
    )
    assert label_loss_of(model, task) < 0.6 * before


@pytest.mark.parametrize("name", ["residual", "mlp"])
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_the_same_seed_gives_the_same_weights(name, arithmetic):
    settings = Recovery(steps=5, batch=16, arithmetic=arithmetic)
    states = []
    for seed in (0, 0, 1):
        model = tiny(name)
        torch.manual_seed(0)
        recover(model, SampleStream(task_for(name), seed), settings, teacher=None)
        states.append(torch.cat([value.flatten().float() for value in model.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_loss_that_is_no_number_stops_with_its_step():
    model = tiny("mlp")
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    with pytest.raises(RunError, match=r"^the loss must stay a number, got nan at step 0; lower the learning rate$"):
        recover(model, SampleStream(vectors(), 0), Recovery(steps=3), teacher=None)
    bad = torch.zeros(3 * 64, 4)
    bad[130:] = math.inf
    with pytest.raises(RunError, match=r"^the loss must stay a number, got nan at step 2; lower the learning rate$"):
        recover(tiny("mlp"), SampleStream(vectors(), 0), Recovery(steps=3), teacher=bad)


@pytest.mark.parametrize("augment", [Augment.NONE, Augment.SHIFT])
def test_batchnorm_is_reestimated_on_the_stream(augment):
    """The mean and (unbiased) variance per channel of what the norm really gets."""
    model, task = tiny("residual"), images(100, augment=augment)
    stream = SampleStream(task, 0)
    first = model.features[0]
    recover(model, stream, Recovery(steps=0), teacher=None)
    inputs, _ = stream.batch(0, 100)
    with torch.no_grad():
        seen = first[0](inputs)
    torch.testing.assert_close(first[1].running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first[1].running_var, seen.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert first[1].momentum == 0.1
    assert not model.training


def test_batchnorm_of_much_data_is_the_mean_over_whole_batches():
    model = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 4))
    stream = SampleStream(vectors(n=300), 0)
    reestimate_batchnorm(model, stream, batch=128)
    inputs, _ = stream.batch(0, 256)
    torch.testing.assert_close(model[0].running_mean, inputs.mean(0), rtol=1e-4, atol=1e-5)
    variances = torch.stack([part.var(0) for part in inputs.split(128)])
    torch.testing.assert_close(model[0].running_var, variances.mean(0), rtol=1e-4, atol=1e-5)


def test_reestimation_forgets_what_was():
    model, stream = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 4)), SampleStream(vectors(), 0)
    reestimate_batchnorm(model, stream)
    expected = copy.deepcopy(model[0].state_dict())
    model[0].running_mean.fill_(99.0)
    reestimate_batchnorm(model, stream)
    assert torch.equal(model[0].running_mean, expected["running_mean"])


def test_without_steps_weights_stay():
    model = tiny("mlp")
    recover(model, SampleStream(vectors(), 0), Recovery(steps=0), teacher=None)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny("mlp").parameters(), strict=True))


def test_a_baseline_learns_from_nothing():
    model, task = tiny("conv1d"), task_for("conv1d")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    train_baseline(model, SampleStream(task, 0), Recovery(steps=60, batch=32, learning_rate=1e-2))
    inputs, targets = SampleStream(task, 0).batch(0, 96)
    assert float((model(inputs).argmax(1) == targets).float().mean()) > 0.9
    assert not model.training


def test_a_baseline_whose_time_is_up_ends_its_schedule_early(monkeypatch):
    seconds = iter(range(1000))
    monkeypatch.setattr("autocompress.recover.train.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    told = []
    model = tiny("residual")
    settings = Recovery(steps=100, batch=8)
    stream = SampleStream(task_for("residual"), 0)
    train_baseline(model, stream, settings, limit_s=10, progress=lambda step, _: told.append(step))
    assert told == list(range(1, 10))  # a step a second, the tenth would begin at the limit
    assert not model.training
    assert all(p.is_contiguous() for p in model.parameters())


def test_progress_is_told_after_every_step():
    told = []
    recover(
        tiny("mlp"),
        SampleStream(vectors(), 0),
        Recovery(steps=3, batch=8),
        teacher=None,
        progress=lambda step, steps: told.append((step, steps)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_frozen_parameters_stay():
    model = tiny("mlp")
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    recover(model, SampleStream(vectors(), 0), Recovery(steps=3, batch=8), teacher=None)
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(model[3].weight, tiny("mlp")[3].weight)


def test_training_losses_are_of_the_streams_first_batches_and_differentiable():
    model, stream = tiny("mlp"), SampleStream(vectors(), 0)
    losses = list(training_losses(model, stream, batches=3, batch=16))
    inputs, targets = stream.batch(16, 16)
    assert len(losses) == 3
    torch.testing.assert_close(losses[1], label_loss(stream.task, model(inputs), targets))
    losses[0].backward()
    assert model[0].weight.grad is not None


@pytest.mark.parametrize(
    ("shortcut", "channels_last"),
    [((8, 16, 1, 2), True), ((7, 16, 1, 2), False), ((7, 16, 1, 1), True), ((7, 16, 3, 2), True)],
)
def test_what_would_write_beyond_its_memory_is_not_trained_channels_last(shortcut, channels_last):
    """Narrow strided shortcuts, as pruning leaves them."""
    c_in, c_out, kernel, stride = shortcut
    model = nn.Sequential(nn.Conv2d(3, c_in, 3), nn.Conv2d(c_in, c_out, kernel, stride))
    assert trains_channels_last(model) is channels_last
    assert not trains_channels_last(nn.Sequential(nn.Linear(3, 4)))


def test_steps_are_timed_until_time_is_over():
    stream, settings = SampleStream(vectors(), 0), Recovery(steps=4, batch=8)
    assert len(step_times(tiny("mlp"), stream, settings)) == 4
    assert len(step_times(tiny("mlp"), stream, settings, most_s=0.0)) == 1
