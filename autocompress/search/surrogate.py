"""A score over discrete and continuous parameters, learned from few values: an exact Gaussian process.

Its kernel is the sum of an additive, a pairwise and a product term over the same relevance-weighted similarity of two
configurations. The evidence (marginal likelihood) decides how much each term explains, which parameters matter, and
how noisy the values are; so where effects just add up it is a Bayesian ridge regression on one-hot choices, and where
they do not, it bends.

Source: Duvenaud et al. 2011 (additive Gaussian processes), https://arxiv.org/abs/1112.4394; Rasmussen & Williams 2006,
ch. 5 (evidence and its gradient). Our pairwise term is the square of the additive one, not a sum over distinct pairs:
one matrix product serves all terms.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KNOTS = 7  # of a continuous parameter
REACH = 0.35  # of its range over which values are alike
EVIDENCE_ROWS = 200  # at most that decide the kernel; all decide the prediction
STEPS = 40  # of the evidence's ascent; later ones change its value by less than noise does
# Priors of the kernel's logarithms: relevances, then additive, pairwise, product and noise variance (of unit scores).
RELEVANCE_PRIOR = (np.log(0.3), 1.2)
VARIANCE_PRIOR = ((np.log(1.0), 1.5), (np.log(0.5), 1.5), (np.log(0.5), 1.5), (np.log(1e-2), 2.0))
JITTER = 1e-6


@dataclass(frozen=True, kw_only=True)
class Features:
    """Similarity of configurations as an inner product: one-hot for choices, a smooth kernel's features for numbers.

    A configuration is a row of codes: the index of a choice, or a number's place in its range (0 to 1). ``choices``
    has a parameter's count of choices, 0 for a number.
    """

    choices: tuple[int, ...]

    def of(self, codes: Array) -> Array:
        """``[n, features]``; the columns of every parameter have unit length."""
        numbers = iter(_smooth(codes[:, [not count for count in self.choices]]))
        columns = [
            codes[:, at, None] == np.arange(count) if count else next(numbers) for at, count in enumerate(self.choices)
        ]
        return np.hstack(columns, dtype=np.float64)

    def owners(self) -> NDArray[np.intp]:
        """The parameter that each feature belongs to."""
        return np.repeat(np.arange(len(self.choices)), [count or KNOTS for count in self.choices])


def _smooth(numbers: Array) -> Array:
    """``[n, numbers]`` → ``[numbers, n, KNOTS]``, of unit length."""
    found = _alike(numbers.T[..., None], _KNOTS) @ _WHITENED
    return np.asarray(found / np.linalg.norm(found, axis=2, keepdims=True))


def _alike(left: Array, right: Array) -> Array:
    return np.exp(-0.5 * ((left - right) / REACH) ** 2)


_KNOTS: Array = np.linspace(0.0, 1.0, KNOTS)
_VALUES, _VECTORS = np.linalg.eigh(_alike(_KNOTS[:, None], _KNOTS))
_WHITENED: Array = _VECTORS / np.sqrt(np.maximum(_VALUES, 1e-9))


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Logarithms of relevances ``[parameters]`` and of variances: additive, pairwise, product, noise."""

    relevance: Array
    variance: Array

    def weighted(self, features: Array, owners: NDArray[np.intp]) -> Array:
        """Features whose inner product is the weighted similarity, at most 1."""
        weights = np.exp(self.relevance)
        return np.asarray(features * np.sqrt(weights / weights.sum())[owners])

    def of(self, similarity: Array) -> Array:
        """Covariance without noise, for similarities of 0 to 1."""
        additive, pairwise, product, _ = np.exp(self.variance)
        reach = np.exp(self.relevance).sum()
        found = reach * similarity
        found += np.log(product) - reach
        np.exp(found, out=found)
        added = pairwise * similarity
        added += additive
        added *= similarity
        found += added
        return np.asarray(found)

    @property
    def most(self) -> float:
        """A configuration's own variance, without noise."""
        return float(np.exp(self.variance[:3]).sum())

    @property
    def noise(self) -> float:
        """Variance of a value about the score."""
        return float(np.exp(self.variance[3])) + JITTER


def default_kernel(parameters: int) -> Kernel:
    """Before anything is known: the middle of the priors."""
    return Kernel(
        relevance=np.full(parameters, RELEVANCE_PRIOR[0]), variance=np.array([mean for mean, _ in VARIANCE_PRIOR])
    )


def evidence(kernel: Kernel, features: Array, owners: NDArray[np.intp], scores: Array) -> tuple[float, Array]:
    """Logarithm of the kernel's posterior (up to a constant), and its gradient: relevances first, then variances."""
    additive, pairwise, product, noise = np.exp(kernel.variance)
    weights = np.exp(kernel.relevance)
    weighted = kernel.weighted(features, owners)
    similarity = weighted @ weighted.T
    joint = product * np.exp(weights.sum() * (similarity - 1.0))
    covariance = similarity * (additive + pairwise * similarity) + joint
    covariance[np.diag_indices_from(covariance)] += kernel.noise
    factor = np.linalg.cholesky(covariance)
    inverse_factor = np.linalg.inv(factor)
    inverse = inverse_factor.T @ inverse_factor
    solved = inverse @ scores
    value = -0.5 * scores @ solved - np.log(np.diag(factor)).sum()
    slope = 0.5 * (np.outer(solved, solved) - inverse)
    summed = slope * (additive + 2.0 * pairwise * similarity) / weights.sum()
    joined = slope * joint
    each = np.bincount(owners, weights=(features * ((summed + joined) @ features)).sum(axis=0), minlength=weights.size)
    by_relevance = weights * (each - (summed * similarity).sum() - joined.sum())
    by_variance = np.array(
        [
            additive * (slope * similarity).sum(),
            pairwise * (slope * similarity**2).sum(),
            joined.sum(),
            noise * np.trace(slope),
        ]
    )
    off, by_prior = _prior(kernel)
    return float(value + off), np.concatenate([by_relevance, by_variance]) + by_prior


def _prior(kernel: Kernel) -> tuple[float, Array]:
    at = np.concatenate([kernel.relevance, kernel.variance])
    priors = [RELEVANCE_PRIOR] * kernel.relevance.size + list(VARIANCE_PRIOR)
    mean, spread = np.array(priors).T
    return float(-0.5 * (((at - mean) / spread) ** 2).sum()), -(at - mean) / spread**2


def fitted_kernel(features: Features, codes: Array, scores: Array, steps: int = STEPS) -> Kernel:
    """The kernel of the highest evidence near the default, by steps whose sizes follow the gradient's signs (Rprop).

    Beyond ``EVIDENCE_ROWS`` configurations, so many spread over all decide.
    """
    rows = np.unique(np.linspace(0, len(codes) - 1, min(len(codes), EVIDENCE_ROWS)).round().astype(np.intp))
    return _ascent(features.of(codes[rows]), features.owners(), _unit(scores[rows])[0], steps)


def _unit(scores: Array) -> tuple[Array, float, float]:
    """Scores of mean 0 and variance 1, and what their mean and standard deviation were."""
    mean, scale = float(scores.mean()), float(scores.std()) or 1.0
    return (scores - mean) / scale, mean, scale


def _ascent(features: Array, owners: NDArray[np.intp], scores: Array, steps: int) -> Kernel:
    kernel = best = default_kernel(int(owners.max()) + 1)
    value, slope = evidence(kernel, features, owners, scores)
    highest = value
    size, before = np.full(slope.size, 0.2), slope
    for _ in range(steps):
        turned = slope * before < 0
        size = np.clip(np.where(turned, 0.5 * size, 1.2 * size), 1e-3, 0.7)
        before = np.where(turned, 0.0, slope)
        step = size * np.sign(before)
        kernel = Kernel(
            relevance=np.clip(kernel.relevance + step[:-4], -8, 4),
            variance=np.clip(kernel.variance + step[-4:], -14, 5),
        )
        value, slope = evidence(kernel, features, owners, scores)
        if value > highest:
            best, highest = kernel, value
    return best


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """What is known of a score after some values: ``scores [n]`` at ``codes [n, parameters]``."""

    features: Features
    kernel: Kernel
    codes: Array
    scores: Array
    mean: float
    scale: float
    seen: Array
    solved: Array
    inverse_factor: Array

    def of(self, codes: Array) -> tuple[Array, Array]:
        """Mean and standard deviation ``[n]`` of the score (without noise) of configurations."""
        cross = self.kernel.of(self._weighted(codes) @ self.seen.T)
        mean = self.mean + self.scale * (cross @ self.solved)
        spread = cross @ self.inverse_factor.T
        variance = self.kernel.most - np.einsum("ij,ij->i", spread, spread)
        return mean, self.scale * np.sqrt(np.maximum(variance, JITTER))

    def believing(self, codes: Array) -> "Surrogate":
        """As if ``codes`` had come out as expected: expectations stay, doubt near them goes."""
        expected, _ = self.of(codes)
        scores, all_codes = np.concatenate([self.scores, expected]), np.vstack([self.codes, codes])
        return _conditioned(self.features, self.kernel, all_codes, scores, mean=self.mean, scale=self.scale)

    def _weighted(self, codes: Array) -> Array:
        return self.kernel.weighted(self.features.of(codes), self.features.owners())


def fit(features: Features, codes: Array, scores: Array, *, kernel: Kernel | None = None) -> Surrogate:
    """A surrogate of ``scores [n]`` at ``codes [n, parameters]``; ``kernel`` spares the search for one."""
    if kernel is None:
        kernel = fitted_kernel(features, codes, scores)
    _, mean, scale = _unit(scores)
    return _conditioned(features, kernel, codes, scores, mean=mean, scale=scale)


def _conditioned(
    features: Features, kernel: Kernel, codes: Array, scores: Array, *, mean: float, scale: float
) -> Surrogate:
    weighted = kernel.weighted(features.of(codes), features.owners())
    covariance = kernel.of(weighted @ weighted.T)
    covariance[np.diag_indices_from(covariance)] += kernel.noise
    inverse_factor = np.linalg.inv(np.linalg.cholesky(covariance))
    return Surrogate(
        features=features,
        kernel=kernel,
        codes=codes,
        scores=scores,
        mean=mean,
        scale=scale,
        seen=weighted,
        solved=inverse_factor.T @ (inverse_factor @ ((scores - mean) / scale)),
        inverse_factor=inverse_factor,
    )
