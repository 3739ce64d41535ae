"""Metrics besides top-1 accuracy, which ``Task.evaluate`` has."""

import numpy as np

from autocompress.task import Array


def balanced_accuracy(outputs: Array, targets: Array) -> float:
    """Mean recall over the classes that ``targets`` shows: each class counts the same, however rare."""
    hits = outputs.argmax(axis=-1) == targets
    return float(np.mean([hits[targets == number].mean() for number in np.unique(targets)]))
