"""The recipe that loses least by the table within every budget, costs as they are when units change together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autocompress.budget import Metric
from autocompress.graph.units import Unit
from autocompress.search.allocation.choices import Choice
from autocompress.search.allocation.costs import CostModel
from autocompress.search.allocation.exchange import fits, repair, spend
from autocompress.search.allocation.solve import Relaxed, Solution, relaxed

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]

MOST_ROUNDS = 6
SOLVER_S = 0.25  # its costs are linear around a selection, so that exactness is for the last digits
SOLVER_GAP = 0.02
_LEAST_GAIN = 1e-2  # of the loss, for which another round is taken


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """``picks``: places in the choices of each unit. ``costs`` are upper ends."""

    picks: tuple[int, ...]
    loss: float
    costs: Mapping[Metric, float]

    def choices(self, of_units: Sequence[Sequence[Choice]]) -> dict[int, Choice]:
        """As ``values_of`` takes them."""
        return {unit: of_units[unit][place] for unit, place in enumerate(self.picks)}


@dataclass
class Allocator:
    """``loss``: of each unit, what its choices lose; see ``SensitivityTable.loss``."""

    units: Sequence[Unit]
    choices: Sequence[Sequence[Choice]]
    loss: Sequence[Sequence[float]]
    model: CostModel

    def allocate(
        self,
        limits: Mapping[Metric, float],
        coefficients: Sequence[Floats] | None = None,
        forbid: Sequence[Sequence[bool]] | None = None,
        start: Sequence[int] | None = None,
    ) -> Allocation | None:
        """The selection of least loss whose costs all meet their limits; None where none was found.

        Args:
            limits: in each metric's own unit.
            coefficients: of each unit and choice, what its loss is multiplied by.
            forbid: True for the choices that must not be picked.
            start: a selection to begin with, such as that of a like budget; by default the one that loses least.

        Raises:
            ValueError: a limit of a metric that the costs do not have; a unit all of whose choices are forbidden.
        """
        unknown = limits.keys() - set(self.model.metrics)
        if unknown:
            raise ValueError(
                f"limits are of {', '.join(self.model.metrics)}, got one of {', '.join(sorted(unknown))}; "
                "leave what only a file shows to the check of the file"
            )
        loss = self._weighted(coefficients, forbid)
        first = None if start is None else np.array(start, dtype=np.intp)
        found = allocate(loss, self.model, self.model.bounds(limits), first)
        if found is None:
            return None
        costs = dict(zip(self.model.metrics, found.costs.tolist(), strict=True))
        return Allocation(picks=tuple(found.picks.tolist()), loss=found.loss, costs=costs)

    def _weighted(self, coefficients: Sequence[Floats] | None, forbid: Sequence[Sequence[bool]] | None) -> list[Floats]:
        found = [np.array(values, dtype=np.float64) for values in self.loss]
        if coefficients is not None:
            found = [values * factors for values, factors in zip(found, coefficients, strict=True)]
        if forbid is not None:
            found = [np.where(np.asarray(mask), np.inf, values) for values, mask in zip(found, forbid, strict=True)]
        for unit, values in zip(self.units, found, strict=True):
            if not np.isfinite(values).any():
                raise ValueError(f"each unit needs a choice that is allowed, {unit.name} has none; forbid fewer")
        return found


def allocate(loss: Sequence[Floats], model: CostModel, limits: Floats, start: Picks | None = None) -> Solution | None:
    """Solve with costs that are linear around a selection, look what the solution really costs, and go on from there.

    ``optimal`` of the answer is never set: the costs are not sums.

    Raises:
        ValueError: a unit without a choice of finite loss; a cost that is no finite number.
    """
    free = np.array([int(np.argmin(values)) for values in loss], dtype=np.intp)
    here = free if start is None else start
    best = _judged(free, loss, model, limits)
    if best is not None:
        return best  # nothing loses less
    for _ in range(MOST_ROUNDS):
        tables = model.linearized(here)
        relaxation = relaxed(loss, tables, limits)
        solved = _least_costly(loss, tables, limits) if relaxation is None else relaxation.picks
        found = _mended(solved, loss, model, limits)
        if best is not None and (found is None or found.loss >= best.loss * (1 - _LEAST_GAIN)):
            best = best if found is None else min(best, found, key=_loss)
            break
        if found is None and np.array_equal(solved, here):
            break
        best = found
        here = solved if found is None else found.picks
    if relaxation is not None and (best is None or relaxation.bound < best.loss * (1 - SOLVER_GAP)):
        best = _exactly(relaxation, loss, model, limits, best)
    return None if best is None else _judged(spend(best.picks, loss, model, limits), loss, model, limits)


def _least_costly(loss: Sequence[Floats], tables: Sequence[Floats], limits: Floats) -> Picks:
    """The choices that cost least, where none fit together."""
    bound = np.isfinite(limits)
    shares = [(table[:, bound] / limits[bound]).max(axis=1) for table in tables]
    cheapest = [
        np.where(np.isfinite(values), share, np.inf).argmin() for values, share in zip(loss, shares, strict=True)
    ]
    return np.array(cheapest, dtype=np.intp)


def _exactly(
    relaxation: Relaxed, loss: Sequence[Floats], model: CostModel, limits: Floats, best: Solution | None
) -> Solution | None:
    """The exact solution of a problem, mended; ``best`` if that loses less."""
    exact = relaxation.solved(time_limit_s=SOLVER_S, relative_gap=SOLVER_GAP)
    found = None if exact is None else _mended(exact.picks, loss, model, limits)
    return min((each for each in (best, found) if each is not None), key=_loss, default=None)


def _mended(picks: Picks, loss: Sequence[Floats], model: CostModel, limits: Floats) -> Solution | None:
    """The selection, changed where it does not fit."""
    mended = repair(picks, loss, model, limits)
    return None if mended is None else _judged(mended, loss, model, limits)


def _loss(solution: Solution) -> float:
    return solution.loss


def _judged(picks: Picks, loss: Sequence[Floats], model: CostModel, limits: Floats) -> Solution | None:
    """The selection as a solution, None where it does not fit."""
    (costs,) = model.upper(picks[None])
    if not fits(costs, limits):
        return None
    total = float(sum(values[at] for values, at in zip(loss, picks, strict=True)))
    return Solution(picks=picks, loss=total, costs=costs, optimal=False)
