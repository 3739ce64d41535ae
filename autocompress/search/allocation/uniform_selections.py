"""Selections that no measured loss decides: one treatment for all units, and chance. What a search must beat."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autocompress.budget import Metric
from autocompress.search.allocation.allocate import Allocator
from autocompress.search.allocation.choices import Choice
from autocompress.search.allocation.exchange import fits


def uniform(choices: Sequence[Sequence[Choice]], wanted: Choice) -> tuple[int, ...]:
    """The selection in which every unit has ``wanted``, or what comes nearest to it there."""
    return tuple(_nearest(row, wanted) for row in choices)


def uniforms(allocator: Allocator, limits: Mapping[Metric, float], count: int) -> list[tuple[int, ...]]:
    """The uniform selections within the limits that lose least by the table, the best first; fewer if few fit."""
    wanted = dict.fromkeys(choice for row in allocator.choices for choice in row if not choice.drop)
    picks = np.array(list(dict.fromkeys(uniform(allocator.choices, each) for each in wanted)))
    fitting = picks[fits(allocator.model.upper(picks), allocator.model.bounds(limits))]
    loss = [sum(row[at] for row, at in zip(allocator.loss, each, strict=True)) for each in fitting]
    return [tuple(fitting[place].tolist()) for place in np.argsort(loss, kind="stable")[:count]]


def at_random(allocator: Allocator, limits: Mapping[Metric, float], seed: int) -> tuple[int, ...] | None:
    """A selection within the limits, by losses that are drawn."""
    rng = np.random.default_rng(seed)
    found = replace(allocator, loss=[rng.random(len(row)).tolist() for row in allocator.loss]).allocate(limits)
    return None if found is None else found.picks


def _nearest(row: Sequence[Choice], wanted: Choice) -> int:
    return min(range(len(row)), key=lambda place: _distance(row[place], wanted))


def _distance(choice: Choice, wanted: Choice) -> tuple[float, ...]:
    """How far a choice is from the wanted one; another technique, half of the bits and all of an amount count alike."""
    if choice.drop != wanted.drop:
        return (100.0, 0.0)
    bits = [(each.codebook or each.precision.bits or 32) for each in (choice, wanted)]
    others = (choice.codebook is None) != (wanted.codebook is None)
    amounts = (choice.prune - wanted.prune, choice.rank - wanted.rank, choice.sparse - wanted.sparse)
    return (others + abs(np.log2(bits[0] / bits[1])) + sum(map(abs, amounts)), bits[0])
