"""A ``.npz`` with ``x_train y_train`` and, if it has them, ``x_val y_val x_test y_test class_names``."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile

from autocompress.data.loaded import Loaded
from autocompress.errors import DataError, near
from autocompress.task import Array, Split

SPLITS = ("train", "val", "test")
KEYS = tuple(f"{axis}_{split}" for split in SPLITS for axis in "xy")


def read_npz(path: Path) -> Loaded:
    """The arrays of ``path``; nothing in it is unpickled.

    Raises:
        DataError: not an npz, keys that are missing or unknown, or arrays of Python objects.
    """
    with path.open("rb") as file, _open(path, file) as archive:
        _check_keys(path, archive.files)
        train, val, test = (_read_split(path, archive, split) for split in SPLITS)
        names = _read_array(path, archive, "class_names") if "class_names" in archive.files else np.array([], dtype=str)
        ignored = [key for key in archive.files if key not in KEYS and key != "class_names"]
    assert train is not None
    notes = (f"arrays of {path.name} that were not used: {', '.join(ignored)}",) if ignored else ()
    class_names = tuple(str(name) for name in names.reshape(-1))
    return Loaded(name=path.stem, train=train, val=val, test=test, class_names=class_names, notes=notes)


def _open(path: Path, file: BinaryIO) -> NpzFile:
    try:
        archive = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} must be an .npz as numpy.savez writes it; it cannot be read: {error}") from error
    if not isinstance(archive, NpzFile):
        raise DataError(f"{path} must be an .npz with several arrays, it holds one; write it with numpy.savez")
    return archive


def _check_keys(path: Path, found: Iterable[str]) -> None:
    keys = sorted(found)
    for key in ("x_train", "y_train"):
        if key not in keys:
            raise DataError(f"{path} must hold {key}; it holds {', '.join(keys) or 'nothing'}{near(key, keys)}")
    for split in SPLITS[1:]:
        pair = {f"x_{split}", f"y_{split}"}
        there = pair & set(keys)
        if len(there) == 1:
            raise DataError(
                f"x_{split} and y_{split} come together; {path} holds {min(there)} alone; add {min(pair - there)}"
            )
    for key in keys:
        if key[:2] in ("x_", "y_") and key not in KEYS:
            raise DataError(f"splits of {path} must be named {', '.join(KEYS)}; got {key}{near(key, KEYS)}")


def _read_split(path: Path, archive: NpzFile, split: str) -> Split | None:
    if f"x_{split}" not in archive.files:
        return None
    inputs, targets = (_read_array(path, archive, f"{axis}_{split}") for axis in "xy")
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise DataError(
            f"x_{split} and y_{split} of {path} must have one row a sample; "
            f"their shapes are {list(inputs.shape)} and {list(targets.shape)}"
        )
    return Split(inputs=inputs, targets=targets)


def _read_array(path: Path, archive: NpzFile, key: str) -> Array:
    try:
        array = archive[key]
    except ValueError as error:  # how numpy says that it would have to unpickle
        raise DataError(
            f"{key} of {path} must hold numbers or text; arrays of Python objects can run code and are never loaded; "
            f"convert it before saving, e.g. with .astype(str): {error}"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{key} of {path} cannot be read, the file is damaged: {error}; write it again") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{key} of {path} must be an array as numpy.savez writes it; it is not")
    return array
