"""What each choice of each unit loses when it is the only change."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from autocompress.facts import Facts
from autocompress.search.allocation.choices import Choice
from autocompress.task import Array

Loss = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SensitivityTable(Facts):
    """``loss[unit][choice]`` in nats per sample: the divergence of the outputs when nothing else changes.

    For other tasks than classification it is the mean squared change over the variance of the outputs. ``measured``
    says which losses were measured; the others are estimated from those.
    """

    units: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...]
    loss: tuple[tuple[Loss, ...], ...]
    measured: tuple[tuple[bool, ...], ...]
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        counts = [len(row) for row in self.choices]
        if not len(self.units) == len(counts) == len(self.loss) == len(self.measured) or any(
            not count == len(losses) == len(known) or count == 0
            for count, losses, known in zip(counts, self.loss, self.measured, strict=False)
        ):
            raise ValueError(
                "a table has a row of choices for each unit, and one loss for each choice, got "
                f"{len(self.units)} units, rows of {counts} choices, {[len(row) for row in self.loss]} losses and "
                f"{[len(row) for row in self.measured]} marks"
            )
        return self

    @cached_property
    def padded(self) -> Array:
        """Losses ``[units, most choices]``; infinite where a unit has no such choice."""
        rows = np.full((len(self.loss), max(map(len, self.loss), default=0)), np.inf)
        for row, losses in zip(rows, self.loss, strict=True):
            row[: len(losses)] = losses
        return rows

    @cached_property
    def unchanged(self) -> tuple[int, ...]:
        """For each unit the choice that changes nothing; where a space has none, the one that loses least."""
        return tuple(
            row.index(Choice()) if Choice() in row else int(np.argmin(losses))
            for row, losses in zip(self.choices, self.loss, strict=True)
        )

    def score(self, picks: Array) -> Array:
        """Estimated loss ``[n]`` of recipes, ``picks [n, units]`` naming a choice for each unit: the sum over units."""
        found = np.zeros(len(picks))
        for row, column in zip(self.padded, picks.T, strict=True):
            found += row.take(column)
        return found

    def picked(self, picks: Sequence[int] | Array) -> dict[int, Choice]:
        """Unit → its choice, as ``values_of`` takes it."""
        return {place: row[int(pick)] for place, (row, pick) in enumerate(zip(self.choices, picks, strict=True))}
