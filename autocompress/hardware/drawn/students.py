"""Networks of the student families, at sizes between those that a search chooses from."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto
from pydantic import ValidationError

from autocompress.export.draft_export import draft_onnx
from autocompress.graph.layer_table import layer_table
from autocompress.graph.surgery import example_input
from autocompress.students.build import build
from autocompress.students.family import Architecture, InputKind, Value, load_family
from autocompress.students.knobs import FAMILIES
from autocompress.task import Layout, Preprocess

TRIES = 50  # for values that go together
MOST_MACS = 500e6  # of a network: keeps it to some ten milliseconds
SIZES = (32, 48, 64, 80, 96, 112, 128, 160)  # of images, in pixels
LENGTHS, CHANNELS = (64, 128, 256, 512), (1, 3, 8)  # of series
VECTORS = (16, 64, 256, 784)
CLASSES = (2, 10, 100, 1000)


def student_net(family: str, rng: np.random.Generator) -> tuple[ModelProto, tuple[int, ...]]:
    """A network of ``family`` and the shape of its input, without the batch.

    Raises:
        ModelError: PyTorch cannot export it.
    """
    kind = FAMILIES[family].kind
    n_outputs, seed = _one(rng, CLASSES), int(rng.integers(2**31))
    for _ in range(TRIES):
        architecture, shape = _architecture(family, rng), _shape(kind, rng)
        model = build(architecture, shape=shape, n_outputs=n_outputs, seed=seed)
        if sum(layer.macs for layer in layer_table(model, example_input(shape, batch=1))) <= MOST_MACS:
            break
    layout = Layout.IMAGE if kind is InputKind.IMAGE else Layout.AS_STORED
    return draft_onnx(model, Preprocess(layout=layout, shape=shape), 1), shape


def _shape(kind: InputKind, rng: np.random.Generator) -> tuple[int, ...]:
    if kind is InputKind.IMAGE:
        size = _one(rng, SIZES)
        return (3, size, size)
    return (_one(rng, CHANNELS), _one(rng, LENGTHS)) if kind is InputKind.SERIES else (_one(rng, VECTORS),)


def _architecture(family: str, rng: np.random.Generator) -> Architecture:
    choices = load_family(family).parameters
    for _ in range(TRIES):
        values = {name: _between(family, name, choices[name], rng) for name in choices}
        try:
            return Architecture(family=family, values=values)
        except ValidationError:
            continue
    raise AssertionError(f"no values of {family} go together")


def _between(family: str, name: str, choices: Sequence[Value], rng: np.random.Generator) -> Value:
    """A width anywhere between the least and the most that a search chooses from; one of the choices of all else."""
    if name != "width":
        return choices[int(rng.integers(len(choices)))]
    low, high = float(min(choices)), float(max(choices))
    found = FAMILIES[family].knobs[name].nearest(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    assert found is not None
    return found


def _one(rng: np.random.Generator, values: Sequence[int]) -> int:
    return int(rng.choice(values))
