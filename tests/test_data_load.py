"""The built-in data, and tasks from own code."""

import numpy as np
import pytest

from autocompress.data import DataOptions, Metric, load_task
from autocompress.errors import DataError
from autocompress.task import Augment, Layout

FACTORY = """
import numpy as np
from autocompress.task import Layout, Preprocess, Split, Task

def make(metric=None):
    split = Split(inputs=np.ones((3, 5), dtype=np.float32), targets=np.arange(3))
    preprocess = Preprocess(layout=Layout.AS_STORED, shape=(5,))
    return Task(name="own", train=split, val=split, test=split, preprocess=preprocess, n_outputs=3, metric=metric)

def judged():
    return make(metric=lambda outputs, targets: 1.0)

def nothing():
    return 3
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(FACTORY)
    return f"{tmp_path}/own.py"


def test_digits_are_uint8_with_all_three_splits():
    task = load_task("digits")
    assert sum(len(split) for _, split in task.splits()) == 1797
    assert task.class_names == tuple("0123456789")
    assert (task.preprocess.layout, task.preprocess.shape) == (Layout.IMAGE, (1, 8, 8))
    assert (task.train.inputs.dtype, task.train.inputs.max(), task.augment) == (np.uint8, 255, Augment.SHIFT)
    assert sum("was cut from train" in note for note in task.notes) == 2


def test_digits_are_cut_by_the_seed():
    first, again, other = (load_task("digits", options=DataOptions(seed=seed)).test.inputs for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_task_comes_from_own_code(own):
    task = load_task(f"{own}:make", options=DataOptions(metric=Metric.BALANCED_ACCURACY))
    assert (task.name, task.metric_name) == ("own", "balanced_accuracy")


def test_own_code_must_return_a_task(own):
    with pytest.raises(DataError, match=r"own\.py:nothing must return an autocompress Task, got int"):
        load_task(f"{own}:nothing")
    with pytest.raises(DataError, match=r"must define mke; it does not; near: make"):
        load_task(f"{own}:mke")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DataOptions(mean=(0.5,)), r"mean and std come together; got mean alone; add std"),
        (DataOptions(std=(0.5,)), r"mean and std come together; got std alone; add mean"),
        (DataOptions(input_size=9), r"an input size is for uint8 images; own is taken as stored"),
        (DataOptions(augment=Augment.SHIFT), r"augment shift is for uint8 images; own is taken as stored; use none"),
    ],
)
def test_options_that_do_not_fit_the_data_are_refused(own, options, message):
    with pytest.raises(DataError, match=message):
        load_task(f"{own}:make", options=options)


def test_an_own_metric_is_not_replaced(own):
    with pytest.raises(DataError, match=r"balanced_accuracy is for classification; own brings its own loss or metric"):
        load_task(f"{own}:judged", options=DataOptions(metric=Metric.BALANCED_ACCURACY))
