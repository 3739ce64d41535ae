"""Standard output, kept for the answer alone."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO


@contextmanager
def reserved_stdout() -> Iterator[TextIO]:
    """Where the answer goes; whatever else is written to standard output meanwhile goes to standard error.

    The descriptor is turned around beneath ``sys.stdout``, so native libraries and child processes are caught as well.
    """
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield out
    finally:
        with suppress(BrokenPipeError):  # a reader such as `head` has seen enough
            out.flush()
        os.dup2(out.fileno(), 1)
        with suppress(BrokenPipeError):
            out.close()


def end_stdout() -> None:
    """Let nothing follow the answer: what libraries say while the interpreter ends goes to standard error."""
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    os.dup2(2, 1)
