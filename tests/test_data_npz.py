"""A ``.npz`` becomes a task, or says what is wrong with it."""

import pickle

import numpy as np
import pytest

from autocompress.data import DataOptions, Metric, describe, load_task
from autocompress.errors import DataError
from autocompress.task import Augment, Layout

RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 4


def images(n=40, shape=(6, 6, 3)):
    return RNG.integers(0, 256, size=(n, *shape), dtype=np.uint8)


def three_splits(**changes):
    arrays = {
        f"{axis}_{split}": value
        for split in ("train", "val", "test")
        for axis, value in (("x", images()), ("y", LABELS))
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "set.npz", **arrays)
        return str(tmp_path / "set.npz")

    return write


def test_given_splits_are_taken_as_they_are(save):
    arrays = three_splits(class_names=np.array(["a", "b", "c", "d"]))
    task = load_task(save(**arrays))
    for name, split in task.splits():
        np.testing.assert_array_equal(split.inputs, arrays[f"x_{name}"])
        np.testing.assert_array_equal(split.targets, LABELS)
        assert split.targets.dtype == np.int64
    assert task.class_names == ("a", "b", "c", "d")
    assert (task.n_outputs, task.name, task.augment) == (4, "set", Augment.SHIFT_FLIP)
    assert task.preprocess.shape == (3, 6, 6)
    assert describe(task) == "set: train 40, val 40, test 40 samples; input 3x6x6 image; 4 classes; accuracy"


def test_images_without_a_channel_axis_are_grey(save):
    task = load_task(save(**{key: value[..., 0] if key[0] == "x" else value for key, value in three_splits().items()}))
    assert task.train.inputs.shape == (40, 6, 6, 1)
    assert (task.preprocess.shape, task.augment) == ((1, 6, 6), Augment.SHIFT)
    assert task.class_names == ("0", "1", "2", "3")


def test_floats_are_taken_as_stored_in_float32(save):
    series = {f"x_{split}": RNG.normal(size=(40, 2, 9)) for split in ("train", "val", "test")}
    task = load_task(save(**three_splits(**series)))
    assert (task.preprocess.layout, task.preprocess.shape) == (Layout.AS_STORED, (2, 9))
    assert task.preprocess.mean is None
    assert (task.preprocess.dtype, task.augment) == ("float32", Augment.NONE)
    np.testing.assert_array_equal(task.val.inputs, series["x_val"].astype(np.float32))


def test_integer_rows_are_token_ids(save):
    tokens = {f"x_{split}": RNG.integers(0, 99, size=(40, 5), dtype=np.int32) for split in ("train", "val", "test")}
    task = load_task(save(**three_splits(**tokens)))
    assert (task.preprocess.layout, task.preprocess.dtype) == (Layout.AS_STORED, "int64")
    assert task.train.inputs.dtype == np.int64


def test_text_labels_are_looked_up_in_the_class_names(save):
    names = np.array(["no", "yes"])
    text = {f"y_{split}": names[LABELS % 2] for split in ("train", "val", "test")}
    task = load_task(save(**three_splits(**text, class_names=names)))
    np.testing.assert_array_equal(task.test.targets, LABELS % 2)


def test_a_column_of_labels_is_flattened(save):
    task = load_task(save(**three_splits(y_val=LABELS[:, None].astype(np.uint8))))
    np.testing.assert_array_equal(task.val.targets, LABELS)


def test_a_missing_test_split_is_cut_and_said(save):
    task = load_task(save(**three_splits(x_test=None, y_test=None)))
    assert (len(task.train), len(task.val), len(task.test)) == (32, 40, 8)
    assert [note for note in task.notes if "cut" in note] == [
        "test was cut from train: 8 of 40 samples (15% of every class, stratified, seed 0)"
    ]


def test_options_override_the_data(save):
    options = DataOptions(
        mean=(0.1, 0.2, 0.3), std=(1, 2, 3), input_size=4, augment=Augment.NONE, metric=Metric.BALANCED_ACCURACY
    )
    task = load_task(save(**three_splits()), options=options)
    assert (task.preprocess.mean, task.preprocess.std) == ((0.1, 0.2, 0.3), (1, 2, 3))
    assert (task.preprocess.shape, task.preprocess.resize) == ((3, 4, 4), "PIL bilinear to 4x4")
    assert (task.augment, task.metric_name) == (Augment.NONE, "balanced_accuracy")
    outputs = np.eye(2)[[0, 0, 0, 0]]  # always class 0
    assert task.evaluate(outputs, np.array([0, 0, 0, 1])) == pytest.approx(0.5)
    assert DataOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": None}, r"must hold y_train; it holds x_test, x_train, x_val, y_test, y_val"),
        ({"y_val": None}, r"x_val and y_val come together; .* holds x_val alone; add y_val"),
        ({"x_valid": images()}, r"must be named x_train, .*; got x_valid; near: x_val"),
        (
            {"y_train": LABELS[:9]},
            r"x_train and y_train .* one row a sample; their shapes are \[40, 6, 6, 3\] and \[9\]",
        ),
        ({"x_train": images(0), "y_train": LABELS[:0]}, r"every split needs samples; train has none"),
        (
            {"x_val": images(shape=(5, 6, 3))},
            r"one shape and type; train has uint8 \[6, 6, 3\], val has uint8 \[5, 6, 3\]",
        ),
        ({"x_val": np.ones((40, 6, 6, 3))}, r"one shape and type; .* val has float32"),
        ({"x_train": images(shape=(3, 6, 6))}, r"1 or 3 channels, .*train has \[40, 3, 6, 6\]; move the channels last"),
        ({"x_train": images(shape=(6,))}, r"uint8 arrays are images .*train has \[40, 6\]; or store other data as"),
        ({"x_train": images().astype(np.int16)}, r"inputs must be uint8 images.*train has int16 \[40, 6, 6, 3\]"),
        ({"x_train": np.ones(40)}, r"inputs must be uint8 images.*train has float64 \[40\]"),
        (
            {"y_test": LABELS - 1, "class_names": list("abcd")},
            r"lie in 0\.\.3 for 4 classes; test has -1 at index 0, 10",
        ),
        ({"y_train": LABELS - 1}, r"labels must be integers 0\.\.k-1; train has -1"),
        ({"y_train": LABELS * 2}, r"without gaps; train goes up to 6 and lacks 1; number the classes anew"),
        ({"y_val": LABELS + 1}, r"lie in 0\.\.3 for 4 classes; val has 4 at index 3, 10 such"),
        ({"y_train": LABELS % 2, "class_names": list("abcd")}, r"must be in train; val has class 'c' \(10 samples\)"),
        ({"class_names": list("abc")}, r"lie in 0\.\.2 for 3 classes; train has 3 at index 3"),
        ({"class_names": list("abca")}, r"class names must differ, got a, b, c, a"),
        ({"y_train": np.eye(4)[LABELS]}, r"labels must be integers .* train has float64 \[40, 4\]; .*argmax"),
        ({"y_train": np.array(list("abcd"))[LABELS]}, r"text labels need class_names"),
        (
            {"y_train": np.array(["a", "cat", "c", "d"])[LABELS], "class_names": ["a", "car", "c", "d"]},
            r"class_names must list every label; train has 'cat', not listed; near: car",
        ),
        ({f"y_{split}": LABELS * 0 for split in ("train", "val", "test")}, r"needs at least 2 classes, got \['0'\]"),
        (
            {"y_train": np.array([None] * 40)},
            r"y_train of .* arrays of Python objects can run code and are never loaded",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(save, changes, message):
    with pytest.raises(DataError, match=message):
        load_task(save(**three_splits(**changes)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_in_float32_are_counted(save, value):
    floats = {f"x_{split}": np.ones((40, 3)) for split in ("train", "val", "test")}
    floats["x_val"][7, :2] = floats["x_val"][9, 0] = value
    with pytest.raises(DataError, match=r"val has 3 NaN or infinite values in 2 samples, the first at index 7"):
        load_task(save(**three_splits(**floats)))


def test_unused_arrays_are_noted(save):
    assert "arrays of set.npz that were not used: extra" in load_task(save(**three_splits(extra=LABELS))).notes


def test_a_class_without_samples_is_noted(save):
    assert "class 'e' has no samples" in load_task(save(**three_splits(class_names=list("abcde")))).notes


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_files_that_are_no_npz_are_refused_and_not_unpickled(tmp_path):
    path, touched = tmp_path / "bad.npz", tmp_path / "touched"
    path.write_bytes(pickle.dumps(Bomb(str(touched))))
    with pytest.raises(DataError, match=r"must be an \.npz as numpy\.savez writes it; it cannot be read"):
        load_task(str(path))
    assert not touched.exists()
    with path.open("wb") as file:
        np.save(file, LABELS)
    with pytest.raises(DataError, match=r"several arrays, it holds one"):
        load_task(str(path))
    np.savez(path, **three_splits())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"it cannot be read"):
        load_task(str(path))


def test_what_is_not_there_is_answered_with_what_is_near(tmp_path, save):
    save(**three_splits())
    with pytest.raises(DataError, match=r"there is no .*sat\.npz; near: set\.npz"):
        load_task(str(tmp_path / "sat.npz"))
    (tmp_path / "set.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"data must be digits, .* got the file .*set\.csv"):
        load_task(str(tmp_path / "set.csv"))
