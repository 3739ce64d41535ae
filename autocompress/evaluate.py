"""Accuracy of an exported file: run in the target runtime on a whole split, with its interval."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from autocompress.data.preprocess import model_input
from autocompress.errors import DataError, MeasurementError
from autocompress.measurement import Accuracy, Interval
from autocompress.task import Array, Preprocess, Split, Task

Z_95 = 1.959963984540054  # standard normal quantile of 0.975
RESAMPLES = 1000
FEWEST_SAMPLES_A_BLOCK = 64  # preprocessing one sample at a time would cost more than small models do
DYNAMIC_BATCH = 64


def evaluate_file(file: Path, split: Split, task: Task, *, threads: int, seed: int = 0) -> Accuracy:
    """The task's metric of ``file`` on all of ``split``.

    The interval is Wilson's for top-1 accuracy, else a seeded bootstrap over samples.

    Raises:
        MeasurementError: the runtime cannot load or run the file, its output holds NaN, or the metric is no number.
    """
    outputs = predict_file(file, split.inputs, task.preprocess, threads=threads)
    if task.metric is None:
        correct = correct_samples(outputs, split.targets)
        interval = wilson_interval(int(correct.sum()), correct.size)
    else:
        interval = _bootstrap_interval(outputs, split.targets, task, seed)
    value = task.evaluate(outputs, split.targets)
    if not isfinite(value):
        raise MeasurementError(f"{task.metric_name} must be a number, the task's metric gives {value} for {file}")
    return Accuracy(value=value, interval=interval, samples=len(split))


def predict_file(file: Path, inputs: Array, preprocess: Preprocess, *, threads: int) -> Array:
    """The file's first output for stored ``inputs [n, ...]``, in order.

    One session is shared by ``threads`` workers, each running single-threaded; a batch that the file fixes is kept, the
    last one filled up by repetition.

    Raises:
        MeasurementError: the runtime cannot load or run the file, or its output holds NaN.
    """
    if len(inputs) == 0:
        raise DataError("predicting needs at least one sample, got none")
    try:
        model = _FileModel(file)
        blocks = _blocks(len(inputs), model.batch)
        with ThreadPoolExecutor(threads) as pool:
            outputs = list(pool.map(lambda block: model.predict(model_input(preprocess, inputs[block])), blocks))
    except DataError:
        raise
    except Exception as error:  # the runtime raises its own kinds
        raise MeasurementError(f"the runtime must load and run {file}; it says: {error}") from error
    predicted = np.concatenate(outputs)
    if predicted.dtype.kind == "f" and np.isnan(predicted).any():
        n_bad = int(np.isnan(predicted).reshape(len(predicted), -1).any(axis=1).sum())
        raise MeasurementError(
            f"outputs must be numbers, {file} gives NaN for {n_bad} of {len(predicted)} samples; keep its most "
            "sensitive layers in a wider format"
        )
    return predicted


def correct_samples(outputs: Array, targets: Array) -> Array:
    """Which samples top-1 gets right, as booleans."""
    return np.asarray(outputs.argmax(axis=-1) == targets)


def wilson_interval(successes: int, n: int) -> Interval:
    """95 % interval of a proportion.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953
    """
    share = successes / n
    shrink = 1 + Z_95**2 / n
    center = (share + Z_95**2 / (2 * n)) / shrink
    half_width = Z_95 * sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2)) / shrink
    return max(0.0, center - half_width), min(1.0, center + half_width)


def paired_drop_error(correct_a: Array, correct_b: Array) -> float:
    """Standard error of the difference of two accuracies on the same samples, given which each got right.

    Only samples that one got right and the other wrong matter (McNemar 1947, https://doi.org/10.1007/BF02295996).
    """
    if len(correct_a) != len(correct_b):
        raise DataError(f"a paired comparison needs the same samples, got {len(correct_a)} and {len(correct_b)}")
    n = len(correct_a)
    only_a = int(np.sum(correct_a & ~correct_b))
    only_b = int(np.sum(correct_b & ~correct_a))
    return sqrt(only_a + only_b - (only_a - only_b) ** 2 / n) / n


def _bootstrap_interval(outputs: Array, targets: Array, task: Task, seed: int) -> Interval:
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        index = rng.integers(0, len(targets), len(targets))
        values.append(task.evaluate(outputs[index], targets[index]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


class _FileModel:
    """A session with the batch that its file fixes."""

    def __init__(self, file: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        batch = self._session.get_inputs()[0].shape[0]
        self.batch: int = batch if isinstance(batch, int) else DYNAMIC_BATCH

    def predict(self, x: Array) -> Array:
        """Outputs for ``x [n, ...]``, a batch at a time."""
        return np.concatenate([self._run(x[start : start + self.batch]) for start in range(0, len(x), self.batch)])

    def _run(self, x: Array) -> Array:
        n_missing = self.batch - len(x)
        filled = np.concatenate([x, np.repeat(x[-1:], n_missing, axis=0)]) if n_missing else x
        outputs: list[Any] = self._session.run([self._output], {self._input: filled})
        return np.asarray(outputs[0])[: len(x)]


def _blocks(n: int, batch: int) -> Iterator[slice]:
    size = batch * -(-FEWEST_SAMPLES_A_BLOCK // batch)
    return (slice(start, min(n, start + size)) for start in range(0, n, size))
