"""Where a student and its teacher have comparable features."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from autocompress.graph.layer_table import LayerFacts, layer_table
from autocompress.graph.stages import stages_of


@dataclass(frozen=True, kw_only=True)
class Place:
    """The output of one module: its shape with channels at ``axis``."""

    name: str
    shape: tuple[int, ...]
    axis: int
    runs: int

    @property
    def width(self) -> int:
        """Channels."""
        return self.shape[self.axis]

    @property
    def grid(self) -> tuple[int, ...]:
        """Everything but channels: samples and positions."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]


@dataclass(frozen=True, kw_only=True)
class PlacePair:
    """Two places of equal positions; ``same_channels`` where channel i means the same on both sides."""

    student: Place
    teacher: Place
    same_channels: bool


def place_pairs(student: nn.Module, teacher: nn.Module, example: Tensor) -> tuple[PlacePair, ...]:
    """One pair for each stage of the teacher that has a counterpart, in order of execution.

    A stage's place is the outermost module around its last layer that holds layers of this stage only: the end of a
    residual stage is the sum, not its last branch. Modules of several layers come before those around one, and those
    before the layer itself. The network's last layer is no place: the loss on logits follows it.

    Names are compared first (a compressed copy keeps them); where no name fits, stages of equal positions are paired
    from the end. Both are run on ``example`` and left in eval mode.
    """
    theirs, ours = _stage_places(teacher, example), _outputs(student, example)
    named = [pair for stage in theirs if (pair := _by_name(stage, ours)) is not None]
    if named:
        return tuple(named)
    return _by_positions([stage[0] for stage in _stage_places(student, example)], [stage[0] for stage in theirs])


def rows_of(features: Tensor, axis: int) -> Tensor:
    """``[samples × positions, channels]`` in fp32."""
    return features.movedim(axis, -1).flatten(0, -2).float()


@contextmanager
def watched(model: nn.Module, names: list[str]) -> Iterator[dict[str, list[object]]]:
    """What the named modules gave since the entry was last cleared, in order of execution."""
    seen: dict[str, list[object]] = {name: [] for name in names}

    def watch(name: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            seen[name].append(output)

        return hook

    handles = [model.get_submodule(name).register_forward_hook(watch(name)) for name in names]  # type: ignore[arg-type]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _outputs(model: nn.Module, example: Tensor) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape of the last output and number of runs of every module that gives one float tensor."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    with watched(model, names) as seen:
        model.eval()(example)
    last = {name: outputs[-1] for name, outputs in seen.items() if outputs}
    return {
        name: (tuple(output.shape), len(seen[name]))
        for name, output in last.items()
        if isinstance(output, Tensor) and output.is_floating_point() and output.dim() > 1
    }


def _stage_places(model: nn.Module, example: Tensor) -> list[list[Place]]:
    """The possible places of each stage, best first; stages without one are left out."""
    layers = {layer.name: layer for layer in layer_table(model, example)}
    outputs = _outputs(model, example)
    stages = []
    for stage in stages_of(tuple(layers.values())[:-1]):
        around = [(size, name, last) for last in reversed(stage) for size, name in _around(last, stage, layers)]
        names = [(name, layers[last]) for size, name, last in sorted(around, key=lambda found: found[0] == 1)]
        stages.append([_place(name, *outputs[name], layer) for name, layer in names if name in outputs])
    return [places for places in stages if places]


def _around(layer: str, stage: tuple[str, ...], layers: dict[str, LayerFacts]) -> Iterator[tuple[int, str]]:
    """Number of layers and name of the modules whose layers are all of this stage, from the outside in to ``layer``."""
    parts = layer.split(".")
    for end in range(1, len(parts) + 1):
        around = ".".join(parts[:end])
        inside = {name for name in layers if f"{name}.".startswith(f"{around}.")}
        if inside <= set(stage):
            yield len(inside), around


def _place(name: str, shape: tuple[int, ...], runs: int, layer: LayerFacts) -> Place:
    """Channels lie where the layer has them, or else where its width is: modules around it may turn axes."""
    usual = len(shape) - 1 if layer.kind == "Linear" else 1
    order = [usual, *range(1, len(shape))]
    axis = next((axis for axis in order if shape[axis] == layer.c_out), usual)
    return Place(name=name, shape=shape, axis=axis, runs=runs)


def _by_name(stage: list[Place], outputs: dict[str, tuple[tuple[int, ...], int]]) -> PlacePair | None:
    """The first place of a teacher's stage that the student has too; a module that runs more often is another."""
    for theirs in stage:
        shape, runs = outputs.get(theirs.name, ((), 0))
        if runs == theirs.runs and len(shape) == len(theirs.shape):
            ours = Place(name=theirs.name, shape=shape, axis=theirs.axis, runs=runs)
            if ours.grid == theirs.grid:
                return PlacePair(student=ours, teacher=theirs, same_channels=ours.width == theirs.width)
    return None


def _by_positions(ours: list[Place], theirs: list[Place]) -> tuple[PlacePair, ...]:
    """From the end, each teacher's place with the latest one of the student's that is still free."""
    pairs: list[PlacePair] = []
    free = len(ours)
    for place in reversed(theirs):
        fitting = [i for i in range(free) if _same_positions(ours[i], place)]
        if fitting:
            free = fitting[-1]
            pairs.append(PlacePair(student=ours[free], teacher=place, same_channels=False))
    return tuple(reversed(pairs))


def _same_positions(one: Place, other: Place) -> bool:
    """Tokens and an image count as the same when there are as many of them: both go row by row."""
    if len(one.grid) == len(other.grid):
        return one.grid == other.grid
    return prod(one.grid) == prod(other.grid)
