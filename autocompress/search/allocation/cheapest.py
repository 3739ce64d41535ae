"""The selections that cost least: how far down a network's parts go at all."""

import numpy as np
import numpy.typing as npt

from autocompress.search.allocation.costs import CostModel

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]

MOST_PASSES = 4
_SHARPNESS = 8  # of the norm that stands for the largest share: a change that lowers another one still shows


def cheapest(model: CostModel, limits: Floats) -> Picks:
    """The selection whose largest cost, each a share of its limit, is least; one unit after another is set to that.

    Args:
        model: of the costs.
        limits: of the model's metrics, infinite for those that do not count. At least one must be finite.
    """
    picks = np.zeros(len(model.n_choices), dtype=np.intp)
    for _ in range(MOST_PASSES):
        before = picks.copy()
        for unit, count in enumerate(model.n_choices):
            if count == 1:
                continue
            changes = np.array([(unit, place) for place in range(count)])
            picks[unit] = int(np.argmin(_height(model.changed(picks, changes), limits)))
        if np.array_equal(picks, before):
            break
    return picks


def _height(costs: Floats, limits: Floats) -> Floats:
    found: Floats = ((costs / limits) ** _SHARPNESS).sum(axis=1)
    return found
