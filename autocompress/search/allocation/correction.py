"""The table set right by what whole recipes lost after their recovery.

The table says what each choice loses alone and before any recovery. Recovery wins back more of what one technique costs
than of what another does, and losses do not quite add up. So the losses of each technique get a factor of their own,
fitted on the trials so far; with few trials all of them stay near one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

Floats = npt.NDArray[np.float64]

LEAST_RESULTS = 6
DOUBT = 3.0  # results against which factors of 1 count as much
MOST = 8.0  # that a factor is, and one over it the least


@dataclass(frozen=True, kw_only=True)
class Result:
    """A trained recipe: see ``shares_of``; what it lost, in points of accuracy or any other one unit."""

    shares: Mapping[str, float]
    lost: float


def shares_of(
    loss: Sequence[Sequence[float]], parts: Sequence[Sequence[frozenset[str]]], picks: Sequence[int]
) -> dict[str, float]:
    """What of a recipe's loss each part has caused by the table.

    Args:
        loss: of each unit and choice, see ``SensitivityTable``.
        parts: of each unit and choice, which parts it uses; its loss is shared equally among them.
        picks: the choice of each unit.
    """
    found: dict[str, float] = {}
    for losses, used, place in zip(loss, parts, picks, strict=True):
        for part in used[place]:
            found[part] = found.get(part, 0.0) + losses[place] / len(used[place])
    return found


def factors(results: Sequence[Result]) -> dict[str, float]:
    """Part → factor of the losses of choices that use it; empty while there are too few results.

    ``results`` are of recipes that were all recovered alike.
    """
    if len(results) < LEAST_RESULTS:
        return {}
    names = sorted({part for each in results for part in each.shares})
    if len(names) < 2:
        return {}
    rows = np.array([[each.shares.get(name, 0.0) for name in names] for each in results])
    lost = np.array([each.lost for each in results])
    total = rows.sum(axis=1)
    # What is lost beside all compression, such as by a recovery that is short for all, is no part's doing.
    scale, offset = _line(total, lost)
    if scale <= 0:
        return {}
    weights = _ridge(rows * scale, lost - offset)
    middle = float(np.exp(np.mean(np.log(np.clip(weights, 1 / MOST, MOST)))))
    return {name: float(np.clip(w / middle, 1 / MOST, MOST)) for name, w in zip(names, weights, strict=True)}


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope and offset of least squares; the offset is that of the least loss at most."""
    if np.ptp(x) == 0:
        return 0.0, 0.0
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float(min(offset, y.min()))


def _ridge(rows: Floats, lost: Floats) -> Floats:
    """Non-negative weights near 1."""
    spread = float(np.sqrt(np.mean(rows.sum(axis=1) ** 2))) or 1.0
    pull = np.sqrt(DOUBT) * spread / rows.shape[1] * np.eye(rows.shape[1])
    found, _ = nnls(np.vstack([rows, pull]), np.concatenate([lost, pull @ np.ones(rows.shape[1])]))
    weights: Floats = found
    return weights
