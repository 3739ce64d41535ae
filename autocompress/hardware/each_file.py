"""Many files measured one after the other in a child process, of which none can spoil the others.

One process serves many files, as its start takes as long as measuring one. A file at which it dies or falls silent
costs itself: a new process goes on with the next.
"""

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from autocompress.hardware.calm import remember_calm
from autocompress.hardware.child import RUNNER, Line, cause_of_death, kill, line_of, machine_lock, plan_of, started


def measured_each(mode: str, files: Sequence[Path], *, silence_s: float, **settings: object) -> Iterator[Line]:
    """What ``runner.py`` reports of each file, as it comes; one line a file, ``error`` for one that cannot be measured.

    Nothing else of ours measures on this machine until the iterator is used up or closed.

    Args:
        mode: of the runner.
        files: measured in this order.
        silence_s: what takes longer without a line is killed.
        settings: the rest of the runner's plan.
    """
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder, machine_lock():
        done = 0
        while done < len(files):
            plan_file = Path(folder, "plan.json")
            plan_file.write_text(json.dumps(plan_of(mode, files[done:], **settings)))
            first = done
            for line in _one_process(plan_file, len(files) - first, silence_s):
                done = first + (line.file or 0) + 1
                yield Line(kind=line.kind, file=done - 1, content=line.content)


def _one_process(plan_file: Path, n_files: int, silence_s: float) -> Iterator[Line]:
    """Lines until the process has ended; the last is an error where it did so before its time."""
    child = started([str(RUNNER), str(plan_file)], stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    watch = _Watch(child, silence_s)
    at_work = 0
    try:
        for text in child.stdout:
            watch.begin()
            line = line_of(text) if text.endswith("\n") else None
            if line is not None and line.kind == "calm":
                remember_calm(line.content["fastest"])
            if line is None or line.file is None:
                continue
            at_work = line.file
            if line.kind == "stage":
                continue
            at_work += 1
            yield line
        code = child.wait()
    finally:
        watch.stop()
        kill(child)
    if at_work == n_files:
        return
    if watch.has_bitten:
        yield Line(kind="error", file=at_work, content={"message": f"took longer than {silence_s:g} s"})
    elif code != 0:
        yield Line(kind="error", file=at_work, content={"message": f"the process died with {cause_of_death(code)}"})


class _Watch:
    """Kills a process that says nothing for too long."""

    def __init__(self, child: "subprocess.Popen[str]", silence_s: float) -> None:
        self.has_bitten = False
        self._child, self._silence_s = child, silence_s
        self._timer = threading.Timer(0, lambda: None)
        self.begin()

    def begin(self) -> None:
        """Count from now."""
        self._timer.cancel()
        self._timer = threading.Timer(self._silence_s, self._bite)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Count no longer."""
        self._timer.cancel()

    def _bite(self) -> None:
        self.has_bitten = True
        self._child.kill()
