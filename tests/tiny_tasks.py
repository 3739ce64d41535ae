"""Tiny tasks: data for the tiny models, learnable in a few steps."""

from typing import Any

import numpy as np
import torch
from tiny_models import N_OUTPUTS, shape_of
from torch import Tensor

from autocompress.task import Augment, Layout, Preprocess, Split, Task


def vectors(shape: tuple[int, ...] = (12,), n: int = 96, seed: int = 0, **changes: Any) -> Task:
    """Noise around one centre a class, taken as stored; classes are told apart easily."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(N_OUTPUTS, *shape)).astype(np.float32)

    def split(count: int) -> Split:
        targets = rng.integers(0, N_OUTPUTS, count)
        noise = rng.normal(size=(count, *shape)).astype(np.float32)
        return Split(inputs=centres[targets] + 0.5 * noise, targets=targets)

    preprocess = Preprocess(layout=Layout.AS_STORED, shape=shape)
    parts = {"train": split(n), "val": split(32), "test": split(32)}
    return Task(**({"name": "vectors", "preprocess": preprocess, "n_outputs": N_OUTPUTS, **parts} | changes))


def task_for(name: str, n: int = 96) -> Task:
    """A task whose inputs fit the tiny model ``name``."""
    return vectors(shape_of(name), n)


def images(n: int = 40, size: int = 16, channels: int = 3, augment: Augment = Augment.NONE) -> Task:
    """Images of noise, each unlike any other, so that a sample can be told by its pixels."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        pixels = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
        return Split(inputs=pixels, targets=np.arange(count) % N_OUTPUTS)

    preprocess = Preprocess(
        layout=Layout.IMAGE, shape=(channels, size, size), mean=(0.5,) * channels, std=(0.25,) * channels
    )
    return Task(
        name="images",
        train=split(n),
        val=split(8),
        test=split(8),
        preprocess=preprocess,
        n_outputs=N_OUTPUTS,
        augment=augment,
    )


def regression(n: int = 96) -> Task:
    """Vectors to vectors, under a loss and a metric of its own."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(n, 12)).astype(np.float32)
    targets = inputs[:, :N_OUTPUTS] * 2

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        return torch.nn.functional.l1_loss(outputs, wanted)

    split = Split(inputs=inputs, targets=targets)
    return Task(
        name="regression",
        train=split,
        val=split,
        test=split,
        preprocess=Preprocess(layout=Layout.AS_STORED, shape=(12,)),
        n_outputs=N_OUTPUTS,
        loss=loss,
        metric=lambda outputs, wanted: -float(np.abs(outputs - wanted).mean()),
        metric_name="negative error",
    )
