"""Configurations as rows of codes, and where the next ones to judge come from."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_LISTED = 20_000  # configurations of a space that is judged as a whole
FLIPS = 2  # parameters at most that a mutation changes
MOVE = 0.15  # standard deviation of a number's mutation, of its range
FAR = 0.25  # of mutated numbers are drawn anew
CROSSED = 0.3  # of mutations start from a mixture of two parents


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One parameter: its count of ``choices``, or 0 for a number of so many ``steps`` (0: a continuum)."""

    choices: int = 0
    steps: int = 0

    @property
    def size(self) -> float:
        """How many values it has."""
        return self.choices or self.steps or math.inf

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Codes at random."""
        if self.choices:
            return rng.integers(self.choices, size=count).astype(np.float64)
        return self.snapped(rng.random(count))

    def snapped(self, codes: Array) -> Array:
        """The nearest codes that the parameter can have."""
        if self.choices:
            return codes
        held = np.clip(codes, 0.0, 1.0)
        return held if self.steps == 0 else self._code_of(np.round(held * (self.steps - 1)))

    def mutated(self, rng: np.random.Generator, codes: Array) -> Array:
        """Other choices; numbers nearby, or anywhere."""
        if self.choices:
            return np.asarray((codes + rng.integers(1, max(self.choices, 2), size=len(codes))) % self.choices)
        near = codes + rng.normal(0.0, MOVE, len(codes))
        return self.snapped(np.where(rng.random(len(codes)) < FAR, rng.random(len(codes)), near))

    def every(self) -> Array:
        """All codes, of a parameter that has finitely many."""
        places = np.arange(self.choices or self.steps, dtype=np.float64)
        return places if self.choices else self._code_of(places)

    def _code_of(self, places: Array) -> Array:
        """One number for each of its steps: configurations are told apart by every bit of them."""
        return np.asarray(places / max(self.steps - 1, 1))


@dataclass(frozen=True, kw_only=True)
class Space:
    """All parameters; a configuration is a row of their codes."""

    axes: tuple[Axis, ...]

    def listed(self) -> Array | None:
        """Every configuration ``[n, parameters]``; None if there are more than ``MOST_LISTED``."""
        if math.prod(axis.size for axis in self.axes) > MOST_LISTED:
            return None
        return np.array(list(itertools.product(*(axis.every() for axis in self.axes))), dtype=np.float64)

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Configurations at random."""
        return np.column_stack([axis.draw(rng, count) for axis in self.axes])

    def mutated(self, rng: np.random.Generator, parents: Array, count: int) -> Array:
        """Parents, or mixtures of two, with one or two parameters changed."""
        found = parents[rng.integers(len(parents), size=count)]
        other = parents[rng.integers(len(parents), size=count)]
        crossed = (rng.random(count) < CROSSED)[:, None] & (rng.random(found.shape) < 0.5)
        found = np.where(crossed, other, found)
        for _ in range(FLIPS):  # the same parameter may be drawn twice: then one is changed
            chosen = rng.integers(len(self.axes), size=count)
            for at, axis in enumerate(self.axes):
                rows = np.flatnonzero(chosen == at)
                found[rows, at] = axis.mutated(rng, found[rows, at])
        return found


def keys(codes: Array) -> list[bytes]:
    """What tells configurations apart."""
    return [row.tobytes() for row in np.ascontiguousarray(codes) + 0.0]  # -0.0 and 0.0 are one


def without(codes: Array, seen: set[bytes]) -> NDArray[np.bool_]:
    """Which rows are new: not seen, and no repeat of an earlier row."""
    met = set(seen)
    fresh = np.zeros(len(codes), dtype=bool)
    for at, key in enumerate(keys(codes)):
        if key not in met:
            met.add(key)
            fresh[at] = True
    return fresh


def best_allowed(
    codes: Array, worth: Array, allowed: Callable[[Array], NDArray[np.bool_]], wanted: int
) -> NDArray[np.intp]:
    """Places of up to ``wanted`` allowed rows of the highest worth; few of the others are asked about."""
    order = np.argsort(-worth, kind="stable")
    found: list[NDArray[np.intp]] = []
    start, size = 0, max(16, wanted)
    while start < len(order) and sum(map(len, found)) < wanted:
        block = order[start : start + size]
        found.append(block[allowed(codes[block])])
        start, size = start + size, 2 * size
    return np.concatenate([*found, np.zeros(0, dtype=np.intp)])[:wanted]
