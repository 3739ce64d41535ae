"""The area that points of two objectives dominate, both to be maximized; exact."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class _Stairs(NamedTuple):
    """A front from right to left: between ``left`` and ``right`` of the first objective, the second reaches ``top``."""

    left: Array
    right: Array
    top: Array


def front(points: Array) -> NDArray[np.intp]:
    """Places of the points ``[n, 2]`` that no other dominates, by falling first objective; of equals the first."""
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    second = points[order, 1]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(second)])[:-1]
    return np.asarray(order[second > before], dtype=np.intp)


def hypervolume(points: Array, reference: Array) -> float:
    """The area between ``points [n, 2]`` and ``reference [2]``; what does not exceed the reference adds nothing."""
    left, right, top = _stairs(points, reference)
    return float((right - left)[1:] @ (top - reference[1])[1:])


def gains(points: Array, reference: Array, new: Array) -> Array:
    """By how much each of ``new [m, 2]`` alone would enlarge the hypervolume of ``points [n, 2]``."""
    left, right, top = _stairs(points, reference)
    width = np.clip(np.minimum(new[:, :1], right) - left, 0.0, None)
    height = np.clip(new[:, 1:] - top, 0.0, None)
    return np.asarray(np.einsum("ij,ij->i", width, height))


def _stairs(points: Array, reference: Array) -> _Stairs:
    """The first stair is the ground right of all points."""
    inside = points[(points > reference).all(axis=1)]
    first, second = inside[front(inside)].T
    return _Stairs(
        left=np.append(first, reference[0]),
        right=np.concatenate([[np.inf], first]),
        top=np.concatenate([[reference[1]], second]),
    )
