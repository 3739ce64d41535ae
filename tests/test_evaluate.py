from dataclasses import replace

import numpy as np
import pytest
from onnx import helper
from tiny_onnx import dense_file, floats, identity_file, save

from autocompress.errors import DataError, MeasurementError
from autocompress.evaluate import correct_samples, evaluate_file, paired_drop_error, predict_file, wilson_interval
from autocompress.task import Layout, Preprocess, Split, Task

AS_STORED = Preprocess(layout=Layout.AS_STORED, shape=(3,))


def task_of(n: int = 100, **changes) -> Task:
    """Inputs are the outputs; two thirds of the labels are what they say."""
    inputs = floats(n, 3)
    targets = inputs.argmax(axis=1)
    targets[::3] = (targets[::3] + 1) % 3
    split = Split(inputs=inputs, targets=targets)
    task = Task(name="t", train=split, val=split, test=split, preprocess=AS_STORED, n_outputs=3)
    return replace(task, **changes)


@pytest.mark.parametrize("batch", [1, 7, 64, 100, 200, "n"])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_sample_is_predicted_in_order_whatever_the_batch(tmp_path, batch, threads):
    inputs = floats(150, 3)
    outputs = predict_file(identity_file(tmp_path / "m.onnx", batch=batch), inputs, AS_STORED, threads=threads)
    np.testing.assert_array_equal(outputs, inputs)


def test_images_are_preprocessed_as_the_task_says(tmp_path):
    file = save(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], {"x": [4, 2, 3, 3]}, {})
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 3, 2), dtype=np.uint8)
    preprocess = Preprocess(layout=Layout.IMAGE, shape=(2, 3, 3), mean=(0.5, 0.25), std=(0.5, 2.0))
    outputs = predict_file(file, pixels, preprocess, threads=1)
    expected = (pixels.transpose(0, 3, 1, 2) / 255 - np.array([0.5, 0.25])[:, None, None]) / np.array([0.5, 2])[
        :, None, None
    ]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_accuracy_is_of_the_whole_split_with_wilsons_interval(tmp_path):
    task = task_of(100)
    accuracy = evaluate_file(identity_file(tmp_path / "m.onnx", batch=8), task.test, task, threads=2)
    assert accuracy.value == 0.66
    assert accuracy.interval == wilson_interval(66, 100)
    assert accuracy.samples == 100


def test_any_other_metric_has_a_seeded_bootstrap_interval(tmp_path):
    task = task_of(400, metric=lambda outputs, targets: 10 * float(np.mean(outputs.argmax(1) == targets)))
    file = identity_file(tmp_path / "m.onnx")
    accuracy = evaluate_file(file, task.test, task, threads=1)
    assert accuracy.value == pytest.approx(6.65)
    low, high = wilson_interval(266, 400)
    assert accuracy.interval == pytest.approx((10 * low, 10 * high), abs=0.1)
    assert accuracy == evaluate_file(file, task.test, task, threads=1)
    assert accuracy.interval != evaluate_file(file, task.test, task, threads=1, seed=1).interval


def test_nan_outputs_are_refused_with_their_number(tmp_path):
    inputs = floats(10, 3)
    inputs[[2, 5], 1] = np.nan
    with pytest.raises(
        MeasurementError, match=r"outputs must be numbers, .*m\.onnx gives NaN for 2 of 10 samples; keep"
    ):
        predict_file(identity_file(tmp_path / "m.onnx"), inputs, AS_STORED, threads=1)


def test_a_file_that_cannot_run_is_named_with_what_the_runtime_says(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(MeasurementError, match=r"must load and run .*bad\.onnx; it says: .*Protobuf"):
        predict_file(tmp_path / "bad.onnx", floats(2, 3), AS_STORED, threads=1)
    with pytest.raises(MeasurementError, match=r"(?s)must load and run .*m\.onnx; it says: .*Got: 3 Expected: 4"):
        predict_file(dense_file(tmp_path / "m.onnx", width=4), floats(2, 3), AS_STORED, threads=1)


def test_wrong_data_stays_a_data_error(tmp_path):
    preprocess = Preprocess(layout=Layout.IMAGE, shape=(1, 3, 3))
    with pytest.raises(DataError, match="images are stored as uint8"):
        predict_file(identity_file(tmp_path / "m.onnx"), floats(2, 3), preprocess, threads=1)
    with pytest.raises(DataError, match="at least one sample, got none"):
        predict_file(identity_file(tmp_path / "m.onnx"), floats(0, 3), AS_STORED, threads=1)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_interval_has_the_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_the_error_of_a_paired_drop_is_that_of_the_bootstrap():
    rng = np.random.default_rng(0)
    correct_a = rng.random(2000) < 0.9
    correct_b = np.where(rng.random(2000) < 0.93, correct_a, ~correct_a)
    index = rng.integers(0, 2000, (4000, 2000))
    resampled = (correct_a[index].mean(axis=1) - correct_b[index].mean(axis=1)).std()
    assert paired_drop_error(correct_a, correct_b) == pytest.approx(resampled, rel=0.05)


def test_a_model_does_not_differ_from_itself():
    correct = correct_samples(floats(50, 3), np.zeros(50, int))
    assert correct.dtype == bool
    assert paired_drop_error(correct, correct) == 0


def test_a_paired_comparison_needs_the_same_samples():
    with pytest.raises(DataError, match="the same samples, got 2 and 3"):
        paired_drop_error(np.ones(2, bool), np.ones(3, bool))
