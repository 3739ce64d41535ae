"""Splits that the data does not bring are cut from train."""

from dataclasses import replace

import numpy as np

from autocompress.data.loaded import Loaded
from autocompress.errors import DataError
from autocompress.task import Array

SHARE = 0.15  # of every class, for each split that is missing


def with_all_splits(loaded: Loaded, *, seed: int) -> Loaded:
    """A copy with val and test; what is missing is drawn from train at random, class by class, and noted.

    Needs class numbers as targets. Every class gives ``SHARE`` of its samples, and at least one, to each split.

    Raises:
        DataError: a class has too few samples to be in every split.
    """
    missing = [name for name, split in (("val", loaded.val), ("test", loaded.test)) if split is None]
    if not missing:
        return loaded
    kept, *cuts = _cut(loaded.train.targets, len(missing), loaded.class_names, seed)
    made = {name: loaded.train.take(index) for name, index in zip(missing, cuts, strict=True)}
    notes = tuple(
        f"{name} was cut from train: {len(split)} of {len(loaded.train)} samples ({SHARE:.0%} of every class, "
        f"stratified, seed {seed})"
        for name, split in made.items()
    )
    return replace(
        loaded,
        train=loaded.train.take(kept),
        val=made.get("val", loaded.val),
        test=made.get("test", loaded.test),
        notes=loaded.notes + notes,
    )


def _cut(labels: Array, n_cuts: int, class_names: tuple[str, ...], seed: int) -> list[Array]:
    """What is kept and ``n_cuts`` disjoint cuts, as sorted indices."""
    rng = np.random.default_rng(seed)
    parts: list[list[Array]] = [[] for _ in range(n_cuts + 1)]
    for number in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == number))
        if len(members) <= n_cuts:
            raise DataError(
                f"cutting {n_cuts} missing split{'s' if n_cuts > 1 else ''} from train needs at least {n_cuts + 1} "
                f"samples in every class; class {class_names[number]!r} has {len(members)}; add samples, or bring val "
                "and test yourself"
            )
        size = max(1, round(SHARE * len(members)))
        for k in range(n_cuts):
            parts[k + 1].append(members[k * size : (k + 1) * size])
        parts[0].append(members[n_cuts * size :])
    return [np.sort(np.concatenate(part)) for part in parts]
