"""A folder of class folders, with or without ``train/ val/ test/`` above them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autocompress.data.images import SUFFIXES, decode, geometry_of, read_headers
from autocompress.data.loaded import Loaded
from autocompress.data.options import Progress
from autocompress.errors import DataError, near
from autocompress.task import Array, Split

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The image files of one split and the class number of each."""

    split: str
    files: tuple[Path, ...]
    labels: tuple[int, ...]


def read_folder(
    folder: Path, *, input_size: int | None = None, skip_bad: bool = False, progress: Progress | None = None
) -> Loaded:
    """All images as uint8, grey if every one is, else RGB, all of one size.

    Raises:
        DataError: no class folders, an empty one, classes that train does not have, or an image that cannot be read.
    """
    class_names, listings = _listings(folder)
    files = [file for listing in listings for file in listing.files]
    headers, bad = read_headers(files, progress)
    _check_readable(bad, skip_bad)
    readable = [header for header in headers if header is not None]
    if not readable:
        raise DataError(f"{folder} must hold images that can be read; all {len(bad)} failed; look at {next(iter(bad))}")
    geometry = geometry_of(readable, input_size)
    images, undecoded = decode(files, headers, geometry, progress)
    _check_readable(undecoded, skip_bad)
    bad |= undecoded
    splits = _splits(listings, images, bad)
    notes = (f"skipped {len(bad)} unreadable images, first: {next(iter(bad))}",) if bad else ()
    return Loaded(
        name=folder.resolve().name,
        train=splits["train"],
        val=splits.get("val"),
        test=splits.get("test"),
        class_names=class_names,
        resize=geometry.resize,
        notes=geometry.notes + notes,
    )


def _splits(listings: Sequence[Listing], images: Array, bad: Mapping[Path, str]) -> dict[str, Split]:
    """The images, which lie in the order of ``listings``, by split, without bad ones."""
    splits = {}
    start = 0
    for listing in listings:
        inputs = images[start : start + len(listing.files)]
        targets = np.array(listing.labels, dtype=np.int64)
        start += len(listing.files)
        kept = np.array([file not in bad for file in listing.files])
        whole = Split(inputs=inputs, targets=targets)
        splits[listing.split] = whole if kept.all() else whole.take(kept)
    return splits


def _listings(folder: Path) -> tuple[tuple[str, ...], list[Listing]]:
    """Class names, and what each split holds; train first."""
    roots = _split_roots(folder)
    class_names = tuple(place.name for place in _class_folders(roots["train"]))
    number_of = {name: number for number, name in enumerate(class_names)}
    listings = []
    for split, root in roots.items():
        files: list[Path] = []
        labels: list[int] = []
        for place in _class_folders(root):
            if place.name not in number_of:
                raise DataError(
                    f"every class of val and test must be in train; {place} is not among its {len(class_names)} "
                    f"classes{near(place.name, class_names)}; rename or remove it"
                )
            found = _images_in(place)
            files += found
            labels += [number_of[place.name]] * len(found)
        listings.append(Listing(split=split, files=tuple(files), labels=tuple(labels)))
    return class_names, listings


def _split_roots(folder: Path) -> dict[str, Path]:
    """The folder of each split; all samples are train when the folder has no ``train/``."""
    found: dict[str, Path] = {}
    for place in _folders_in(folder):
        split = SPLIT_FOLDERS.get(place.name.lower())
        if split in found:
            raise DataError(f"a split has one folder; {found[split]} and {place} are both {split}; merge them")
        if split is not None:
            found[split] = place
    if "train" in found:
        return {split: found[split] for split in ("train", "val", "test") if split in found}
    if found and len(found) == len(_folders_in(folder)):
        raise DataError(
            f"a folder with splits needs train/; {folder} has only {', '.join(p.name for p in found.values())}"
        )
    return {"train": folder}


def _class_folders(root: Path) -> list[Path]:
    places = _folders_in(root)
    if not places:
        raise DataError(f"{root} must hold one folder a class, with the images in it; it has no folders")
    return places


def _images_in(place: Path) -> list[Path]:
    files = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    if not files:
        raise DataError(
            f"every class folder must hold images ({', '.join(sorted(SUFFIXES))}) directly; {place} holds none; "
            "add some or remove the folder"
        )
    return files


def _folders_in(root: Path) -> list[Path]:
    """Folders in order of their names, without hidden ones and what macOS leaves in archives."""
    return sorted(
        place for place in root.iterdir() if place.is_dir() and place.name[0] != "." and place.name != "__MACOSX"
    )


def _check_readable(bad: dict[Path, str], skip_bad: bool) -> None:
    if bad and not skip_bad:
        path, reason = next(iter(bad.items()))
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(
            f"every image must be readable; {path} is not: {reason}{more}; remove it or use --skip-bad-images"
        )
