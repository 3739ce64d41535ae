"""The view on a terminal: drawn four times a second from what has been seen, and gone when the run ends."""

import time
from dataclasses import replace
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

from autocompress.cli.progress_render import render
from autocompress.cli.progress_state import Seen, add_note, add_trial, begin_stage
from autocompress.measurement import ModelFacts
from autocompress.result import TrialRecord

REFRESHES_PER_S = 4


class LiveView:
    """An observer that keeps ``seen`` up to date and has it drawn."""

    def __init__(self, console: Console, seen: Seen) -> None:
        self.console = console
        self.seen = replace(seen, started=time.monotonic())
        self._live = Live(
            console=console, get_renderable=self._picture, refresh_per_second=REFRESHES_PER_S, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def stage(self, name: str, detail: str = "") -> None:
        """A new stage begins."""
        self.seen = begin_stage(self.seen, name, detail, time.monotonic())

    def progress(self, done: int, total: int, what: str = "") -> None:
        """How far the current stage is."""
        self.seen = replace(self.seen, done=done, total=total, what=what)

    def trial(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self.seen = add_trial(self.seen, record)

    def note(self, text: str) -> None:
        """Something the user should know."""
        self.seen = add_note(self.seen, text)

    def deadline(self, seconds_left: float) -> None:
        """How long the run may still take."""
        self.seen = replace(self.seen, ends=time.monotonic() + seconds_left)

    def baseline(self, facts: ModelFacts) -> None:
        """The original has been measured."""
        self.seen = replace(self.seen, baseline=facts)

    def _picture(self) -> RenderableType:
        return render(self.seen, time.monotonic(), self.console.height)
