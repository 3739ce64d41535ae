"""Regression trees as plain arrays: grown by scikit-learn, kept as numbers, asked without it."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
TREES = 40
LEAST_LEAF = 2
_BELONG_TOGETHER = "a forest's arrays must belong together, these do not"
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
        rows, count = np.asarray(features, np.float32), len(self.roots)
        at = np.tile(self.roots, len(rows))
        first = np.repeat(np.arange(len(rows)) * rows.shape[1], count)  # of each row among all numbers
        numbers, node = rows.ravel(), at
        feature = self.feature[node]
        active = np.flatnonzero(feature >= 0)  # those that have not reached a leaf
        node, feature = node[active], feature[active]
        while len(active):
            goes_right = numbers[first[active] + feature] > self.threshold[node]
            at[active] = node = self._children[2 * node + goes_right]
            feature = self.feature[node]
            goes_on = feature >= 0
            active, node, feature = active[goes_on], node[goes_on], feature[goes_on]
        return self.value[at].reshape(len(rows), count)

    @cached_property
    def _children(self) -> npt.NDArray[np.int32]:
        """Left and right one of each node, side by side."""
        return np.stack([self.left, self.right], axis=1).ravel()

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
        try:
            forest = cls(**{name: _unpacked(data[name], kind) for name, kind in _KINDS.items()})
        except (ValueError, zlib.error) as error:
            raise ValueError(f"{_BELONG_TOGETHER}: {error}") from error
        if not forest._ends():
            raise ValueError(_BELONG_TOGETHER)
        return forest

    def _ends(self) -> bool:
        """Whether each way through the nodes ends at a leaf: children lie behind their parents, as they are grown."""
        nodes = len(self.feature)
        if any(len(getattr(self, name)) != nodes for name in _KINDS if name != "roots"):
            return False
        inner = np.flatnonzero(self.feature >= 0)
        children = np.stack([self.left[inner], self.right[inner]])
        roots_inside = ((self.roots >= 0) & (self.roots < nodes)).all()
        return bool(roots_inside and (children > inner).all() and (children < nodes).all())


def _unpacked(text: str, kind: str) -> npt.NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)


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

    grown = ExtraTreesRegressor(trees, n_jobs=-1, min_samples_leaf=LEAST_LEAF, random_state=seed)
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
