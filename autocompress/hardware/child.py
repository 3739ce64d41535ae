"""One measurement at a time on this machine, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from autocompress.errors import MeasurementError
from autocompress.hardware.calm import known_calm, remember_calm

RUNNER = Path(__file__).with_name("runner.py")
_SHOWN_STDERR_CHARS = 400


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing that the runner reported; ``file`` is the index into the plan's files."""

    kind: str
    file: int | None
    content: dict[str, Any]


def machine_lock() -> FileLock:
    """The lock that whoever measures on this machine holds: two at once would measure each other."""
    return FileLock(Path(tempfile.gettempdir()) / f"autocompress-measuring-{os.getuid()}.lock")


def run_runner(mode: str, files: Sequence[Path], *, timeout_s: float, **settings: object) -> list[Line]:
    """What ``runner.py`` reports of ``files``, run alone on this machine.

    Raises:
        MeasurementError: a file cannot be loaded or run, the process died, or ``timeout_s`` passed.
    """
    for file in files:
        if not file.is_file():
            raise MeasurementError(f"a file to measure must exist, got {file}")
    plan = plan_of(mode, files, **settings)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder, machine_lock():
        plan_file = Path(folder) / "plan.json"
        plan_file.write_text(json.dumps(plan))
        lines = _lines_of([str(RUNNER), str(plan_file)], files, timeout_s)
    for line in lines:
        if line.kind == "calm":
            remember_calm(line.content["fastest"])
    return lines


def plan_of(mode: str, files: Sequence[Path], **settings: object) -> dict[str, Any]:
    """What ``runner.py`` is told."""
    return {"mode": mode, "files": [str(file.resolve()) for file in files], "fastest": known_calm(), **settings}


def started(arguments: Sequence[str], stderr: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    """The runner at work, its lines on ``stdout``."""
    # -P keeps the script's folder off sys.path, where our modules would hide those of the standard library. The process
    # gets its own group, so that Ctrl-C reaches only us and we decide how it ends.
    command = [sys.executable, "-P", *arguments]
    return subprocess.Popen(  # noqa: S603 - our interpreter and our script
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, errors="replace", start_new_session=True
    )


def _lines_of(arguments: list[str], files: Sequence[Path], timeout_s: float) -> list[Line]:
    child = started(arguments)
    try:
        output, complaints = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        kill(child)
        raise MeasurementError(
            f"measuring must end within {timeout_s:g} s, {_names(files)} did not; raise the time limit or measure fewer"
        ) from error
    except BaseException:
        kill(child)
        raise
    lines = [
        line_of(text) for text in output.splitlines(keepends=True) if text.endswith("\n")
    ]  # not one cut off by death
    _raise_failures(lines, files, child.returncode, complaints)
    return lines


def line_of(text: str) -> Line:
    """What one line of the runner's output says."""
    content = json.loads(text)
    return Line(kind=content.pop("kind"), file=content.pop("file", None), content=content)


def _raise_failures(lines: Sequence[Line], files: Sequence[Path], code: int, complaints: str) -> None:
    for line in lines:
        if line.kind == "error" and line.file is not None:
            raise MeasurementError(
                f"the runtime must load and run {files[line.file]}; it says: {line.content['message']}"
            )
    if code == 0:
        return
    stage = next((line.file for line in reversed(lines) if line.kind == "stage"), None)
    place = _names(files) if stage is None else str(files[stage])
    raise MeasurementError(
        f"the measuring process must survive {place}, it died with {cause_of_death(code)}; it said last: "
        f"{complaints.strip()[-_SHOWN_STDERR_CHARS:]}"
    )


def cause_of_death(code: int) -> str:
    """The signal or the exit code that a process ended with."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def kill(child: "subprocess.Popen[str]") -> None:
    """End a process and all that it has started, whatever they are doing."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files)
