"""Distillation of features: the student's hidden layers follow the teacher's."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.errors import RecipeError
from autocompress.recover.feature_places import PlacePair, place_pairs, rows_of, watched
from autocompress.recover.sample_stream import SampleStream

PROBE_SAMPLES = 256  # what variances and first projections are estimated on
PROBE_ROWS = 4096  # of samples × positions; twice the width of a ResNet-50's last stage
RIDGE = 1e-3  # of the mean variance of a student's channel
Seen = dict[str, list[object]]


def unexplained_share(student: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """Mean squared error of features as a share of the teacher's ``variance``.

    Both are ``[rows, channels]``. It is 0 for the teacher's features, 1 for their mean, and the same at any scale.
    """
    return F.mse_loss(student, teacher) / variance


@torch.no_grad()
def best_projection(student: Tensor, teacher: Tensor) -> nn.Linear:
    """The linear map with bias of least squared error from ``[rows, c_student]`` to ``[rows, c_teacher]``, ridged."""
    x, y = student.double(), teacher.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    squares = x.T @ x
    ridge = (RIDGE * squares.diagonal().mean()).clamp_min(torch.finfo(torch.float32).tiny)
    weight = torch.linalg.solve(squares + ridge * torch.eye(len(squares), dtype=x.dtype), x.T @ y).T
    projection = nn.Linear(x.shape[1], y.shape[1], device="meta").to_empty(device="cpu")  # draws no number
    projection.weight.copy_(weight)
    projection.bias.copy_(y_mean - weight @ x_mean)
    return projection


@dataclass(frozen=True, kw_only=True)
class Followed:
    """One place that is followed: ``variance`` is the mean over the teacher's channels."""

    pair: PlacePair
    variance: Tensor
    projection: nn.Module


class FeatureLoss:
    """How far a student's features are from its teacher's: the mean over their common places.

    Source: hints and their regressor, Romero et al. 2015, sec. 2.2, https://arxiv.org/abs/1412.6550; at the end of
    every stage and beside the other losses all the way, Heo et al. 2019, https://arxiv.org/abs/1904.01866. Here errors
    are divided by the teacher's variance, features are taken as the stage leaves them (no margin ReLU), channels that
    kept their meaning are compared as they are, and a projection starts at its least-squares solution.
    """

    def __init__(self, teacher: nn.Module, followed: tuple[Followed, ...]) -> None:
        self.followed = followed
        self._teacher = teacher
        self._ours: Seen = {}
        self._theirs: Seen = {}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Of the projections: to be trained with the student, and no part of it."""
        return [parameter for place in self.followed for parameter in place.projection.parameters()]

    @contextmanager
    def watching(self, student: nn.Module) -> Iterator["FeatureLoss"]:
        """Itself, able to be called: outputs of ``student`` are seen inside, and the hooks are gone after it."""
        pairs = [place.pair for place in self.followed]
        with _watched_pairs(student, self._teacher, pairs) as (self._ours, self._theirs):
            yield self

    def __call__(self, inputs: Tensor) -> Tensor:
        """The loss; the student has just run on ``inputs``, and the teacher does so now."""
        with torch.no_grad():
            self._teacher(inputs)
        with torch.autocast("cpu", enabled=False):
            shares = []
            for place in self.followed:
                ours, theirs = _rows(place.pair, self._ours, self._theirs)
                shares.append(unexplained_share(place.projection(ours), theirs, place.variance))
        return torch.stack(shares).mean()


def feature_loss(student: nn.Module, teacher: nn.Module, stream: SampleStream, batch: int) -> FeatureLoss:
    """The loss of ``student`` under ``teacher``, prepared on the stream's first samples; both are left alone.

    Costs forward passes of both over ``PROBE_SAMPLES`` samples, and later one of the teacher's a step.

    Raises:
        RecipeError: the two have no place in common.
    """
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
    if any(isinstance(module, nn.Conv2d) for module in teacher.modules()):
        teacher.to(memory_format=torch.channels_last)
    pairs = place_pairs(copy.deepcopy(student), teacher, stream.batch(0, 1)[0])
    followed = tuple(
        Followed(
            pair=pair,
            variance=theirs.var(0, correction=0).mean(),
            projection=nn.Identity() if pair.same_channels else best_projection(ours, theirs),
        )
        for pair, (ours, theirs) in zip(pairs, _probe(student, teacher, pairs, stream, batch), strict=True)
        if float(theirs.var(0, correction=0).mean()) > 0
    )
    if not followed:
        raise RecipeError(
            "recovery.distill.features needs a stage whose output has the same positions in the original and in the "
            "compressed model, and varies; got none; set features: 0"
        )
    return FeatureLoss(teacher, followed)


@torch.no_grad()
def _probe(
    student: nn.Module, teacher: nn.Module, pairs: tuple[PlacePair, ...], stream: SampleStream, batch: int
) -> list[tuple[Tensor, Tensor]]:
    """Some rows of each pair; the student as it trains (BatchNorm by the batch), which a copy of it does."""
    batches = -(-PROBE_SAMPLES // batch)
    parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in pairs]
    student = copy.deepcopy(student).train()
    with torch.random.fork_rng(devices=[]), _watched_pairs(student, teacher, list(pairs)) as (ours, theirs):
        for start in range(0, batches * batch, batch):
            inputs, _ = stream.batch(start, batch)
            student(inputs)
            teacher(inputs)
            for part, pair in zip(parts, pairs, strict=True):
                both = _rows(pair, ours, theirs)
                apart = -(-len(both[0]) * batches // PROBE_ROWS)
                part.append((both[0][::apart].clone(), both[1][::apart].clone()))
    return [(torch.cat([ours for ours, _ in part]), torch.cat([theirs for _, theirs in part])) for part in parts]


@contextmanager
def _watched_pairs(student: nn.Module, teacher: nn.Module, pairs: list[PlacePair]) -> Iterator[tuple[Seen, Seen]]:
    with (
        watched(student, [pair.student.name for pair in pairs]) as ours,
        watched(teacher, [pair.teacher.name for pair in pairs]) as theirs,
    ):
        yield ours, theirs


def _rows(pair: PlacePair, ours: Seen, theirs: Seen) -> tuple[Tensor, Tensor]:
    """The last outputs at a place, and what was seen is forgotten."""
    return (
        rows_of(_taken(ours[pair.student.name]), pair.student.axis),
        rows_of(_taken(theirs[pair.teacher.name]), pair.teacher.axis),
    )


def _taken(outputs: list[object]) -> Tensor:
    last = outputs[-1]
    outputs.clear()
    assert isinstance(last, Tensor)
    return last
