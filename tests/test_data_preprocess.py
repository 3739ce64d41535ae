"""From stored samples to model inputs."""

import numpy as np
import pytest
from PIL import Image

from autocompress.data import model_input, with_input_size, with_normalization
from autocompress.data.preprocess import MEASURED, pixel_statistics, preprocess_of
from autocompress.errors import DataError
from autocompress.task import Layout, Preprocess, Split, Task

RNG = np.random.default_rng(0)


def task_of(inputs):
    split = Split(inputs=inputs, targets=np.arange(len(inputs)) % 2)
    return Task(
        name="made",
        train=split,
        val=split,
        test=split,
        preprocess=preprocess_of(inputs),
        n_outputs=2,
        notes=(MEASURED,),
    )


def photos(n=5, h=7, w=4, c=3):
    return RNG.integers(0, 256, size=(n, h, w, c), dtype=np.uint8)


def test_images_are_scaled_normalized_and_put_channels_first():
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    raw = photos()
    x = model_input(Preprocess(layout=Layout.IMAGE, shape=(3, 7, 4), mean=mean, std=std), raw)
    scaled = raw.astype(np.float32) / np.float32(255)
    expected = ((scaled - np.array(mean, np.float32)) / np.array(std, np.float32)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(x, expected)
    assert (x.dtype, x.shape, x.flags.c_contiguous) == (np.float32, (5, 3, 7, 4), True)


def test_without_mean_and_std_images_are_only_scaled():
    x = model_input(Preprocess(layout=Layout.IMAGE, shape=(1, 1, 2)), np.array([[[[0], [255]]]], dtype=np.uint8))
    np.testing.assert_array_equal(x, [[[[0, 1]]]])


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_other_arrays_are_fed_as_stored(dtype):
    raw = RNG.integers(0, 9, size=(4, 6)).astype(dtype)
    x = model_input(Preprocess(layout=Layout.AS_STORED, shape=(6,), dtype=dtype), raw)
    np.testing.assert_array_equal(x, raw)
    assert x.dtype == dtype


def test_a_batch_that_is_not_as_stored_is_refused():
    preprocess = Preprocess(layout=Layout.IMAGE, shape=(3, 7, 4))
    with pytest.raises(DataError, match=r"stored as uint8 \[n,7,4,3\]; got float32 \[5, 7, 4, 3\]"):
        model_input(preprocess, photos().astype(np.float32))
    with pytest.raises(DataError, match=r"stored as uint8 \[n,7,4,3\]; got uint8 \[5, 4, 7, 3\]"):
        model_input(preprocess, photos(h=4, w=7))


def test_measured_statistics_make_train_zero_mean_and_unit_variance():
    raw = photos(n=1500)  # more than one slice
    x = model_input(preprocess_of(raw), raw).astype(np.float64)
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 2, 3)), 1, atol=1e-5)


def test_a_constant_channel_can_be_divided_by():
    assert pixel_statistics(np.full((2, 3, 3, 1), 51, dtype=np.uint8)) == ((0.2,), (1.0,))


def test_normalization_can_be_replaced():
    task = with_normalization(task_of(photos()), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert (task.preprocess.mean, task.preprocess.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert MEASURED not in task.notes


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (0.5,) * 3, r"mean needs one value a channel; made has 3, got \[0\.5\]"),
        ((0.5,) * 3, (0.5,) * 2, r"std needs one value a channel"),
        ((0.5,) * 3, (0.5, 0.0, 0.5), r"std must be above zero in every channel, got \[0\.5, 0\.0, 0\.5\]"),
        ((0.5,) * 3, (0.5, float("nan"), 0.5), r"std must be finite"),
    ],
)
def test_normalization_that_does_not_fit_is_refused(mean, std, message):
    with pytest.raises(DataError, match=message):
        with_normalization(task_of(photos()), mean, std)


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_what_the_preprocessing_says(channels):
    raw = photos(c=channels)
    task = with_input_size(task_of(raw), 5)
    assert (task.preprocess.shape, task.preprocess.resize) == ((channels, 5, 5), "PIL bilinear to 5x5")
    first = Image.fromarray(raw[0] if channels == 3 else raw[0, ..., 0]).resize((5, 5), Image.Resampling.BILINEAR)
    for _, split in task.splits():
        np.testing.assert_array_equal(split.inputs[0], np.asarray(first).reshape(5, 5, channels))
    assert with_input_size(task, 5) is task
    assert with_input_size(task, 3).preprocess.resize == "PIL bilinear to 5x5; then PIL bilinear to 3x3"


def test_sizes_and_means_are_for_images():
    series = task_of(np.ones((4, 9), dtype=np.float32))
    with pytest.raises(DataError, match=r"an input size is for uint8 images; made is taken as stored"):
        with_input_size(series, 5)
    with pytest.raises(DataError, match=r"mean and std are for uint8 images; made is taken as stored"):
        with_normalization(series, (0.5,), (0.5,))
    with pytest.raises(DataError, match=r"at least 1 pixel, got 0"):
        with_input_size(task_of(photos()), 0)
