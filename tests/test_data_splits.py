"""Cutting missing splits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists

from autocompress.data.loaded import Loaded
from autocompress.data.splits import with_all_splits
from autocompress.errors import DataError
from autocompress.task import Split


def loaded(labels, **splits):
    targets = np.array(labels, dtype=np.int64)
    names = tuple(f"c{k}" for k in range(targets.max() + 1))
    train = Split(inputs=np.arange(len(targets)), targets=targets)
    return Loaded(name="made", train=train, class_names=names, **splits)


@given(counts=lists(integers(3, 60), min_size=2, max_size=5), seed=integers(0, 9))
def test_splits_are_disjoint_complete_and_stratified(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    cut = with_all_splits(loaded(labels), seed=seed)
    parts = [split.inputs for _, split in cut.present()]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for _, split in cut.present():
        np.testing.assert_array_equal(split.targets, labels[split.inputs])
    for number, count in enumerate(counts):
        expected = max(1, round(0.15 * count))
        assert (cut.val.targets == number).sum() == (cut.test.targets == number).sum() == expected


def test_the_seed_decides():
    labels = np.arange(100) % 2
    first, again, other = (with_all_splits(loaded(labels), seed=seed).val.inputs for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_only_what_is_missing_is_cut_and_noted():
    labels = np.arange(100) % 2
    given_test = Split(inputs=np.array([500]), targets=np.array([0]))
    cut = with_all_splits(loaded(labels, test=given_test), seed=3)
    assert cut.test is given_test
    assert cut.notes == ("val was cut from train: 16 of 100 samples (15% of every class, stratified, seed 3)",)
    whole = loaded(labels, val=given_test, test=given_test)
    assert with_all_splits(whole, seed=0) is whole


def test_a_class_too_small_to_be_everywhere_is_refused():
    with pytest.raises(DataError, match=r"2 missing splits .* at least 3 samples in every class; class 'c1' has 2"):
        with_all_splits(loaded([0, 0, 0, 1, 1]), seed=0)
