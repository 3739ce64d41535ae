"""How much a configuration is worth trying, from what is believed of its score.

Beliefs are normal on the scale of ``NormalScores``: values are replaced by the normal quantiles of their ranks, so that
a few broken configurations far below the rest do not set the scale on which good ones are told apart.

Source: Jones et al. 1998 (expected improvement); Ament et al. 2023, https://arxiv.org/abs/2310.20708 (its logarithm);
Emmerich et al. 2006 (expected hypervolume improvement).
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import special

from autocompress.search.hypervolume import gains

Array = NDArray[np.float64]

# Gauss-Hermite nodes and weights of a standard normal: 7 follow an improvement of up to 2.4 standard deviations.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_WEIGHTS /= _WEIGHTS.sum()
TAIL = 0.5  # share of the better values whose slope carries the scale on beyond the best
LEAST = 1e-300  # of a gain, so that its logarithm is a number


class NormalScores:
    """The scale on which ``values [n]`` are normal by their ranks."""

    def __init__(self, values: Array) -> None:
        self._values, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - 0.5 * counts
        normal = NormalDist()
        self._scores = np.array([normal.inv_cdf(rank / len(values)) for rank in middle])
        self.of_values: Array = self._scores[inverse]

    def values_of(self, scores: Array) -> Array:
        """Back to values: straight lines between known ones, and beyond the best on the slope of the better half."""
        found = np.interp(scores, self._scores, self._values)
        if len(self._values) == 1:
            return np.asarray(found)
        start = min(int(len(self._values) * (1 - TAIL)), len(self._values) - 2)
        rise = (self._values[-1] - self._values[start]) / (self._scores[-1] - self._scores[start])
        return np.asarray(found + rise * np.clip(scores - self._scores[-1], 0.0, None))


def log_improvement(mean: Array, std: Array, best: float) -> Array:
    """Logarithm of the expected improvement on ``best``, exact far into the tail."""
    z = (mean - best) / std
    below = np.minimum(z, 0.0)
    ratio = np.sqrt(np.pi / 2) * special.erfcx(-below / np.sqrt(2))
    left = np.log(np.maximum(1.0 + below * ratio, LEAST)) - 0.5 * below**2
    above = np.maximum(z, 0.0)
    right = np.log(np.exp(-0.5 * above**2) + above * special.ndtr(above) * np.sqrt(2 * np.pi))
    return np.asarray(np.where(z < 0, left, right) + np.log(std))


def log_feasible(mean: Array, std: Array) -> Array:
    """Logarithm of the probability that a violation is at most 0."""
    return np.asarray(special.log_ndtr(-mean / std))


def levels(scale: NormalScores, mean: Array, std: Array) -> Array:
    """Values ``[n, 7]`` that stand for a belief, to be weighted as ``log_gain`` does."""
    return scale.values_of(mean[:, None] + std[:, None] * _NODES)


def log_gain(first: Array, second: Array, points: Array, reference: Array) -> Array:
    """Logarithm of the expected growth of a hypervolume, for independent beliefs of two objectives to be maximized.

    Args:
        first: ``[n, 7]`` from ``levels``, or ``[n, 1]`` for an objective that is known.
        second: the same of the second objective.
        points: ``[m, 2]``, known ones.
        reference: ``[2]``, from where on a value counts.
    """
    total = np.zeros(len(first))
    highest = np.column_stack([first.max(axis=1), second.max(axis=1)])
    rows = np.flatnonzero(gains(points, reference, highest) > 0)  # the others gain nothing at any level
    for i, share in enumerate(_weights(first)):
        for j, other in enumerate(_weights(second)):
            new = np.column_stack([first[rows, i], second[rows, j]])
            total[rows] += share * other * gains(points, reference, new)
    return np.asarray(np.log(np.maximum(total, LEAST)))


def _weights(values: Array) -> Sequence[float]:
    return [float(weight) for weight in _WEIGHTS] if values.shape[1] > 1 else [1.0]
