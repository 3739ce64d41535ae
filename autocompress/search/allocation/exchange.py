"""A selection made better, or made to fit, by changing few units, every change judged by what the whole then costs."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from autocompress.search.allocation.costs import CostModel

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]

MOST_PASSES = 12
_TOLERANCE = 1e-9


def fits(costs: Floats, limits: Floats) -> npt.NDArray[np.bool_]:
    """Whether each row of costs meets every limit."""
    return np.all(costs <= limits * (1 + _TOLERANCE), axis=-1)  # type: ignore[no-any-return]


def violation(costs: Floats, limits: Floats) -> Floats:
    """By what share each row exceeds the limits, summed over them."""
    found: Floats = np.maximum(costs / limits - 1, 0.0).sum(axis=-1)
    return found


def spend(picks: Picks, loss: Sequence[Floats], model: CostModel, limits: Floats) -> Picks:
    """The selection with units at choices that lose less, while the limits hold; those that gain most come first."""
    for _ in range(MOST_PASSES):
        changes = _changes([values < values[at] for values, at in zip(loss, picks, strict=True)])
        if not len(changes):
            return picks
        costs = model.changed(picks, changes)
        allowed = fits(costs, limits)
        if not allowed.any():
            return picks
        changes, costs = changes[allowed], costs[allowed]
        gains = np.array([loss[unit][picks[unit]] - loss[unit][place] for unit, place in changes])
        (here,) = model.at_scale_of(picks, picks[None])
        slack = np.maximum(limits - here, 1e-12 * np.abs(limits))
        price = np.maximum((costs - here) / slack, 0.0).max(axis=1)
        rows = _one_after_another(picks, changes[np.argsort(-gains / np.maximum(price, 1e-6))])
        good = fits(model.upper(rows), limits)
        if not good.any():
            return picks
        picks = rows[np.flatnonzero(good)[-1]]
    return picks


def repair(picks: Picks, loss: Sequence[Floats], model: CostModel, limits: Floats) -> Picks | None:
    """A selection near ``picks`` that meets the limits, changed where that loses least; None if none was found."""
    for _ in range(MOST_PASSES):
        (over,) = violation(model.upper(picks[None]), limits)
        if over <= _TOLERANCE:
            return picks
        changes = _changes(
            [np.isfinite(values) & (np.arange(len(values)) != at) for values, at in zip(loss, picks, strict=True)]
        )
        saved = over - violation(model.changed(picks, changes), limits)
        changes, saved = changes[saved > 0], saved[saved > 0]
        if not len(changes):
            return None
        more = np.array([loss[unit][place] - loss[unit][picks[unit]] for unit, place in changes])
        rows = _one_after_another(picks, changes[np.argsort(np.maximum(more, 0.0) / saved, kind="stable")])
        left = violation(model.upper(rows), limits)
        met = np.flatnonzero(left <= _TOLERANCE)
        best = met[0] if len(met) else np.argmin(left)
        if left[best] >= over:
            return None
        picks = rows[best]
    return None


def _changes(wanted: Sequence[npt.NDArray[np.bool_]]) -> Picks:
    """``[n, 2]``: the units and choices that are wanted."""
    places = [np.flatnonzero(mask) for mask in wanted]
    owner = np.repeat(np.arange(len(places)), [len(each) for each in places])
    return np.column_stack([owner, np.concatenate(places)])


def _one_after_another(picks: Picks, changes: Picks) -> Picks:
    """The selection after the first change, after the first two and so on; one change for each unit."""
    return np.array(list(_in_turn(picks, changes)), dtype=np.intp)


def _in_turn(picks: Picks, changes: Picks) -> Iterator[Picks]:
    touched: set[int] = set()
    for unit, place in changes.tolist():
        if unit not in touched:
            touched.add(unit)
            picks = picks.copy()
            picks[unit] = place
            yield picks
