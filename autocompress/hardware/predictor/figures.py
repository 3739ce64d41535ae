"""How well predicted latencies hold against measured ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from autocompress.facts import Facts
from autocompress.task import Array

T = TypeVar("T")


class Figures(Facts):
    """Of a set of files; shares and relative errors as numbers, not percent.

    ``mape`` is the mean of ``|predicted / measured - 1|``, ``bias`` the same with its sign, ``within_5`` and
    ``within_10`` the shares of files at most that many percent off. ``coverage`` is the share of measurements inside
    their interval and ``width`` the median of the interval's width over the prediction; None where there are none, and
    so is ``spearman`` where it means nothing.
    """

    files: int
    mape: float
    within_5: float
    within_10: float
    bias: float
    spearman: float | None
    coverage: float | None = None
    width: float | None = None
    fastest_ms: float
    slowest_ms: float


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One file: what was measured and what was said before."""

    measured_ms: float
    predicted_ms: float
    interval_ms: tuple[float, float] | None = None


def figures_of(judged: Sequence[Judged]) -> Figures:
    """The figures of at least one file; intervals count where every file has one."""
    measured = np.array([each.measured_ms for each in judged])
    predicted = np.array([each.predicted_ms for each in judged])
    error = predicted / measured - 1
    intervals = [each.interval_ms for each in judged if each.interval_ms is not None]
    coverage = width = None
    if len(intervals) == len(judged):
        low, high = np.array(intervals).T
        coverage = float(np.mean((low <= measured) & (measured <= high)))
        width = float(np.median((high - low) / predicted))
    return Figures(
        files=len(judged),
        mape=float(np.abs(error).mean()),
        within_5=float(np.mean(np.abs(error) <= 0.05)),
        within_10=float(np.mean(np.abs(error) <= 0.1)),
        bias=float(error.mean()),
        spearman=spearman(measured, predicted),
        coverage=coverage,
        width=width,
        fastest_ms=float(measured.min()),
        slowest_ms=float(measured.max()),
    )


def figures_by(items: Iterable[T], key: Callable[[T], str], judged: Callable[[T], Judged]) -> dict[str, Figures]:
    """The figures of each kind of item, by ``key``."""
    groups: dict[str, list[Judged]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(judged(item))
    return {name: figures_of(groups[name]) for name in sorted(groups)}


def spearman(first: Array, second: Array) -> float | None:
    """Correlation of ranks, equal values sharing theirs; None where all values of one side are equal."""
    ranks = np.array([_ranks(first), _ranks(second)])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    return float(centred[0] @ centred[1] / norms.prod()) if norms.all() else None


def _ranks(values: Array) -> Array:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
