"""Regression trees as plain arrays: grown by scikit-learn, kept as numbers, asked without it."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
TREES = 40
LEAST_LEAF = 2
_KINDS = {"roots": "<i4", "feature": "<i2", "threshold": "<f4", "left": "<i4", "right": "<i4", "value": "<f4"}


@dataclass(frozen=True)
class Forest:
    """Trees one behind the other: ``roots [trees]``, everything else ``[nodes]``; a leaf's ``feature`` is negative."""

    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int16]
    threshold: npt.NDArray[np.float32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: npt.NDArray[np.float32]

    def answers(self, features: Floats) -> Floats:
        """What each tree says of each row: ``[n, trees]``, of ``features [n, d]``."""
        rows = np.asarray(features, np.float32)
        at = np.repeat(self.roots[None], len(rows), axis=0)
        which = np.arange(len(rows))[:, None]
        inner = self.feature[at] >= 0
        while inner.any():
            goes_left = rows[which, np.maximum(self.feature[at], 0)] <= self.threshold[at]
            at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)
            inner = self.feature[at] >= 0
        return self.value[at]

    def to_data(self) -> dict[str, str]:
        """The arrays as text; ``from_data`` gives an equal forest back."""
        return {
            name: base64.b64encode(zlib.compress(getattr(self, name).astype(kind).tobytes(), 1)).decode()
            for name, kind in _KINDS.items()
        }

    @classmethod
    def from_data(cls, data: Mapping[str, str]) -> "Forest":
        """The forest that ``to_data`` wrote.

        Raises:
            ValueError: the arrays are damaged or point outside themselves.
        """
        arrays = {
            name: np.frombuffer(zlib.decompress(base64.b64decode(data[name])), kind) for name, kind in _KINDS.items()
        }
        nodes = len(arrays["feature"])
        pointers = np.concatenate([arrays["roots"], arrays["left"], arrays["right"]])
        lengths = {len(arrays[name]) for name in _KINDS if name != "roots"}
        if lengths != {nodes} or (pointers >= nodes).any() or not (arrays["feature"] < 0).any():
            raise ValueError("a forest's arrays must belong together, these do not")
        return cls(**arrays)


def grow(features: Floats, target: Floats, weight: Floats, trees: int = TREES, *, seed: int = 0) -> Forest:
    """Extremely randomized trees.

    Args:
        features: ``[n, d]``.
        target: ``[n]``.
        weight: ``[n]``, how much each row counts.
        trees: how many; the forest grows with them.
        seed: of the random splits.

    Source:
        Geurts et al. 2006, https://doi.org/10.1007/s10994-006-6226-1
    """
    from sklearn.ensemble import ExtraTreesRegressor  # noqa: PLC0415 - a second that only fitting needs

    grown = ExtraTreesRegressor(trees, min_samples_leaf=LEAST_LEAF, random_state=seed)
    grown.fit(np.asarray(features, np.float32), target, sample_weight=weight)
    each_tree = [each.tree_ for each in grown.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in each_tree[:-1])])
    return Forest(
        roots=roots.astype(np.int32),
        feature=np.concatenate([tree.feature for tree in each_tree]).astype(np.int16),
        threshold=np.concatenate([tree.threshold for tree in each_tree]).astype(np.float32),
        left=_joined([tree.children_left for tree in each_tree], roots),
        right=_joined([tree.children_right for tree in each_tree], roots),
        value=np.concatenate([tree.value[:, 0, 0] for tree in each_tree]).astype(np.float32),
    )


def _joined(children: Sequence[npt.NDArray[np.int64]], roots: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Children of all trees, counted from the first node of the first tree; 0 for leaves, which have none."""
    shifted = [np.where(each < 0, 0, each + root) for each, root in zip(children, roots, strict=True)]
    return np.concatenate(shifted).astype(np.int32)
