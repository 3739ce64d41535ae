"""Trees as arrays answer what scikit-learn's do."""

import base64
import json
import zlib

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from autocompress.hardware.predictor.forest import LEAST_LEAF, Forest, grow


def drawn(n: int = 120, d: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((n, d)).astype(np.float32)
    return features, np.sin(features[:, 0]) + features[:, 1] ** 2, rng.uniform(0.5, 2, n)


@pytest.fixture(scope="module")
def forest() -> Forest:
    return grow(*drawn(), trees=5, seed=3)


def test_each_tree_answers_as_scikit_learns_does(forest):
    features, target, weight = drawn()
    theirs = ExtraTreesRegressor(5, min_samples_leaf=LEAST_LEAF, random_state=3)
    theirs.fit(features, target, sample_weight=weight)
    new = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    expected = np.column_stack([tree.predict(new) for tree in theirs.estimators_])
    np.testing.assert_array_equal(forest.answers(new), expected.astype(np.float32))


def test_rows_that_count_nothing_are_not_learned_from():
    features, target, weight = drawn()
    spoiled, ignored = target.copy(), weight.copy()
    spoiled[::2], ignored[::2] = 1e3, 0.0
    assert grow(features, spoiled, ignored, trees=3).answers(features).max() < 100


def test_a_forest_comes_back_from_json_as_it_was(forest):
    back = Forest.from_data(json.loads(json.dumps(forest.to_data())))
    for name in ("roots", "feature", "threshold", "left", "right", "value"):
        np.testing.assert_array_equal(getattr(back, name), getattr(forest, name))


def packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda forest: {"value": packed(forest.value[:-1])},
        lambda forest: {"left": packed(np.where(forest.left > 0, len(forest.left), 0).astype("<i4"))},
        lambda forest: {"right": packed(-forest.right - 1)},
        lambda forest: {"roots": packed(forest.roots + len(forest.value))},
        lambda forest: {"feature": packed(np.zeros_like(forest.feature))},
        lambda forest: {"left": packed(np.zeros_like(forest.left))},
        lambda forest: {"threshold": packed(forest.threshold)[:40]},
        lambda _: {"threshold": "no base64"},
    ],
    ids=["too short", "beyond the end", "before the start", "roots", "no leaf", "circle", "cut off", "no text"],
)
def test_damaged_arrays_are_refused(forest, damage):
    with pytest.raises(ValueError, match="a forest's arrays must belong together, these do not"):
        Forest.from_data({**forest.to_data(), **damage(forest)})
