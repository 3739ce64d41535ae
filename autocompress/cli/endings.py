"""How a command ends that does not end well: an exit code, and an error for people or for programs."""

import json
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from autocompress.errors import AutocompressError

FAILURE, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143
DEBUG_VARIABLE = "AUTOCOMPRESS_DEBUG"


class Terminated(KeyboardInterrupt):  # no error: it unwinds as Ctrl-C does
    """The process was asked to end (SIGTERM)."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """An exit code, the kind of error and its message; what was stopped on purpose is no error."""

    code: int
    kind: str
    message: str
    is_error: bool = True

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps({"error": {"kind": self.kind, "message": self.message}}, indent=2, ensure_ascii=False)


def ending_of(error: BaseException) -> Ending:
    """What ``error`` means to the user; notes that were added to it follow its message."""
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, AutocompressError):
        return Ending(code=error.exit_code, kind=type(error).__name__, message=f"{error}{notes}")
    if isinstance(error, Terminated):
        return Ending(code=TERMINATED, kind="Terminated", message=f"stopped by SIGTERM{notes}", is_error=False)
    if isinstance(error, KeyboardInterrupt):
        return Ending(code=INTERRUPTED, kind="Interrupted", message=f"stopped by Ctrl-C{notes}", is_error=False)
    first = next(iter(str(error).splitlines()), "") or "no message"
    message = f"{type(error).__name__}: {first}; this should not happen: --debug shows where{notes}"
    return Ending(code=FAILURE, kind=type(error).__name__, message=message)


def complain(ending: Ending) -> None:
    """Print ``ending`` to standard error."""
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble(("error: ", "bold red"), ending.message) if ending.is_error else Text(ending.message)
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def show_traceback(error: BaseException) -> None:
    """Print where ``error`` arose to standard error."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False).print(Text("".join(traceback.format_exception(error))), soft_wrap=True)


def wants_debug(*, flag: bool) -> bool:
    """Whether tracebacks are asked for, by the flag or by the environment."""
    return flag or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """SIGTERM raises ``Terminated`` in the main thread, so that a run keeps what it has."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # Python allows no handlers there
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
