"""How little a network and its students can cost, by calculation alone: nothing is built for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autocompress.budget import Metric
from autocompress.search.allocation.cheapest import cheapest
from autocompress.search.allocation.costs import CostModel
from autocompress.search.student_arms import StudentArms


@dataclass(frozen=True, kw_only=True)
class Least:
    """Estimated costs: the least of each metric ``alone``, and ``together`` those that come nearest to all limits.

    ``selections`` of the network's parts that have them, the one for all limits first.
    """

    alone: dict[Metric, float]
    together: dict[Metric, float]
    selections: tuple[tuple[int, ...], ...] = ()


def least_costs(model: CostModel, students: StudentArms | None, limits: Mapping[Metric, float]) -> Least:
    """Of the selections of ``model`` and of the students' members; limits of metrics without a cost are left out."""
    known = {metric: limit for metric, limit in limits.items() if metric in model.metrics} or {Metric.SIZE: 1.0}
    picks = {metric: _selection(model, {metric: 1.0}) for metric in known}
    nearest = _selection(model, known)
    found = [_costs(model, nearest)] + [_costs(model, each) for each in picks.values()]
    if students is not None:
        found += students.estimates()
    return Least(
        alone={metric: min(costs[metric] for costs in found) for metric in known},
        together=min(found, key=lambda costs: max(costs[metric] / limit for metric, limit in known.items())),
        selections=tuple(dict.fromkeys([nearest, *picks.values()])),
    )


def _selection(model: CostModel, limits: Mapping[Metric, float]) -> tuple[int, ...]:
    return tuple(cheapest(model, model.bounds(limits)).tolist())


def _costs(model: CostModel, picks: tuple[int, ...]) -> dict[Metric, float]:
    (row,) = model.costs(np.array([picks]))
    return dict(zip(model.metrics, row.tolist(), strict=True))
