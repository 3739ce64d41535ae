import numpy as np
import pytest

from autocompress.search.surrogate import Features, Kernel, default_kernel, evidence, fit, fitted_kernel

MIXED = Features(choices=(5, 0, 3, 0))
CHOICES = Features(choices=(4,) * 5)


def drawn(features: Features, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(c, size=count) if c else rng.random(count) for c in features.choices]
    return np.column_stack(columns).astype(float)


def correlation(features: Features, score, count: int) -> float:
    """Between the score of new configurations and what is expected of them."""
    known, new = drawn(features, count), drawn(features, 300, seed=1)
    return float(np.corrcoef(fit(features, known, score(known)).of(new)[0], score(new))[0, 1])


def additive(codes: np.ndarray) -> np.ndarray:
    effects = np.random.default_rng(7).normal(size=(5, 4))
    return effects[np.arange(5), codes.astype(int)].sum(axis=1)


def pairwise(codes: np.ndarray) -> np.ndarray:
    effects = np.random.default_rng(8).normal(size=(4, 4))
    return effects[codes[:, 0].astype(int), codes[:, 1].astype(int)]


def smooth(codes: np.ndarray) -> np.ndarray:
    return np.sin(4 * codes[:, 1]) + np.where(codes[:, 2] == 1, codes[:, 3], -codes[:, 3])


def test_the_evidence_has_the_gradient_that_it_says():
    codes = drawn(MIXED, 25)
    features, owners = MIXED.of(codes), MIXED.owners()
    scores, at = np.random.default_rng(3).normal(size=25), np.random.default_rng(4).normal(size=8)

    def value(place: np.ndarray) -> float:
        return evidence(Kernel(relevance=place[:4], variance=place[4:]), features, owners, scores)[0]

    _, slope = evidence(Kernel(relevance=at[:4], variance=at[4:]), features, owners, scores)
    steps = 1e-5 * np.eye(8)
    differences = [(value(at + step) - value(at - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(slope, differences, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("features", "score", "count", "least"),
    [(CHOICES, additive, 40, 0.97), (CHOICES, pairwise, 60, 0.95), (MIXED, smooth, 60, 0.97)],
)
def test_what_adds_up_what_interacts_and_what_bends_is_learned(features, score, count, least):
    assert correlation(features, score, count) > least


def test_evidence_finds_the_parameters_that_matter():
    codes = drawn(CHOICES, 60)
    relevance = fitted_kernel(CHOICES, codes, pairwise(codes)).relevance
    assert relevance[:2].min() > relevance[2:].max()


def test_means_and_deviations_are_those_of_the_regression_formula():
    """Rasmussen & Williams 2006, eq. 2.25 and 2.26."""
    known, new, kernel = drawn(MIXED, 12), drawn(MIXED, 5, seed=1), default_kernel(4)
    scores = smooth(known)
    unit = (scores - scores.mean()) / scores.std()
    left, right = (kernel.weighted(MIXED.of(codes), MIXED.owners()) for codes in (known, new))
    inverse = np.linalg.inv(kernel.of(left @ left.T) + kernel.noise * np.eye(12))
    cross = kernel.of(right @ left.T)
    mean, std = fit(MIXED, known, scores, kernel=kernel).of(new)
    np.testing.assert_allclose(mean, scores.mean() + scores.std() * cross @ inverse @ unit)
    np.testing.assert_allclose((std / scores.std()) ** 2, kernel.most - np.diag(cross @ inverse @ cross.T))


def test_belief_in_pending_ones_keeps_means_and_takes_doubt():
    known, pending = drawn(MIXED, 20), drawn(MIXED, 4, seed=1)
    before = fit(MIXED, known, smooth(known))
    after = before.believing(pending)
    new = drawn(MIXED, 30, seed=2)
    np.testing.assert_allclose(after.of(new)[0], before.of(new)[0], atol=1e-6)
    assert (after.of(pending)[1] < 0.8 * before.of(pending)[1]).all()


def test_equal_scores_are_no_trouble():
    known = drawn(MIXED, 10)
    mean, std = fit(MIXED, known, np.full(10, 0.5)).of(known)
    np.testing.assert_allclose(mean, 0.5)
    assert np.isfinite(std).all()
