"""Which of many to take: evidence from several scores, and the best by it at each cost."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WIDEST = 4.0  # most by which the costs of what is taken lie apart: far below its budget nothing is worth a look


def evidence(scores: Sequence[Sequence[float]]) -> Floats:
    """Of each ``scores[network][score]``: the share of the others that it is above, as a mean over the scores.

    Ranks, because the scores' own scales mean nothing; ties count half.
    """
    if len(scores) < 2:
        return np.ones(len(scores))
    table = np.asarray(scores, np.float64)
    above = (table[:, None, :] > table[None, :, :]) + 0.5 * (table[:, None, :] == table[None, :, :])
    shares: Floats = (above.sum(axis=1) - 0.5) / (len(table) - 1)
    return np.asarray(shares.mean(axis=1), np.float64)


def steps_of(costs: Sequence[float], limit: float, count: int) -> NDArray[np.int64]:
    """Which of ``count`` equal steps of the logarithm below ``limit`` each cost lies in; −1 for none."""
    values = np.asarray(costs, np.float64)
    within = values[values <= limit]
    if not len(within):
        return np.full(len(values), -1)
    low = max(float(within.min()), limit / WIDEST)
    place = np.floor(count * np.log(np.maximum(values, low) / low) / max(np.log(limit / low), 1e-12))
    return np.where((values < low) | (values > limit), -1, np.minimum(place, count - 1)).astype(np.int64)


def spread(costs: Sequence[float], worth: Sequence[float], limit: float, count: int) -> list[int]:
    """Up to ``count`` of those within ``limit``: the worthiest in each step of cost, then the worthiest of the rest."""
    order = sorted(range(len(costs)), key=lambda index: -worth[index])
    places = steps_of(costs, limit, count)
    taken: list[int] = []
    filled: set[int] = set()
    for index in order:
        place = int(places[index])
        if place >= 0 and place not in filled:
            filled.add(place)
            taken.append(index)
    rest = [index for index in order if index not in set(taken) and costs[index] <= limit]
    return taken[:count] + rest[: count - len(taken)]
