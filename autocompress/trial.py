"""The work on one candidate: recipe in, file and facts out. Knows neither Optuna nor Ray."""

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from autocompress.data.metrics import balanced_accuracy
from autocompress.data.preprocess import model_input
from autocompress.errors import ModelError
from autocompress.evaluate import evaluate_file, predict_file
from autocompress.export.calibrate import Seen
from autocompress.export.compact import compact
from autocompress.export.file_weights import plain_weights
from autocompress.export.onnx_file import layer_of, to_onnx
from autocompress.export.thin_nodes import with_thin_nodes
from autocompress.export.write_file import Draft, draft, draft_of
from autocompress.graph.blocks import Block
from autocompress.graph.channel_groups import ChannelGroup
from autocompress.graph.layer_table import LayerFacts, layer_table
from autocompress.graph.program import Portable, to_portable
from autocompress.graph.surgery import example_input
from autocompress.hardware.file_facts import count_macs, count_params
from autocompress.layers.constraint import held, held_in
from autocompress.measurement import Accuracy, ModelFacts
from autocompress.passes import PassContext
from autocompress.passes.compose import Composed, compose, read_passes
from autocompress.passes.factorize import Factorize
from autocompress.passes.stored import stored_as
from autocompress.precision import FilePlan
from autocompress.recipe import Recipe
from autocompress.recover.quantize_aware import float_steps, train_draft
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import teacher_outputs
from autocompress.recover.train import recover, training_losses
from autocompress.target import Machine, Target
from autocompress.task import Array, Task

CALIBRATION_SAMPLES = 256  # ranges settle well before; Krishnamoorthi 2018, sec. 3.1 uses about 100 batches of 1
STRUCTURE_SAMPLES = 1  # a structure is timed, not judged: any range will do


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
    roundings, else in floating point.
    """

    file: bytes
    facts: ModelFacts
    composed: Composed
    model: nn.Module
    seconds: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What was skipped, and why."""
        return tuple(f"{layer}: {why}" for layer, why in self.composed.skipped.items())


def make_structure(bench: Bench, recipe: Recipe, *, threads: int) -> Made:
    """The candidate's file without any training: its size, MACs, parameters and speed are already true."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    composed = _compose(bench, recipe)
    return _finished(_draft(bench, composed, STRUCTURE_SAMPLES), composed, composed.model, started)


def make_model(bench: Bench, recipe: Recipe, *, threads: int) -> Made:
    """The candidate after its recovery, exported.

    A file with an operator that cannot be trained keeps the weights that it had before the roundings; a note says so.

    Raises:
        RecipeError: the recipe does not fit the base.
        RunError: recovery broke down.
    """
    torch.set_num_threads(threads)
    started = time.monotonic()
    composed = _compose(bench, recipe)
    stream = SampleStream(bench.task, bench.stream_seed)
    settings, teacher = recipe.recovery, _teacher(bench, recipe, stream)
    rounds = settings.quantize_aware and settings.steps > 0 and composed.plan.is_quantized
    before = settings.model_copy(update={"steps": float_steps(settings)}) if rounds else settings
    with held(held_in(composed.model, composed.constraints)):
        recover(composed.model, stream, before, teacher=teacher, teacher_model=bench.base)
    made = _draft(bench, composed, CALIBRATION_SAMPLES)
    if not rounds:
        return _finished(made, composed, composed.model, started)
    try:
        made, network = train_draft(made, stream, settings, teacher=teacher)
    except ModelError as error:
        skipped = {**composed.skipped, "recovery: quantize_aware": str(error)}
        return _finished(made, replace(composed, skipped=skipped), composed.model, started)
    return _finished(made, composed, network, started)


def run_trial(bench: Bench, recipe: Recipe, *, threads: int, most_samples: int | None = None) -> Made:
    """``make_model``, and the accuracy of the file on the validation split, or on ``most_samples`` of it."""
    made = make_model(bench, recipe, threads=threads)
    started = time.monotonic()
    accuracy = accuracy_of(made.file, bench.task, "val", threads=threads, most_samples=most_samples)
    facts = made.facts.model_copy(update={"accuracy_val": accuracy.value, "accuracy_val_interval": accuracy.interval})
    return replace(made, facts=facts, seconds=made.seconds + time.monotonic() - started)


@dataclass(frozen=True, kw_only=True)
class Product:
    """What of a candidate leaves the worker: data only.

    ``file`` is there for structures and finalists. ``portable``, ``layers`` (as they ended up), ``stored`` (how the
    file holds them, in words) and ``changed`` (``pass: layer`` → what was done) are there for finalists.
    """

    facts: ModelFacts
    notes: tuple[str, ...]
    seconds: float
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


def export_float(bench: Bench, recipe: Recipe) -> ModelProto:
    """The network after the passes of a recipe, in floating point, untrained."""
    return to_onnx(_compose(bench, recipe).model, bench.task.preprocess, bench.target.batch)


def structure_of(bench: Bench, source: ModelProto, recipe: Recipe) -> bytes:
    """The file of a recipe from that of the network at its widths, as far as timing goes.

    Factors are of noise, weights are stored plainly. ``source`` is changed.

    Raises:
        ModelError: a layer that is factorized has no node in ``source``.
    """
    plan, ranks = FilePlan(), {}
    for item in read_passes(recipe):
        plan = item.finalize(plan)
        if isinstance(item, Factorize):
            ranks = {name: factors.values()[0] for name, factors in item.layers.items()}
    with_thin_nodes(source, ranks)
    names = frozenset(layer_of(node) for node in source.graph.node)
    batch = bench.target.batch
    seen = Seen(inputs=calibration_inputs(bench, max(STRUCTURE_SAMPLES, batch)), batch=batch)
    return draft_of(source, plain_weights(source, names), plan, seen, bench.machine).finished()


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


def _compose(bench: Bench, recipe: Recipe) -> Composed:
    torch.manual_seed(recipe.seed)
    return compose(bench.base, recipe, pass_context(bench, recipe.seed))


def _teacher(bench: Bench, recipe: Recipe, stream: SampleStream) -> Tensor | None:
    """Teacher outputs for every position that the recovery will visit."""
    settings = recipe.recovery
    if settings.distill.logits == 0 or settings.steps == 0:
        return None
    known = None if bench.teacher is None else torch.tensor(bench.teacher)
    return teacher_outputs(bench.base, stream, settings.steps * settings.batch, settings.arithmetic, known)


def _finished(made: Draft, composed: Composed, model: nn.Module, started: float) -> Made:
    file = made.finished()
    return Made(file=file, facts=facts_of(file), composed=composed, model=model, seconds=time.monotonic() - started)


def _draft(bench: Bench, composed: Composed, samples: int) -> Draft:
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
