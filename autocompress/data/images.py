"""Image files become one uint8 array, decoded by PIL on all processors."""

import os
import statistics
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from autocompress.data.options import Progress
from autocompress.errors import DataError
from autocompress.task import Array

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
LARGEST_OWN_SIZE = 224  # what most pretrained networks were trained at; more is asked for by hand
SIZE_STEP = 16  # strides and patch sizes of common networks divide it
GREY_MODES = frozenset({"1", "L"})
CHUNK = 256  # files per piece of work: large enough to cost nothing, small enough for progress to move
# What PIL raises on damaged files, see the "Raises" of its plugins.
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of its image before it is decoded."""

    width: int
    height: int
    mode: str


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The one shape of all images. ``crop`` is the square that each is resized and cropped to; None: as they are."""

    height: int
    width: int
    channels: int
    crop: int | None
    resize: str
    notes: tuple[str, ...] = ()


def read_headers(files: Sequence[Path], progress: Progress | None) -> tuple[list[Header | None], dict[Path, str]]:
    """The header of each file, None where it cannot be read; and what was wrong with those."""
    return _attempt(_read_header, files, files, "reading image headers", progress)


def geometry_of(headers: Sequence[Header], input_size: int | None) -> Geometry:
    """One shape for all: the one asked for, else the one they share, else from their median shorter side.

    Raises:
        DataError: the array would not fit into memory.
    """
    channels = 1 if all(header.mode in GREY_MODES for header in headers) else 3
    sizes = {(header.height, header.width) for header in headers}
    size = input_size
    notes: tuple[str, ...] = ()
    if size is None and len(sizes) > 1:
        median = statistics.median(min(header.height, header.width) for header in headers)
        size = min(LARGEST_OWN_SIZE, max(SIZE_STEP, round(median / SIZE_STEP) * SIZE_STEP))
        notes = (
            f"images of {len(sizes)} sizes were brought to {size}x{size}, from their median shorter side {median:g}",
        )
    if size is None or sizes == {(size, size)}:
        height, width = next(iter(sizes))
        geometry = Geometry(height=height, width=width, channels=channels, crop=None, resize="none")
    else:
        resize = (
            f"PIL bilinear, shorter side to {size} (longer side to {size} * longer // shorter), "
            f"then center crop {size}x{size} (left (width - {size}) // 2, top (height - {size}) // 2)"
        )
        geometry = Geometry(height=size, width=size, channels=channels, crop=size, resize=resize, notes=notes)
    _check_memory(len(headers), geometry)
    return geometry


def decode(
    files: Sequence[Path], headers: Sequence[Header | None], geometry: Geometry, progress: Progress | None
) -> tuple[Array, dict[Path, str]]:
    """Pixels ``[n, h, w, c]`` of all files, undefined where a file has no header or fails; and what was wrong there."""
    images = np.empty((len(files), geometry.height, geometry.width, geometry.channels), dtype=np.uint8)

    def decode_into(index: int) -> None:
        if headers[index] is not None:
            images[index] = _pixels(files[index], geometry)

    _, bad = _attempt(decode_into, range(len(files)), files, "decoding images", progress)
    return images, bad


def _read_header(file: Path) -> Header:
    with Image.open(file) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"images must have 8 bits a channel, this one is of PIL's mode {image.mode}; convert it")
        return Header(width=image.width, height=image.height, mode=image.mode)


def _pixels(file: Path, geometry: Geometry) -> Array:
    with Image.open(file) as opened:
        image = opened.convert("L" if geometry.channels == 1 else "RGB")
    if geometry.crop is not None:
        image = _resized_and_cropped(image, geometry.crop)
    return np.asarray(image).reshape(geometry.height, geometry.width, geometry.channels)


def _resized_and_cropped(image: Image.Image, size: int) -> Image.Image:
    shorter = min(image.size)
    width, height = (size * side // shorter for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def _attempt(
    work: Callable[[S], T], items: Sequence[S], files: Sequence[Path], stage: str, progress: Progress | None
) -> tuple[list[T | None], dict[Path, str]]:
    """``work`` on every item, in threads; None for what failed, and the reason by file."""

    def one(item: S) -> tuple[T | None, str | None]:
        try:
            return work(item), None
        except UNREADABLE as error:
            return None, str(error) or type(error).__name__

    def chunk(start: int) -> list[tuple[T | None, str | None]]:
        return [one(item) for item in items[start : start + CHUNK]]

    results: list[T | None] = []
    bad: dict[Path, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(chunk, range(0, len(items), CHUNK)):
            for result, reason in done:
                if reason is not None:
                    bad[files[len(results)]] = reason
                results.append(result)
            if progress is not None:
                progress(stage, len(results), len(items))
    return results, bad


def _check_memory(n: int, geometry: Geometry) -> None:
    needed = n * geometry.height * geometry.width * geometry.channels
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there / 2:  # training needs the other half
        raise DataError(
            f"decoded images must fit into half of the memory ({there / 2e9:.1f} GB); {n} of {geometry.height}x"
            f"{geometry.width} take {needed / 1e9:.1f} GB; use a smaller --input-size"
        )
