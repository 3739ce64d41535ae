"""What training minimizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers
from tiny_tasks import regression, vectors
from torch import Tensor

from autocompress.recipe import Distill
from autocompress.recover.losses import distillation_loss, label_loss, recovery_loss, softened_kl

CLASSIFICATION, REGRESSION = vectors(), regression()


def logits(seed: int, n: int = 5) -> Tensor:
    return 3 * torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def probabilities(values: Tensor, temperature: float = 1.0) -> np.ndarray:
    powers = np.exp(values.numpy() / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


@given(seed=integers(0, 1000), temperature=floats(0.5, 20))
def test_softened_kl_is_the_formula(seed, temperature):
    """Hinton et al. 2015, sec. 2: T² Σ p log(p / q) over classes, the mean over samples."""
    student, teacher = logits(seed), logits(seed + 1)
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    assert float(softened_kl(student, teacher, temperature)) == pytest.approx(expected, rel=1e-9)


@given(seed=integers(0, 1000), temperature=floats(0.5, 20))
def test_the_teacher_itself_has_no_divergence_and_anyone_else_some(seed, temperature):
    teacher = logits(seed)
    assert float(softened_kl(teacher + 7, teacher, temperature)) == pytest.approx(0, abs=1e-12)
    assert float(softened_kl(logits(seed + 1), teacher, temperature)) > 0


def test_at_high_temperature_logits_are_matched():
    """Hinton et al. 2015, sec. 2.1: for zero-mean logits the gradient tends to (student - teacher) / classes."""
    student, teacher = (logits(seed) for seed in (0, 1))
    student, teacher = (values - values.mean(1, keepdim=True) for values in (student, teacher))
    student.requires_grad_(True)
    softened_kl(student, teacher, 1e6).backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 4 / len(teacher), rtol=1e-3, atol=1e-6)


def test_the_size_of_the_gradient_does_not_fall_with_temperature():
    """Without the factor T² it would fall as 1 / T²."""
    sizes = []
    for temperature in (10.0, 20.0):
        student = logits(0).requires_grad_(True)
        softened_kl(student, logits(1), temperature).backward()
        sizes.append(float(student.grad.norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_judged_by_smoothed_cross_entropy(smoothing):
    outputs, targets = logits(0), torch.tensor([0, 1, 2, 3, 0])
    wanted = np.full((5, 4), smoothing / 4) + (1 - smoothing) * np.eye(4)[targets.numpy()]
    expected = -(wanted * np.log(probabilities(outputs))).sum(axis=1).mean()
    assert float(label_loss(CLASSIFICATION, outputs, targets, smoothing=smoothing)) == pytest.approx(expected)


def test_a_task_is_judged_by_its_own_loss():
    outputs, targets = logits(0), logits(1)
    expected = np.abs(outputs.numpy() - targets.numpy()).mean()
    assert float(label_loss(REGRESSION, outputs, targets)) == pytest.approx(expected)


def test_distillation_is_softened_where_the_loss_is_cross_entropy_squared_elsewhere_or_the_tasks_own():
    student, teacher = logits(0), logits(1)
    softened = distillation_loss(CLASSIFICATION, student, teacher, 3.0)
    assert softened == softened_kl(student, teacher, 3.0)
    squared = distillation_loss(REGRESSION, student, teacher, 3.0)
    assert float(squared) == pytest.approx(((student - teacher).numpy() ** 2).mean())
    own = replace(REGRESSION, distillation=lambda s, t, temperature: (s - t).sum() * temperature)
    assert distillation_loss(own, student, teacher, 3.0) == (student - teacher).sum() * 3.0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_recovery_weighs_teacher_and_labels(share):
    outputs, teacher, targets = logits(0).float(), logits(1).float(), torch.tensor([0, 1, 2, 3, 0])
    found = recovery_loss(CLASSIFICATION, outputs, targets, teacher, Distill(logits=share, temperature=2))
    labels = float(label_loss(CLASSIFICATION, outputs, targets))
    followed = float(softened_kl(outputs, teacher, 2))
    assert float(found) == pytest.approx(share * followed + (1 - share) * labels, rel=1e-5)


def test_without_a_teacher_labels_alone_count():
    outputs, targets = logits(0).float(), torch.tensor([0, 1, 2, 3, 0])
    found = recovery_loss(CLASSIFICATION, outputs, targets, None, Distill(logits=1))
    assert found == label_loss(CLASSIFICATION, outputs, targets)


def test_labels_are_not_needed_when_the_teacher_says_it_all():
    outputs, teacher = logits(0).float(), logits(1).float()
    unlabelled = torch.full((5,), -100)
    found = recovery_loss(CLASSIFICATION, outputs, unlabelled, teacher, Distill(logits=1))
    assert torch.isfinite(found)


def test_half_precision_outputs_are_judged_in_full_precision():
    outputs = logits(0).bfloat16()
    assert (
        recovery_loss(CLASSIFICATION, outputs, torch.zeros(5, dtype=torch.long), None, Distill()).dtype == torch.float32
    )
