"""One choice per unit, so that least is lost within every budget: a multiple-choice knapsack, solved exactly.

Source: Sinha and Zoltners 1979, https://doi.org/10.1287/opre.27.3.503 (the problem); Balas and Zemel 1980,
https://doi.org/10.1287/opre.28.5.1130 (few choices decide: the core); solved by HiGHS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_array

from autocompress.search.allocation.prices import Priced

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]

CORE = 3  # choices a unit, about, that are tried first
COPIES = 4  # times as many, of which some are beaten by others
BEAM, LISTED = 1500, 5000  # partial selections that are kept: of a first one, and to list all
_MORE_TIME = 10.0  # for a first selection, where the time limit passed without one
# Presolve would halve the time; what it leaves makes HiGHS write to standard output more often than it does without.
_OPTIONS = {"presolve": False}
_INFEASIBLE = 2  # of ``milp``
_TOLERANCE = 1e-9  # of a limit, and of the least loss, relative


@dataclass(frozen=True, kw_only=True)
class Solution:
    """``picks`` names a choice of each unit; ``optimal``: nothing is better by more than the gap that was asked for."""

    picks: Picks
    loss: float
    costs: Floats
    optimal: bool


def relaxed(loss: Sequence[Floats], costs: Sequence[Floats], limits: Floats) -> "Relaxed | None":
    """One choice for each unit, of the least sum of losses among those whose summed costs meet every limit.

    At first with choices that may be mixed: a quick selection, and all that the exact one begins with. Takes
    milliseconds for up to three limits, tens of them for four.

    Args:
        loss: of each unit ``[choices]``; infinite for a choice that must not be picked.
        costs: of each unit ``[choices, metrics]``; may be negative.
        limits: ``[metrics]``, infinite where there is none.

    Returns:
        None where not even a mixture meets the limits.

    Raises:
        ValueError: a unit without a choice that may be picked; a cost that is no finite number.
    """
    problem = _posed(loss, costs, limits)
    prices = Priced(
        loss=problem.loss, costs=problem.costs, limits=problem.limits + _TOLERANCE, starts=problem.starts
    ).prices()
    if prices is None:
        return None
    priced = problem.loss + problem.costs @ prices
    least = np.minimum.reduceat(priced, problem.starts)
    bound = float(least.sum() - prices @ (problem.limits + _TOLERANCE))
    return Relaxed(costs=costs, bound=bound, _problem=problem, _added=priced - least[problem.owner])


@dataclass(frozen=True, kw_only=True)
class Relaxed:
    """What mixing choices showed; ``bound``: no selection that meets the limits loses less."""

    costs: Sequence[Floats]
    bound: float
    _problem: "_Problem"
    _added: Floats  # by each choice to the bound, where it is picked

    @property
    def picks(self) -> Picks:
        """Of each unit the choice that is mixed; of several, as at most one unit for each limit has, the cheapest.

        The selection need not meet the limits.
        """
        problem = self._problem
        even = self._added <= _TOLERANCE * max(1.0, abs(self.bound))
        cost = np.where(even, problem.costs.max(axis=1, initial=-np.inf), np.inf)
        return problem.picks([int(np.argmin(each)) for each in np.split(cost, problem.starts[1:])])

    def solved(self, *, time_limit_s: float, relative_gap: float) -> Solution | None:
        """The best selection; None where none meets the limits, or none was found in time.

        Args:
            time_limit_s: after which the best that was found so far is given; where nothing was, ten times that.
            relative_gap: of the loss, that it may be worse than the best.
        """
        found, optimal = self._best(time_limit_s, relative_gap)
        if found is None:
            return None
        picks = self._problem.picks(found)
        return Solution(
            picks=picks,
            loss=self._problem.loss_of(found),
            costs=np.sum([cost[at] for cost, at in zip(self.costs, picks, strict=True)], axis=0),
            optimal=optimal,
        )

    def _best(self, time_limit_s: float, relative_gap: float) -> tuple[list[int] | None, bool]:
        """Which choice of each unit, and whether that is the best.

        A beam over the choices that add least finds a good selection, and that one rules out most choices: those that
        add more than it could be better by. The rest is often few enough to be listed; else HiGHS decides.
        """
        problem, added = self._problem, self._added
        core = CORE * len(problem.starts)
        # A choice adds no less than one that beats it: where it is looked at, so is that one.
        few = problem.undominated(added <= _nth(added, COPIES * core))
        few &= added <= _nth(added[few], core)
        found, _ = problem.listed(added, few, np.inf, BEAM)
        if found is None:
            everything = problem.undominated(np.full(len(added), fill_value=True))
            cut, optimal = problem.cut(everything, relative_gap, time_limit_s)
            # Nothing else is known: a selection at all is worth more time.
            return (
                (cut, optimal) if cut or optimal else problem.cut(everything, relative_gap, _MORE_TIME * time_limit_s)
            )
        room = problem.loss_of(found) - self.bound
        if room <= relative_gap * abs(problem.loss_of(found)):
            return found, True
        better = problem.undominated(added <= room)
        again, is_all = problem.listed(added, better, room, LISTED)
        cut, optimal = (None, True) if is_all else problem.cut(better, relative_gap, time_limit_s)
        return min((each for each in (found, again, cut) if each is not None), key=problem.loss_of), optimal


def _nth(values: Floats, n: int) -> float:
    """The ``n``-th smallest; of fewer values the largest."""
    return float(np.sort(values)[min(len(values), n) - 1])


def _pairs(counts: Picks) -> tuple[Picks, Picks]:
    """All pairs of places within groups of so many that follow one another, a place with itself among them."""
    others, first = np.repeat(counts, counts), np.repeat(np.cumsum(counts) - counts, counts)
    one = np.repeat(np.arange(len(others)), others)
    other = np.arange(len(one)) + np.repeat(first - np.cumsum(others) + others, others)
    return one, other


def _posed(loss: Sequence[Floats], costs: Sequence[Floats], limits: Floats) -> "_Problem":
    """The problem of the choices of finite loss, in numbers near 1."""
    bound = np.isfinite(limits)
    kept = [np.flatnonzero(np.isfinite(values)) for values in loss]
    for place, rows in enumerate(kept):
        if not len(rows):
            raise ValueError(f"each unit needs a choice of finite loss, unit {place} has none of {len(loss[place])}")
        if not np.isfinite(costs[place][rows][:, bound]).all():
            raise ValueError(f"costs must be finite, those of unit {place} are not; predict or measure them again")
    of_kept = [cost[rows][:, bound] for cost, rows in zip(costs, kept, strict=True)]
    # Of each metric, a number that brings its limit near 1: bytes and milliseconds meet in one matrix.
    scale = np.maximum(np.abs(limits[bound]), 1e-6 * np.sum([np.abs(cost).max(axis=0) for cost in of_kept], axis=0))
    return _Problem(
        owner=np.repeat(np.arange(len(loss)), [len(rows) for rows in kept]),
        place=np.concatenate(kept),
        loss=np.concatenate([values[rows] for values, rows in zip(loss, kept, strict=True)]),
        costs=np.concatenate(of_kept) / scale,
        limits=limits[bound] / scale,
    )


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Choices of all units in turn: ``owner``, ``place`` and ``loss`` of each, ``costs [choices, metrics]``."""

    owner: Picks
    place: Picks
    loss: Floats
    costs: Floats
    limits: Floats

    @cached_property
    def starts(self) -> Picks:
        """Of each unit, its first choice."""
        found: Picks = np.flatnonzero(np.diff(self.owner, prepend=-1))
        return found

    def undominated(self, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """The kept choices that no other of their unit beats: none loses and costs as little in everything.

        Of equal ones the first stays.
        """
        places = np.flatnonzero(kept)
        one, other = _pairs(np.unique(self.owner[places], return_counts=True)[1])
        no_worse, wins = np.ones(len(one), dtype=bool), one < other
        for values in (self.loss[places], *self.costs[places].T):
            first, second = values[one], values[other]
            no_worse &= first <= second
            wins |= first < second
        found = kept.copy()
        found[places[other[no_worse & wins]]] = False
        return found

    def listed(
        self, added: Floats, kept: npt.NDArray[np.bool_], most: float, rows: int
    ) -> tuple[list[int] | None, bool]:
        """The best selection of the kept choices that add at most ``most`` together; and whether all were looked at.

        Unit by unit, at most so many rows of partial selections: those that add least. What cannot meet a limit any
        more is left out.
        """
        ends = [*self.starts[1:].tolist(), len(self.owner)]
        units = [np.flatnonzero(kept[start:end]) + start for start, end in zip(self.starts, ends, strict=True)]
        if not all(map(len, units)):
            return None, True
        room = self.limits + _TOLERANCE - np.cumsum([self.costs[at].min(axis=0) for at in units[::-1]], axis=0)[::-1]
        room = np.vstack([room[1:], self.limits + _TOLERANCE])  # for a unit and those before it
        total, cost, is_all = np.zeros(1), np.zeros((1, len(self.limits))), True
        steps: list[tuple[Picks, Picks]] = []
        for at, left in zip(units, room, strict=True):
            sums = total[:, None] + added[at]
            costs = cost[:, None, :] + self.costs[at]
            parents, choices = np.nonzero((sums <= most) & (costs <= left).all(axis=2))
            if len(parents) > rows:
                kept_rows = np.argpartition(sums[parents, choices], rows)[:rows]
                parents, choices, is_all = parents[kept_rows], choices[kept_rows], False
            total, cost = sums[parents, choices], costs[parents, choices]
            steps.append((parents, at[choices]))
        if not len(total):
            return None, is_all
        row = int(np.argmin(self._losses(steps)))
        found = []
        for parents, chosen in reversed(steps):
            found.append(int(chosen[row]))
            row = int(parents[row])
        return [at - int(start) for at, start in zip(reversed(found), self.starts, strict=True)], is_all

    def _losses(self, steps: Sequence[tuple[Picks, Picks]]) -> Floats:
        found = np.zeros(1)
        for parents, chosen in steps:
            found = found[parents] + self.loss[chosen]
        return found

    def cut(self, kept: npt.NDArray[np.bool_], relative_gap: float, limit_s: float) -> tuple[list[int] | None, bool]:
        """The best selection of the kept choices by branch and cut, and whether it is surely that."""
        owner, costs, loss = self.owner[kept], self.costs[kept], self.loss[kept]
        one_each = coo_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
        constraints = [LinearConstraint(one_each, 1, 1)]
        if len(self.limits):
            constraints.append(LinearConstraint(costs.T, -np.inf, self.limits + _TOLERANCE))
        result = milp(
            loss / (float(np.abs(loss).max()) or 1.0),
            integrality=np.ones(len(loss)),
            bounds=(0, 1),
            constraints=constraints,
            options={"time_limit": limit_s, "mip_rel_gap": relative_gap, **_OPTIONS},
        )
        if result.x is None:
            return None, bool(result.status == _INFEASIBLE)
        places = np.flatnonzero(kept) - self.starts[owner]
        firsts = np.flatnonzero(np.diff(owner, prepend=-1))[1:]
        picked = [int(place[np.argmax(part)]) for place, part in
                  zip(np.split(places, firsts), np.split(result.x, firsts), strict=True)]  # fmt: skip
        return picked, bool(result.status == 0)

    def picks(self, places: Sequence[int]) -> Picks:
        """A selection as those know it who posed the problem."""
        found: Picks = self.place[self.starts + np.asarray(places)]
        return found

    def loss_of(self, places: Sequence[int]) -> float:
        """The sum of a selection."""
        return float(self.loss[self.starts + np.asarray(places)].sum())
