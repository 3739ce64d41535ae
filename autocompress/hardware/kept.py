"""What was measured once on this machine and is kept for later: small JSON records in the user's cache folder."""

import os
import sys
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from autocompress.facts import Facts, write_whole
from autocompress.hardware.machine import package_versions
from autocompress.target import Machine

FOLDER = "AUTOCOMPRESS_CACHE"  # an environment variable, for machines whose home folder cannot be written


class Circumstances(Facts):
    """What a measurement depends on: it holds for these alone."""

    cpu: str
    isa: tuple[str, ...]
    onnxruntime: str
    threads: int = 1


class Record(Facts):
    """A measurement that is kept; ``measured_at`` is a day and time with its zone, in ISO 8601."""

    circumstances: Circumstances
    measured_at: str


R = TypeVar("R", bound=Record)


def circumstances_of(machine: Machine, threads: int = 1) -> Circumstances:
    """Those of ``machine`` with the installed runtime."""
    return Circumstances(
        cpu=machine.cpu, isa=machine.isa, onnxruntime=package_versions()["onnxruntime"], threads=threads
    )


def cache_folder() -> Path:
    """Where records lie: ``$AUTOCOMPRESS_CACHE``, or ``autocompress`` in the user's folder for caches.

    That is ``$XDG_CACHE_HOME``; failing that, ``~/Library/Caches`` on macOS and ``~/.cache`` elsewhere.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/

    Raises:
        RuntimeError: the user has no home folder.
    """
    if own := os.environ.get(FOLDER):
        return Path(own)
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # the specification has relative ones ignored
        caches = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return caches / "autocompress"


def recall(kind: type[R], circumstances: Circumstances) -> R | None:
    """The record of ``kind`` that holds here; None where there is none that this version can read."""
    try:
        found = kind.from_json(_file_of(kind, circumstances).read_text())
    except (OSError, RuntimeError, ValidationError):
        return None
    return found if found.circumstances == circumstances else None


def keep(record: Record) -> Path:
    """Write a record, in the place of an earlier one of its kind and circumstances; where it lies.

    Raises:
        OSError: the folder cannot be written.
        RuntimeError: the user has no home folder.
    """
    file = _file_of(type(record), record.circumstances)
    write_whole(file, record.to_json())
    return file


def _file_of(kind: type[Record], circumstances: Circumstances) -> Path:
    return cache_folder() / f"{kind.__name__}-{circumstances.digest()}.json"
