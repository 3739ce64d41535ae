"""Labels become int64 class numbers ``0..k-1`` that every split agrees on."""

from dataclasses import replace

import numpy as np

from autocompress.data.loaded import Loaded
from autocompress.errors import DataError, near
from autocompress.task import Array, Split


def with_class_numbers(loaded: Loaded) -> Loaded:
    """A copy whose targets are int64 ``[n]`` in ``0..k-1`` and whose class names are complete.

    Text labels are looked up in the class names. Without names, the classes are the numbers found in train.

    Raises:
        DataError: labels of another kind, outside the classes, or of a class that train does not show.
    """
    if len(set(loaded.class_names)) != len(loaded.class_names):
        raise DataError(f"class names must differ, got {', '.join(loaded.class_names)}; rename the double ones")
    numbers = {name: _numbers(name, split.targets, loaded.class_names) for name, split in loaded.present()}
    names = loaded.class_names or _names_from(numbers["train"])
    if len(names) < 2:
        raise DataError(f"a classification needs at least 2 classes, got {list(names)}; add samples of another class")
    _check_range(numbers, len(names))
    seen = np.bincount(numbers["train"], minlength=len(names)) > 0
    for name, labels in numbers.items():
        strangers = labels[~seen[labels]]
        if len(strangers):
            raise DataError(
                f"every class of val and test must be in train; {name} has class {names[strangers[0]]!r} "
                f"({int((strangers == strangers[0]).sum())} samples), train has none; add samples of it to train"
            )
    unseen = tuple(f"class {names[k]!r} has no samples" for k in np.flatnonzero(~seen))
    splits = {
        name: Split(inputs=split.inputs, targets=numbers[name].astype(np.int64)) for name, split in loaded.present()
    }
    return replace(
        loaded,
        train=splits["train"],
        val=splits.get("val"),
        test=splits.get("test"),
        class_names=names,
        notes=loaded.notes + unseen,
    )


def _numbers(split: str, labels: Array, class_names: tuple[str, ...]) -> Array:
    flat = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "biuUS":
        raise DataError(
            f"labels must be integers 0..k-1, or text that class_names lists, one a sample; {split} has {labels.dtype} "
            f"{list(labels.shape)}; for one-hot labels use .argmax(1), for other targets path/file.py:factory"
        )
    return _looked_up(split, flat.astype(str), class_names) if flat.dtype.kind in "US" else flat.astype(np.int64)


def _looked_up(split: str, labels: Array, class_names: tuple[str, ...]) -> Array:
    if not class_names:
        raise DataError(f"text labels need class_names, the list of classes in order; {split} has text and no list")
    found, positions = np.unique(labels, return_inverse=True)
    number_of = {name: number for number, name in enumerate(class_names)}
    for label in found:
        if str(label) not in number_of:
            raise DataError(
                f"class_names must list every label; {split} has {str(label)!r}, not listed"
                f"{near(str(label), class_names)}"
            )
    return np.array([number_of[str(label)] for label in found])[positions]


def _names_from(train: Array) -> tuple[str, ...]:
    classes = np.unique(train)
    if classes[0] < 0:
        raise DataError(f"labels must be integers 0..k-1; train has {classes[0]}; leave such samples out")
    missing = np.setdiff1d(np.arange(min(classes[-1] + 1, len(train) + 1)), classes)
    if len(missing):
        raise DataError(
            f"labels must be integers 0..k-1 without gaps; train goes up to {classes[-1]} and lacks {missing[0]}; "
            "number the classes anew, or name all of them in class_names"
        )
    return tuple(str(k) for k in classes)


def _check_range(numbers: dict[str, Array], n_classes: int) -> None:
    for name, labels in numbers.items():
        outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
        if len(outside):
            raise DataError(
                f"labels must lie in 0..{n_classes - 1} for {n_classes} classes; {name} has {labels[outside[0]]} at "
                f"index {outside[0]}, {len(outside)} such in all; correct them or the class names"
            )
