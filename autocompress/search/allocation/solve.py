"""One choice per unit, so that least is lost within every budget: a multiple-choice knapsack, solved exactly.

Source: Sinha and Zoltners 1979, https://doi.org/10.1287/opre.27.3.503 (the problem, and which choices can never be
picked); solved by HiGHS' branch and cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_array

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]

TIME_LIMIT_S = 1.0
RELATIVE_GAP = 1e-3
_MORE_TIME = 10.0  # for a first selection, where the time limit passed without one
_INFEASIBLE = 2  # of ``milp``
_TOLERANCE = 1e-9  # of a limit, relative


@dataclass(frozen=True, kw_only=True)
class Solution:
    """``picks`` names a choice of each unit; ``optimal``: nothing is better by more than the gap that was asked for."""

    picks: Picks
    loss: float
    costs: Floats
    optimal: bool


def solve(
    loss: Sequence[Floats],
    costs: Sequence[Floats],
    limits: Floats,
    *,
    time_limit_s: float = TIME_LIMIT_S,
    relative_gap: float = RELATIVE_GAP,
) -> Solution | None:
    """One choice for each unit, of the least sum of losses among those whose summed costs meet every limit.

    Args:
        loss: of each unit ``[choices]``; infinite for a choice that must not be picked.
        costs: of each unit ``[choices, metrics]``; may be negative.
        limits: ``[metrics]``, infinite where there is none.
        time_limit_s: after which the best that was found so far is given.
        relative_gap: of the loss, that a selection may be worse than the best.

    Returns:
        None where no selection meets the limits.

    Raises:
        ValueError: a unit without a choice that may be picked.
    """
    for place, values in enumerate(loss):
        if not np.isfinite(values).any():
            raise ValueError(f"each unit needs a choice of finite loss, unit {place} has none of {len(values)}")
    scale = _scales(costs, limits)
    bound = np.isfinite(limits)
    kept = [undominated(values, cost[:, bound]) for values, cost in zip(loss, costs, strict=True)]
    least = sum((cost[rows].min(axis=0) for cost, rows in zip(costs, kept, strict=True)), np.zeros(len(limits)))
    if np.any(least[bound] > limits[bound] + _TOLERANCE * scale[bound]):
        return None
    found, optimal = _branch_and_cut(
        [values[rows] for values, rows in zip(loss, kept, strict=True)],
        [cost[rows][:, bound] / scale[bound] for cost, rows in zip(costs, kept, strict=True)],
        limits[bound] / scale[bound],
        time_limit_s,
        relative_gap,
    )
    if found is None:
        return None
    picks = np.array([rows[at] for rows, at in zip(kept, found, strict=True)], dtype=np.intp)
    return Solution(
        picks=picks,
        loss=float(sum(values[at] for values, at in zip(loss, picks, strict=True))),
        costs=np.sum([cost[at] for cost, at in zip(costs, picks, strict=True)], axis=0),
        optimal=optimal,
    )


def undominated(loss: Floats, costs: Floats) -> Picks:
    """Places of the choices of finite loss that no other beats: none loses and costs as little in everything.

    Of equal ones the first stays.
    """
    table = np.column_stack([loss, costs])
    finite = np.flatnonzero(np.isfinite(loss))
    rows = table[finite]
    no_worse = (rows[:, None] <= rows[None]).all(axis=2)
    better = no_worse & (~no_worse.T | (np.arange(len(rows))[:, None] < np.arange(len(rows))))
    found: Picks = finite[~better.any(axis=0)]
    return found


def _scales(costs: Sequence[Floats], limits: Floats) -> Floats:
    """Of each metric, a number that brings its limit near 1: bytes and milliseconds meet in one matrix."""
    most = np.sum([np.abs(cost).max(axis=0) for cost in costs], axis=0)
    found: Floats = np.maximum(np.where(np.isfinite(limits), np.abs(limits), 1.0), 1e-6 * most)
    return found


def _branch_and_cut(
    loss: list[Floats], costs: list[Floats], limits: Floats, time_limit_s: float, relative_gap: float
) -> tuple[list[int] | None, bool]:
    """Which choice of each unit, and whether that is the best; all numbers near 1."""
    counts = [len(values) for values in loss]
    ends = np.cumsum(counts)
    owners = np.repeat(np.arange(len(counts)), counts)
    one_each = coo_array((np.ones(len(owners)), (owners, np.arange(len(owners)))))
    objective = np.concatenate(loss)
    constraints = [LinearConstraint(one_each, 1, 1)]
    if len(limits):
        constraints.append(LinearConstraint(np.concatenate(costs).T, -np.inf, limits + _TOLERANCE))
    spread = float(np.abs(objective).max()) or 1.0
    for seconds in (time_limit_s, _MORE_TIME * time_limit_s):
        result = milp(
            objective / spread,
            integrality=np.ones(len(objective)),
            bounds=(0, 1),
            constraints=constraints,
            # Presolve would halve the time; what it leaves now and then makes HiGHS write to standard output.
            options={"time_limit": seconds, "mip_rel_gap": relative_gap, "presolve": False},
        )
        if result.x is not None:
            picked = [int(np.argmax(part)) for part in np.split(result.x, ends[:-1])]
            return picked, bool(result.status == 0)
        if result.status == _INFEASIBLE:
            break
    return None, False
