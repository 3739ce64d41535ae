"""The work on one candidate: recipe in, file and facts out. Knows neither Optuna nor Ray."""

import math
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from autocompress.data.metrics import balanced_accuracy
from autocompress.data.preprocess import model_input
from autocompress.errors import ModelError
from autocompress.evaluate import evaluate_file, predict_file
from autocompress.export.calibrate import Seen
from autocompress.export.compact import compact
from autocompress.export.onnx_file import to_onnx
from autocompress.export.write_file import Draft, draft
from autocompress.graph.blocks import Block
from autocompress.graph.channel_groups import ChannelGroup
from autocompress.graph.layer_table import LayerFacts, layer_table
from autocompress.graph.program import Portable, to_portable
from autocompress.graph.surgery import example_input
from autocompress.hardware.file_facts import count_macs, count_params
from autocompress.layers.constraint import held, held_in
from autocompress.measurement import Accuracy, ModelFacts
from autocompress.passes import PassContext
from autocompress.passes.compose import Composed, compose
from autocompress.passes.stored import stored_as
from autocompress.recipe import Recipe, Recovery
from autocompress.recover.quantize_aware import float_steps, train_draft
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import teacher_outputs
from autocompress.recover.train import recover, training_losses
from autocompress.target import Machine, Target
from autocompress.task import Array, Task

CALIBRATION_SAMPLES = 256  # ranges settle well before; Krishnamoorthi 2018, sec. 3.1 uses about 100 batches of 1
STRUCTURE_SAMPLES = 1  # a structure is timed, not judged: any range will do
LEAST_S = 1.0  # of a recovery, however late it is: it should come to the end of some schedule


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Everything that all trials of a run share; sent to each worker once.

    ``teacher`` holds the base's outputs along the sample stream, ``[positions, outputs]``; None where it is not
    computed ahead, then each recovery asks the base itself.
    """

    base: nn.Module
    task: Task
    target: Target
    machine: Machine
    groups: tuple[ChannelGroup, ...] | None = None
    blocks: tuple[Block, ...] | None = None
    teacher: Array | None = None
    stream_seed: int = 0

    def with_teacher(self, teacher: Array | None) -> "Bench":
        """A copy with other teacher outputs."""
        return replace(self, teacher=teacher)


@dataclass(frozen=True, kw_only=True)
class Made:
    """One exported candidate; ``file`` holds the bytes of ``model.onnx``.

    ``model`` is the compressed network in PyTorch, in eval mode: after quantization-aware recovery with the file's
    roundings, else in floating point. ``steps`` are those that its recovery took, ``step_s`` the seconds of one after
    the first, in floating point; None for fewer than two.
    """

    file: bytes
    facts: ModelFacts
    composed: Composed
    model: nn.Module
    seconds: float
    steps: int = 0
    step_s: float | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was skipped, and why."""
        return tuple(f"{layer}: {why}" for layer, why in self.composed.skipped.items())


def make_structure(bench: Bench, recipe: Recipe, *, threads: int) -> Made:
    """The candidate's file without any training: its size, MACs, parameters and speed are already true."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    composed = composed_of(bench, recipe)
    return finished(drafted(bench, composed, STRUCTURE_SAMPLES), composed, composed.model, started)


def make_model(bench: Bench, recipe: Recipe, *, threads: int, limit_s: float = math.inf) -> Made:
    """The candidate after its recovery, exported.

    A file with an operator that cannot be trained keeps the weights that it had before the roundings; a note says so.
    After ``limit_s`` the recovery has come to the end of its schedule, whatever steps are left.

    Raises:
        RecipeError: the recipe does not fit the base.
        RunError: recovery broke down.
    """
    torch.set_num_threads(threads)
    started = time.monotonic()
    return recovered(bench, recipe, composed_of(bench, recipe), started=started, limit_s=limit_s)


def recovered(
    bench: Bench, recipe: Recipe, composed: Composed, *, started: float, first: int = 0, limit_s: float = math.inf
) -> Made:
    """``composed`` after the steps of the recipe's recovery that follow the ``first``, exported; trained in place.

    ``limit_s`` counts from ``started``, a ``time.monotonic()``.
    """
    settings, stream = recipe.recovery, SampleStream(bench.task, bench.stream_seed)
    rounds = settings.quantize_aware and settings.steps > 0 and composed.plan.is_quantized
    teacher = teacher_of(bench, settings, stream)
    until = float_steps(settings) if rounds else settings.steps
    before = settings.model_copy(update={"steps": max(0, until - first)})
    shares = (before.steps / max(1, settings.steps - first), 1.0) if rounds else (1.0, 1.0)
    ends: list[float] = []
    with held(held_in(composed.model, composed.constraints)):
        taken = recover(
            composed.model, stream, before, teacher=teacher, teacher_model=bench.base,
            first=first, limit_s=_left_s(started, limit_s * shares[0]),
            progress=lambda _step, _steps: ends.append(time.monotonic()),
        )  # fmt: skip
    step_s = (ends[-1] - ends[0]) / (taken - 1) if taken > 1 else None  # the first one warms up
    made, network = drafted(bench, composed, CALIBRATION_SAMPLES), composed.model
    if rounds:
        left_s = _left_s(started, limit_s)
        try:
            made, network, more = train_draft(made, stream, settings, teacher=teacher, limit_s=left_s)
            taken += more
        except ModelError as error:
            skipped = {**composed.skipped, "recovery: quantize_aware": str(error)}
            composed = replace(composed, skipped=skipped)
    return replace(finished(made, composed, network, started), steps=first + taken, step_s=step_s)


def _left_s(started: float, limit_s: float) -> float:
    return max(LEAST_S, started + limit_s - time.monotonic())


def run_trial(
    bench: Bench, recipe: Recipe, *, threads: int, most_samples: int | None = None, limit_s: float = math.inf
) -> Made:
    """``make_model``, and the accuracy of the file on the validation split, or on ``most_samples`` of it."""
    made = make_model(bench, recipe, threads=threads, limit_s=limit_s)
    return judged(made, bench.task, threads=threads, most_samples=most_samples)


def judged(made: Made, task: Task, *, threads: int, most_samples: int | None) -> Made:
    """``made`` with its accuracy on the validation split."""
    started = time.monotonic()
    accuracy = accuracy_of(made.file, task, "val", threads=threads, most_samples=most_samples)
    facts = made.facts.model_copy(update={"accuracy_val": accuracy.value, "accuracy_val_interval": accuracy.interval})
    return replace(made, facts=facts, seconds=made.seconds + time.monotonic() - started)


@dataclass(frozen=True, kw_only=True)
class Product:
    """What of a candidate leaves the worker: data only.

    ``steps`` and ``step_s`` are as in ``Made``. ``file`` is there for structures, last rungs and finalists.
    ``portable``, ``layers`` (as they ended up), ``stored`` (how the file holds them, in words) and ``changed``
    (``pass: layer`` → what was done) are there for the latter two.
    """

    facts: ModelFacts
    notes: tuple[str, ...]
    seconds: float
    steps: int = 0
    step_s: float | None = None
    file: bytes | None = None
    portable: Portable | None = None
    layers: tuple[LayerFacts, ...] = ()
    stored: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)


def product_of(made: Made, *, file: bool) -> Product:
    """The part of ``made`` that is worth sending."""
    return Product(
        facts=made.facts,
        notes=made.notes,
        seconds=made.seconds,
        steps=made.steps,
        step_s=made.step_s,
        file=made.file if file else None,
    )


def finalist_of(made: Made, bench: Bench) -> Product:
    """All of ``made``, the network as data included."""
    preprocess = bench.task.preprocess
    return replace(
        product_of(made, file=True),
        portable=to_portable(made.model, preprocess.shape, preprocess.dtype),
        layers=layer_table(made.composed.model, example_input(preprocess.shape, preprocess.dtype)),
        stored=stored_as(made.composed),
        changed=made.composed.changed,
    )


def export_base(bench: Bench) -> bytes:
    """The uncompressed model's file."""
    proto = compact(to_onnx(bench.base, bench.task.preprocess, bench.target.batch))
    content: bytes = proto.SerializeToString()
    return content


def facts_of(file: bytes) -> ModelFacts:
    """Bytes, MACs and parameters counted on a file."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(file)
        return ModelFacts(size_bytes=len(file), macs=count_macs(path), params=count_params(path))


def accuracy_of(file: bytes, task: Task, split: str, *, threads: int, most_samples: int | None = None) -> Accuracy:
    """The task's metric of a file on a split, run in the target runtime.

    The whole split, or the same random ``most_samples`` of it for every file.
    """
    samples = dict(task.splits())[split]
    if most_samples is not None and most_samples < len(samples):
        samples = samples.take(np.random.default_rng(0).permutation(len(samples))[:most_samples])
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(file)
        return evaluate_file(path, samples, task, threads=threads)


def more_metrics_of(file: bytes, task: Task, threads: int) -> dict[str, float]:
    """Balanced accuracy on the test split, where the targets are classes."""
    if task.loss is not None:
        return {}
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(file)
        outputs = predict_file(path, task.test.inputs, task.preprocess, threads=threads)
    return {"balanced_accuracy": balanced_accuracy(outputs, task.test.targets)}


def pass_context(bench: Bench, seed: int) -> PassContext:
    """What passes may ask of this bench."""
    preprocess = bench.task.preprocess
    stream = SampleStream(bench.task, bench.stream_seed)
    return PassContext(
        example=example_input(preprocess.shape, preprocess.dtype),
        seed=seed,
        losses=lambda model: training_losses(model, stream),
        groups=bench.groups,
        blocks=bench.blocks,
        channel_block=bench.machine.channel_block,
    )


def composed_of(bench: Bench, recipe: Recipe) -> Composed:
    """The base with the recipe's passes applied, untrained."""
    torch.manual_seed(recipe.seed)
    return compose(bench.base, recipe, pass_context(bench, recipe.seed))


def teacher_of(bench: Bench, settings: Recovery, stream: SampleStream) -> Tensor | None:
    """Teacher outputs for every position that the recovery will visit."""
    if settings.distill.logits == 0 or settings.steps == 0:
        return None
    known = None if bench.teacher is None else torch.tensor(bench.teacher)
    return teacher_outputs(bench.base, stream, settings.steps * settings.batch, settings.arithmetic, known)


def finished(made: Draft, composed: Composed, model: nn.Module, started: float) -> Made:
    """The bytes of a draft, counted."""
    file = made.finished()
    return Made(file=file, facts=facts_of(file), composed=composed, model=model, seconds=time.monotonic() - started)


def drafted(bench: Bench, composed: Composed, samples: int) -> Draft:
    """The composed network's file, its weights still open; ranges are those of ``samples`` training samples."""
    batch = bench.target.batch
    return draft(
        composed.model,
        composed.plan,
        composed.constraints,
        Seen(inputs=calibration_inputs(bench, max(samples, batch)), batch=batch),
        preprocess=bench.task.preprocess,
        machine=bench.machine,
    )


def calibration_inputs(bench: Bench, samples: int) -> Array:
    """Model inputs of unchanged training samples, the same ones for every candidate; repeated if there are too few."""
    split = bench.task.train
    order = np.random.default_rng(bench.stream_seed).permutation(len(split))
    index = np.sort(np.resize(order, samples) if samples > len(order) else order[:samples])
    return model_input(bench.task.preprocess, split.inputs[index])
