"""What a run tells whoever watches it. Nothing below the command line prints; it calls these instead."""

from collections.abc import Iterable
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


class Remembering:
    """Tells another observer everything, and remembers the notes: what a result says was decided or went wrong."""

    def __init__(self, observer: Observer, told: Iterable[str] = ()) -> None:
        self._observer = observer
        self._notes = dict.fromkeys(told)

    @property
    def notes(self) -> tuple[str, ...]:
        """Each once, in their order; ``told`` come first."""
        return tuple(self._notes)

    def forget(self, text: str) -> None:
        """Leave a note out after all."""
        self._notes.pop(text, None)

    def stage(self, name: str, detail: str = "") -> None:
        """Pass on."""
        self._observer.stage(name, detail)

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Pass on."""
        self._observer.progress(done, total, what)

    def trial(self, record: TrialRecord) -> None:
        """Pass on."""
        self._observer.trial(record)

    def note(self, text: str) -> None:
        """Pass on and remember."""
        self._notes[text] = None
        self._observer.note(text)

    def deadline(self, seconds_left: float) -> None:
        """Pass on."""
        self._observer.deadline(seconds_left)

    def baseline(self, facts: ModelFacts) -> None:
        """Pass on."""
        self._observer.baseline(facts)


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
