"""Data and model brought together: the task, the network that takes its samples, and the machine."""

from dataclasses import dataclass, replace

from torch import nn

from autocompress.commands.config import RunConfig
from autocompress.data.describe import describe
from autocompress.data.load import load_task
from autocompress.data.preprocess import with_input_size, with_normalization
from autocompress.events import Observer
from autocompress.export.onnx_file import forget_translations
from autocompress.hardware.int8_activations import with_measured_activations
from autocompress.hardware.machine import this_machine
from autocompress.models.check import check_model
from autocompress.models.config import configured_size, normalization_of
from autocompress.models.load import build_model
from autocompress.models.source import ModelSource
from autocompress.target import Machine
from autocompress.task import Layout, Task


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What every command begins with.

    ``machine`` has the type of int8 activations that was measured to be fast here (``hardware.int8_activations`` says
    where the answer is kept); certificates show it. ``needs_training``: the network has no weights for this task yet.
    """

    config: RunConfig
    task: Task
    model: nn.Module
    machine: Machine
    needs_training: bool
    fine_tunes: bool = False


def prepare(
    config: RunConfig, observer: Observer, *, model: nn.Module | None = None, task: Task | None = None
) -> Prepared:
    """Load the data, build the network, settle size and normalization, and run it once; know the machine.

    A model or task handed over as an object is taken as it is: such a model counts as trained.

    Raises:
        InputError: data, model or checkpoint cannot be used; nothing has been written by then.
    """
    forget_translations()
    observer.stage("load", config.data)
    if task is None:
        task = load_task(config.data, options=config.options, progress=lambda what, i, n: observer.progress(i, n, what))
    given = model is not None
    if model is None:
        model, task = _fitted(config, task)
    check_model(model, task.preprocess, task.n_outputs, classification=task.loss is None)
    for note in (describe(task), *task.notes):
        observer.note(note)
    fine_tunes = config.pretrained and not _head_is_pretrained(model, task)
    return Prepared(
        config=config,
        task=task,
        model=model,
        machine=with_measured_activations(this_machine(), observer),
        needs_training=not given and config.checkpoint is None and (not config.pretrained or fine_tunes),
        fine_tunes=fine_tunes,
    )


def _fitted(config: RunConfig, task: Task) -> tuple[nn.Module, Task]:
    """The model for this task, and the task with the model's own normalization and, where pretrained, size."""
    model = build_model(_source(config, task), seed=config.seed)
    if task.preprocess.layout is not Layout.IMAGE:
        return model, task
    size = configured_size(model)
    if config.pretrained and config.options.input_size is None and size and size != task.preprocess.shape[-1]:
        task = with_input_size(task, size)
        model = build_model(_source(config, task), seed=config.seed)
    own = normalization_of(model, channels=task.preprocess.shape[0])
    if own is not None and config.options.mean is None:
        task = with_normalization(task, *own)
        task = replace(task, notes=(*task.notes, "images are normalized by the model's own mean and std"))
    return model, task


def _source(config: RunConfig, task: Task) -> ModelSource:
    return ModelSource(
        spec=config.model,
        pretrained=config.pretrained,
        checkpoint=config.checkpoint,
        in_shape=task.preprocess.shape,
        n_outputs=task.n_outputs,
    )


def _head_is_pretrained(model: nn.Module, task: Task) -> bool:
    """Whether the pretrained weights already end in this task's outputs."""
    configuration = getattr(model, "pretrained_cfg", None) or {}
    return bool(configuration.get("num_classes") == task.n_outputs)
