"""What training minimizes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from autocompress.recipe import Distill
from autocompress.task import Task


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence from the teacher's softened class probabilities to the student's, times temperature².

    The factor keeps the gradient's size when the temperature changes: Hinton et al. 2015, sec. 2,
    https://arxiv.org/abs/1503.02531. Both are ``[n, classes]`` logits; the mean over samples is returned.
    """
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )


def label_loss(task: Task, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """The task's own loss; cross-entropy where it has none."""
    if task.loss is not None:
        return task.loss(outputs, targets)
    return F.cross_entropy(outputs, targets, label_smoothing=smoothing)


def distillation_loss(task: Task, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's outputs are from the teacher's."""
    if task.distillation is not None:
        return task.distillation(student, teacher, temperature)
    if task.loss is None:
        return softened_kl(student, teacher, temperature)
    return F.mse_loss(student, teacher)


def recovery_loss(task: Task, outputs: Tensor, targets: Tensor, teacher: Tensor | None, distill: Distill) -> Tensor:
    """Labels and teacher, weighted as ``distill`` says; labels alone without a teacher."""
    outputs = outputs.float()
    if teacher is None or distill.logits == 0:
        return label_loss(task, outputs, targets)
    followed = distillation_loss(task, outputs, teacher, distill.temperature)
    if distill.logits == 1:
        return followed
    return torch.lerp(label_loss(task, outputs, targets), followed, distill.logits)
