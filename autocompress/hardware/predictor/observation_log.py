"""Observations on disk: one a line, only ever added to, so that a process that dies loses none that it has written."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from autocompress.errors import ProfileError
from autocompress.hardware.predictor.observation import Observation

LOG = "observations.jsonl"
NEXT_STEP = "take the line out, or make the profile anew with `autocompress profile --anew`"


def read_log(file: Path, last: int | None = None) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """All observations of a file or its ``last`` ones, and notes on what was left out: a last line that was cut off.

    Raises:
        ProfileError: a line that is no observation; names it, and the column where it is no JSON.
    """
    if not file.is_file():
        return (), ()
    lines = file.read_bytes().split(b"\n")
    cut = lines.pop()  # what follows the last end of a line
    notes = (f"{file}, line {len(lines) + 1} was cut off in the middle and is left out",) if cut else ()
    first = 0 if last is None else max(0, len(lines) - last)
    return tuple(_observation(file, number, line) for number, line in enumerate(lines[first:], first + 1)), notes


def append_to_log(file: Path, observations: Iterable[Observation]) -> None:
    """Add observations, each whole, behind what is there; a last line that was cut off goes first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with log_lock(file), file.open("ab") as log:
        _drop_cut_line(file)
        for each in observations:
            log.write(each.model_dump_json().encode() + b"\n")
            log.flush()


def log_lock(file: Path) -> FileLock:
    """Held by whoever adds to the file; may be taken again by its holder."""
    return FileLock(file.with_name(f".{file.name}.lock"), is_singleton=True)


def log_digest(file: Path) -> str:
    """Of the content; changes with every line."""
    return hashlib.sha256(file.read_bytes() if file.is_file() else b"").hexdigest()[:16]


def unseen(found: Sequence[Observation], known: Iterable[Observation]) -> list[Observation]:
    """Those of ``found`` that are not in ``known``: another name, or other times."""
    seen = {_identity(each) for each in known}
    kept = []
    for each in found:
        if _identity(each) not in seen:
            kept.append(each)
            seen.add(_identity(each))
    return kept


def _identity(each: Observation) -> tuple[str, tuple[float, ...]]:
    return each.name, each.rounds_us


def _drop_cut_line(file: Path) -> None:
    with file.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 1))
        if log.read() in {b"", b"\n"}:
            return
    os.truncate(file, file.read_bytes().rfind(b"\n") + 1)


def _observation(file: Path, number: int, line: bytes) -> Observation:
    place = f"{file}, line {number}"
    try:
        found = Observation.model_validate_json(line)
        found.parsed()
    except ValidationError as error:
        raise ProfileError(f"{place}{_reason(line, error)}; {NEXT_STEP}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ProfileError(f"{place}, at kernels: must hold kernels, {error}; {NEXT_STEP}") from error
    return found


def _reason(line: bytes, error: ValidationError) -> str:
    try:
        json.loads(line)
    except json.JSONDecodeError as broken:
        return f", column {broken.colno}: must be JSON: {broken.msg}"
    except UnicodeDecodeError as broken:
        return f", column {broken.start + 1}: must be UTF-8"
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the whole line"
    return f", at {where}: {first['msg']}, got {str(first['input'])[:80]!r}"
