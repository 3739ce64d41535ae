"""Losses of choices that were not measured, from those that were.

A choice of several techniques is taken to lose about the sum of what each of them loses alone; by what factor that is
wrong is learned from the joint choices that were measured. A technique alone loses by a power law between what was
measured. More compression never loses less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autocompress.search.allocation.choices import Choice
from autocompress.task import Array

LEAST = 1e-7  # nats: what float32 outputs can show
EXPONENT = 2.0  # of the loss over the relative error, where one point is known: the loss is flat at the original
RIDGE = 1.0  # measurements that speak for no difference between units, and none between choices
FIELDS = 5


def interpolated(choices: Sequence[Sequence[Choice]], known: Sequence[Array]) -> list[Array]:
    """Losses ``[choices]`` of each unit, ``known`` where that is a number."""
    units = [_Unit(choices=tuple(row), losses=losses) for row, losses in zip(choices, known, strict=True)]
    curves = [_curve(units, technique) for technique in range(FIELDS)]
    sums = [unit.sums(curves) for unit in units]
    factors = _factors(units, sums)
    return [unit.filled(total * factor) for unit, total, factor in zip(units, sums, factors, strict=True)]


def strengths(choice: Choice) -> Array:
    """How far each technique goes, ``[5]``: about the relative error of the weights, 0 where nothing changes."""
    bits = choice.codebook or choice.precision.bits
    error = 0.0 if bits is None else 2.0 ** (2 - bits) * (0.75 if choice.codebook else 1.0)
    return np.array([choice.prune, 1 - choice.rank, choice.sparse, error, float(choice.drop)])


def used(choices: Sequence[Choice]) -> Array:
    """``[choices, 5]``: which techniques go further than the mildest of the choices does, the original or int8, say."""
    rows = np.stack([strengths(choice) for choice in choices])
    found: Array = rows > rows[[not choice.drop for choice in choices]].min(0)
    return found


@dataclass(frozen=True, kw_only=True)
class _Unit:
    choices: tuple[Choice, ...]
    losses: Array

    @property
    def strengths(self) -> Array:
        """``[choices, techniques]``."""
        return np.stack([strengths(choice) for choice in self.choices])

    @property
    def is_known(self) -> Array:
        """``[choices]``."""
        return np.isfinite(self.losses)

    def alone(self, technique: int) -> tuple[Array, Array]:
        """Strengths and losses, both above zero, of what was measured of one technique alone; in ascending order."""
        rows = self.strengths
        others = np.delete(used(self.choices), technique, 1).any(1)
        chosen = (rows[:, technique] > 0) & ~others & self.is_known
        order = np.argsort(rows[chosen, technique], kind="stable")
        losses = np.maximum.accumulate(np.maximum(self.losses[chosen][order], LEAST))
        return rows[chosen, technique][order], losses

    def sums(self, curves: Sequence[tuple[Array, Array]]) -> Array:
        """Of the techniques' losses alone, ``[choices]``; from all units where this one knows nothing."""
        total = np.zeros(len(self.choices))
        for technique, curve in enumerate(curves):
            points, losses = self.alone(technique)
            total += _along(self.strengths[:, technique], *((points, losses) if len(points) else curve))
        return total

    def filled(self, guesses: Array) -> Array:
        """``guesses`` where nothing is known, no less than anything weaker and no more than anything stronger."""
        found, is_set = np.where(self.is_known, self.losses, 0.0), self.is_known.copy()
        weaker = self._is_weaker()
        for place in np.argsort(self.strengths.sum(1), kind="stable"):
            if is_set[place]:
                continue
            below, above = found[weaker[:, place] & is_set], found[weaker[place] & self.is_known]
            least = below.max(initial=0.0)
            found[place] = np.clip(guesses[place], least, max(least, above.min(initial=np.inf)))
            is_set[place] = True
        return found

    def _is_weaker(self) -> Array:
        """``[a, b]``: whether b compresses at least as much as a by every technique; nothing beats a dropped block."""
        rows = self.strengths
        gone = np.array([choice.drop for choice in self.choices])
        found: Array = (rows[:, None] <= rows[None]).all(2) | gone[None]
        np.fill_diagonal(found, val=False)
        return found


def _along(strength: Array, points: Array, losses: Array) -> Array:
    """The losses at some strengths: straight lines through the points in logarithms, the power law beyond them."""
    found = np.zeros(len(strength))
    is_used = strength > 0
    if not len(points) or not is_used.any():
        return found
    x, known, y = np.log(strength[is_used]), np.log(points), np.log(losses)
    lines = np.interp(x, known, y)
    lines += EXPONENT * (np.minimum(x - known[0], 0) + np.maximum(x - known[-1], 0))
    found[is_used] = np.exp(lines)
    return found


def _curve(units: Sequence[_Unit], technique: int) -> tuple[Array, Array]:
    """Strength → geometric mean of its losses over all units where it was measured."""
    of_units = [unit.alone(technique) for unit in units]
    points = np.concatenate([points for points, _ in of_units])
    logs = np.log(np.concatenate([losses for _, losses in of_units]))
    distinct = np.unique(points)
    means = np.array([logs[points == point].mean() for point in distinct])
    return distinct, np.exp(np.maximum.accumulate(means)) if len(means) else means


def _factors(units: Sequence[_Unit], sums: Sequence[Array]) -> list[Array]:
    """By how much joint choices lose more than the sums, ``[choices]`` of each unit; 1 where one technique is used.

    Ridge regression of the logarithm on unit and choice.
    """
    numbers = {choice: number for number, choice in enumerate({c: None for unit in units for c in unit.choices})}
    width = 1 + len(units) + len(numbers)
    joint = [used(unit.choices).sum(1) > 1 for unit in units]
    normal, right = np.diag([1e-9] + [RIDGE] * (width - 1)), np.zeros(width)
    for place, (unit, total) in enumerate(zip(units, sums, strict=True)):
        for choice in np.flatnonzero(joint[place] & unit.is_known & (total > 0)):
            columns = [0, 1 + place, 1 + len(units) + numbers[unit.choices[choice]]]
            normal[np.ix_(columns, columns)] += 1
            right[columns] += np.log(max(unit.losses[choice], LEAST) / max(total[choice], LEAST))
    found = np.linalg.solve(normal, right)
    return [
        np.exp(
            np.where(
                joint[place],
                found[0] + found[1 + place] + found[[1 + len(units) + numbers[choice] for choice in unit.choices]],
                0.0,
            )
        )
        for place, unit in enumerate(units)
    ]
