"""One training loop: for baselines from nothing, and for compressed models under their teacher."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from autocompress.errors import RecipeError, RunError
from autocompress.recipe import Arithmetic, Distill, Recovery
from autocompress.recover.features import FeatureLoss, feature_loss
from autocompress.recover.losses import label_loss, recovery_loss
from autocompress.recover.sample_stream import SampleStream

CHANNELS_OF_A_VECTOR = 8  # floats of AVX2
WARM_UP = 0.1  # of the way
SLACK = 0.1  # of the way that is left: so far time may be ahead of the steps before it decides
NORM_SAMPLES = 1024  # enough for a mean and variance per channel
Progress = Callable[[int, int], None]


def recover(
    model: nn.Module,
    stream: SampleStream,
    settings: Recovery,
    *,
    teacher: Tensor | None,
    teacher_model: nn.Module | None = None,
    first: int = 0,
    limit_s: float = math.inf,
    progress: Progress | None = None,
) -> int:
    """Train ``model`` in place on ``steps × batch`` samples of the stream, then re-estimate BatchNorm.

    Args:
        model: left in eval mode.
        stream: the run's order of training samples.
        settings: steps, batch, schedule, loss weights.
        teacher: the original's outputs at the stream's positions, ``[at least (first + steps) × batch, outputs]``; None
            trains on labels.
        teacher_model: the original itself, whose features are followed where ``settings.distill.features`` is not 0;
            it runs along at every step. Left alone.
        first: steps that lie behind in the stream.
        limit_s: seconds after which the schedule is at its end whatever steps are left; it has no effect before it
            is clear that there is no time for all of them.
        progress: called with ``(step, steps)`` after each step.

    Returns:
        The steps that were taken: all, unless time was up.

    Raises:
        RunError: the loss is no number any more.
        RecipeError: features are to be followed, and there is no original or no place that both have.
    """
    taken, started = 0, time.monotonic()
    if settings.steps:
        with _features(model, stream, settings, teacher_model) as features:

            def loss_at(start: int, inputs: Tensor, targets: Tensor) -> Tensor:
                followed = None if teacher is None else teacher[start : start + len(inputs)]
                loss = recovery_loss(stream.task, model(inputs), targets, followed, settings.distill)
                return loss if features is None else loss + settings.distill.features * features(inputs)

            taken = _descend(
                model,
                stream,
                settings,
                loss_at,
                way_at=lambda step: _way(step / settings.steps, (time.monotonic() - started) / limit_s),
                first=first,
                more=() if features is None else features.parameters,
                progress=progress,
            )
    reestimate_batchnorm(model, stream)
    return taken


def train_baseline(
    model: nn.Module,
    stream: SampleStream,
    settings: Recovery,
    *,
    limit_s: float = math.inf,
    progress: Progress | None = None,
) -> None:
    """Train ``model`` in place from its initial weights on labels, smoothed by 0.1 where the task is classification.

    After ``limit_s`` seconds it has come to the end of its schedule whatever steps are left: a machine that slows down
    gets fewer steps, each further along, and not a schedule that is cut off.
    """
    started = time.monotonic()

    def loss_at(_start: int, inputs: Tensor, targets: Tensor) -> Tensor:
        return label_loss(stream.task, model(inputs).float(), targets, smoothing=0.1)

    def way_at(step: int) -> float:
        return max(step / settings.steps, (time.monotonic() - started) / limit_s)

    settings = settings.model_copy(update={"distill": Distill(logits=0)})
    _descend(model, stream, settings, loss_at, way_at=way_at, progress=progress)
    reestimate_batchnorm(model, stream)


def step_times(model: nn.Module, stream: SampleStream, settings: Recovery, *, most_s: float = math.inf) -> list[float]:
    """Seconds of each training step on labels. After the first none begins once ``most_s`` seconds have passed.

    The model is changed in place, and left in training mode.
    """
    marks = [time.perf_counter()]

    def loss_at(_start: int, inputs: Tensor, targets: Tensor) -> Tensor:
        return label_loss(stream.task, model(inputs).float(), targets)

    _descend(
        model,
        stream,
        settings,
        loss_at,
        way_at=lambda step: float(step > 0 and marks[-1] - marks[0] > most_s),
        progress=lambda _step, _steps: marks.append(time.perf_counter()),
    )
    return [after - before for before, after in pairwise(marks)]


def reestimate_batchnorm(model: nn.Module, stream: SampleStream, *, batch: int = 128) -> None:
    """Fresh running means and variances from the stream's beginning; the model is left in eval mode.

    Without it a pruned or factorized network is judged by the statistics of activations that it no longer has.
    """
    count = min(NORM_SAMPLES, stream.epoch_length)
    starts = range(0, max(count - count % batch, min(batch, count)), batch)
    update_bn((stream.batch(start, min(batch, count))[0] for start in starts), model)
    model.eval()


def training_losses(model: nn.Module, stream: SampleStream, *, batches: int = 8, batch: int = 32) -> Iterator[Tensor]:
    """Label losses of the stream's first batches, ready for ``backward``."""
    for start in range(0, batches * batch, batch):
        inputs, targets = stream.batch(start, batch)
        yield label_loss(stream.task, model(inputs).float(), targets)


def _features(
    model: nn.Module, stream: SampleStream, settings: Recovery, teacher: nn.Module | None
) -> AbstractContextManager[FeatureLoss | None]:
    if settings.distill.features == 0:
        return nullcontext()
    if teacher is None:
        raise RecipeError(
            f"recovery.distill.features needs the original model, got {settings.distill.features} without "
            "teacher_model; hand it in or set features: 0"
        )
    return feature_loss(model, teacher, stream, settings.batch).watching(model)


def _descend(
    model: nn.Module,
    stream: SampleStream,
    settings: Recovery,
    loss_at: Callable[[int, Tensor, Tensor], Tensor],
    *,
    way_at: Callable[[int], float],
    first: int = 0,
    more: Sequence[nn.Parameter] = (),
    progress: Progress | None,
) -> int:
    """Steps of AdamW; ``way_at`` says how much of the schedule lies behind, from 0 to the end at 1. How many it took.

    ``more`` are parameters of the loss, trained along without weight decay nor clipping.
    """
    model.train()
    channels_last = trains_channels_last(model)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    groups = _parameter_groups(model, settings.weight_decay)
    if more:
        groups.append({"params": list(more), "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    taken = 0
    for step in range(settings.steps):
        way = way_at(step)
        if way >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _one_cycle(way)
        start = (first + step) * settings.batch
        inputs, targets = stream.batch(start, settings.batch)
        if channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.arithmetic is Arithmetic.BF16):
            loss = loss_at(start, inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if not math.isfinite(float(loss.detach())):
            raise RunError(
                f"the loss must stay a number, got {float(loss.detach())} at step {step}; lower the learning rate"
            )
        taken = step + 1
        if progress is not None:
            progress(taken, settings.steps)
    if channels_last:
        model.to(memory_format=torch.contiguous_format)
    return taken


def trains_channels_last(model: nn.Module) -> bool:
    """Whether convolutions are trained in that layout, which is faster; not with strided 1×1 ones of few channels.

    Of those, with fewer channels than a vector of AVX2 has, oneDNN's gradient writes beyond its memory (torch 2.14 on
    a processor without AVX-512: heap corruption within a few hundred steps).
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return bool(convolutions) and not any(
        math.prod(each.kernel_size) == 1 and max(each.stride) > 1 and each.in_channels < CHANNELS_OF_A_VECTOR
        for each in convolutions
    )


def _way(steps_share: float, time_share: float) -> float:
    """How much of the schedule lies behind: what the steps say, to the last bit, as long as there is time for all."""
    return steps_share if time_share - steps_share <= SLACK * (1 - steps_share) else time_share


def _one_cycle(way: float) -> float:
    """Share of the peak rate: linear warm-up over the first tenth of the way, then half a cosine to zero."""
    if way < WARM_UP:
        return (way + WARM_UP / 10) / (WARM_UP + WARM_UP / 10)
    return 0.5 * (1 + math.cos(math.pi * (way - WARM_UP) / (1 - WARM_UP)))


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels only: norms and biases have no scale to decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
