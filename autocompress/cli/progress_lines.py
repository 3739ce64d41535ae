"""The view without a terminal: one line an event, for logs."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from autocompress.cli.progress_words import costs, moment, time_left, trial_line
from autocompress.measurement import ModelFacts
from autocompress.result import TrialRecord

PROGRESS_EVERY_S = 10.0


class LineView:
    """An observer that writes lines; progress at most every ten seconds."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._started = self._spoke = clock()
        self._left = ""

    def stage(self, name: str, detail: str = "") -> None:
        """A new stage begins."""
        self._say(f"{name}: {detail}" if detail else name)

    def progress(self, done: int, total: int, what: str = "") -> None:
        """How far the current stage is."""
        if self._clock() - self._spoke >= PROGRESS_EVERY_S:
            self._say(f"  {done}/{total} {what}{self._left}")

    def trial(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self._say(f"  {trial_line(record)}")

    def note(self, text: str) -> None:
        """Something the user should know."""
        self._say(f"  note: {text}")

    def deadline(self, seconds_left: float) -> None:
        """How long the run may still take; said with the next progress."""
        self._left = f" ({time_left(seconds_left)})"

    def baseline(self, facts: ModelFacts) -> None:
        """The original has been measured."""
        accuracy = "" if facts.accuracy_val is None else f"accuracy {facts.accuracy_val:.4f}, "
        self._say(f"  original: {accuracy}{costs(facts)}")

    def _say(self, text: str) -> None:
        now = self._clock()
        self._spoke = now
        self._console.print(Text(f"{moment(now - self._started):>6}  {text}"), soft_wrap=True)
