"""What a run tells whoever watches it. Nothing below the command line prints; it calls these instead."""

from typing import Protocol

from autocompress.measurement import ModelFacts
from autocompress.result import TrialRecord


class Observer(Protocol):
    """Receives the events of a run, in the driver's process and thread."""

    def stage(self, name: str, detail: str = "") -> None:
        """A new stage begins."""

    def progress(self, done: int, total: int, what: str = "") -> None:
        """How far the current stage is."""

    def trial(self, record: TrialRecord) -> None:
        """A trial has ended."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def deadline(self, seconds_left: float) -> None:
        """How long the run may still take."""

    def baseline(self, facts: ModelFacts) -> None:
        """The original has been measured; told again when its accuracy is known."""


class Silence:
    """An observer that ignores everything."""

    def stage(self, name: str, detail: str = "") -> None:
        """Ignore."""

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Ignore."""

    def trial(self, record: TrialRecord) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""

    def deadline(self, seconds_left: float) -> None:
        """Ignore."""

    def baseline(self, facts: ModelFacts) -> None:
        """Ignore."""
