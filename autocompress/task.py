"""A task: what the data is, and what counts as good. Any modality, loss and metric."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from autocompress.errors import DataError
from autocompress.facts import Facts

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]


class Layout(StrEnum):
    """How a sample is laid out where it is stored, and what the model is fed."""

    IMAGE = "image"  # stored uint8 [n, h, w, c]; the model gets float32 [n, c, h, w], scaled and normalized
    AS_STORED = "as stored"  # the model gets the stored array as it is


class Augment(StrEnum):
    """Random changes of a training sample that keep its label."""

    NONE = "none"
    SHIFT = "shift"  # pad by an eighth with the edge's mirror image, crop at random
    SHIFT_FLIP = "shift+flip"  # and mirror left to right with probability one half


class Preprocess(Facts):
    """How a stored sample becomes a model input; stated once, kept with the result.

    For images: ``x = (pixel / 255 - mean) / std`` per channel, then channels first. ``resize`` says what was done to
    the pixels before (``none``, or the filter and library).
    """

    layout: Layout
    shape: tuple[int, ...] = Field(description="of one model input, without the batch: (c, h, w) for images")
    dtype: str = "float32"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str = "none"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Samples and their targets: ``inputs [n, ...]``, ``targets [n, ...]``."""

    inputs: Array
    targets: Array

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise DataError(
                f"a split has one target per input, got {len(self.inputs)} inputs and {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Array) -> "Split":
        """The samples at ``index``."""
        return Split(inputs=self.inputs[index], targets=self.targets[index])


@dataclass(frozen=True, kw_only=True)
class Task:
    """Three splits, how their samples enter the model, and how outputs are trained and judged.

    Args:
        train: the samples that baseline, recovery and calibration see.
        val: what the search judges candidates by.
        test: read once, for the certificate.
        preprocess: from a stored sample to a model input.
        n_outputs: width of the model's output.
        class_names: empty when the task is no classification.
        loss: ``(outputs, targets) -> scalar``; None is cross-entropy.
        metric: ``(outputs, targets) -> float``, higher is better; None is top-1 accuracy.
        distillation: ``(student, teacher, temperature) -> scalar``; None is the softened KL divergence where the loss
            is cross-entropy, and the mean squared error elsewhere.
        augment: random changes of training samples; only for images.
        notes: what was decided about the data on the user's behalf, in plain words.
    """

    name: str
    train: Split
    val: Split
    test: Split
    preprocess: Preprocess
    n_outputs: int
    class_names: tuple[str, ...] = ()
    loss: "Callable[[Tensor, Tensor], Tensor] | None" = None
    metric: Callable[[Array, Array], float] | None = None
    metric_name: str = "accuracy"
    distillation: "Callable[[Tensor, Tensor, float], Tensor] | None" = None
    augment: Augment = Augment.NONE
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, split in self.splits():
            if len(split) == 0:
                raise DataError(f"every split needs samples; {name} of {self.name!r} has none")

    def splits(self) -> tuple[tuple[str, Split], ...]:
        """``train``, ``val`` and ``test`` with their names."""
        return (("train", self.train), ("val", self.val), ("test", self.test))

    @property
    def is_classification(self) -> bool:
        """Whether the defaults (cross-entropy, top-1) hold."""
        return self.loss is None and self.metric is None

    def evaluate(self, outputs: Array, targets: Array) -> float:
        """The metric of ``outputs`` (the model's raw outputs) against ``targets``."""
        if self.metric is not None:
            return float(self.metric(outputs, targets))
        return float(np.mean(outputs.argmax(axis=-1) == targets))

    def with_notes(self, *notes: str) -> "Task":
        """A copy with more notes."""
        return replace(self, notes=self.notes + notes)
