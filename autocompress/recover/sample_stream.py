"""An endless, deterministic order of training samples with their random changes.

Every candidate of a run learns from the same stream, so the teacher's outputs at a position hold for all of them and
are computed once.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from autocompress.data.preprocess import model_input
from autocompress.task import Array, Augment, Layout, Task


@dataclass(frozen=True, kw_only=True)
class _Epoch:
    """One pass over the data: who comes when, and how each sample is shifted and mirrored."""

    order: Array
    shift: Array
    mirrored: Array


class SampleStream:
    """Positions 0, 1, 2, … of the stream; ``p`` lies in epoch ``p // n`` of a training split of ``n`` samples."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.seed = seed
        self._pad = _padding(task)
        self._mirrors = task.augment is Augment.SHIFT_FLIP and task.preprocess.layout is Layout.IMAGE
        self._epoch = lru_cache(maxsize=2)(self._draw)

    @property
    def epoch_length(self) -> int:
        """Samples in one epoch."""
        return len(self.task.train)

    def batch(self, start: int, size: int) -> tuple[Tensor, Tensor]:
        """Model inputs and targets of the positions ``start … start + size - 1``."""
        positions = np.arange(start, start + size)
        parts = [
            self._part(int(epoch), positions[positions // self.epoch_length == epoch] % self.epoch_length)
            for epoch in np.unique(positions // self.epoch_length)
        ]
        inputs = np.concatenate([part for part, _ in parts])
        targets = np.concatenate([part for _, part in parts])
        return torch.from_numpy(model_input(self.task.preprocess, inputs)), torch.from_numpy(targets)

    def _part(self, epoch: int, places: Array) -> tuple[Array, Array]:
        drawn = self._epoch(epoch)
        index = drawn.order[places]
        inputs = self.task.train.inputs[index]
        if self._pad:
            inputs = _shifted(inputs, drawn.shift[places], self._pad)
        if self._mirrors:
            inputs = np.where(drawn.mirrored[places][:, None, None, None], inputs[:, :, ::-1], inputs)
        return inputs, self.task.train.targets[index]

    def _draw(self, epoch: int) -> _Epoch:
        rng = np.random.default_rng((self.seed, epoch))
        n = self.epoch_length
        return _Epoch(
            order=rng.permutation(n),
            shift=rng.integers(0, 2 * self._pad + 1, size=(n, 2)),
            mirrored=rng.random(n) < 0.5,
        )


def _padding(task: Task) -> int:
    if task.augment is Augment.NONE or task.preprocess.layout is not Layout.IMAGE:
        return 0
    return max(1, min(task.preprocess.shape[1:]) // 8)


def _shifted(images: Array, shift: Array, pad: int) -> Array:
    """Each image ``[h, w, c]`` padded by its mirror image and cropped at its own offset."""
    n, h, w, _ = images.shape
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    rows = shift[:, 0, None] + np.arange(h)
    columns = shift[:, 1, None] + np.arange(w)
    return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
