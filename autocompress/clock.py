"""A run's time: one limit over all sessions of it, and how it is shared among the stages."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

from autocompress.facts import write_whole

# Shares of the whole limit. A longer baseline helps every later stage, longer final recoveries help the result; the
# search takes what is left. CERTIFY covers export, final measuring, evaluation and the report.
BASELINE_SHARE = 0.30
FINISH_SHARE = 0.25
CERTIFY_SHARE = 0.08
LEAST_CERTIFY_S = 8.0  # of that, however short the run is: measuring and reporting do not get shorter with it


class Clock:
    """Counts the seconds of a run, earlier sessions of it included; ``path`` keeps the count between sessions.

    ``whole`` is the clock of what this run is a part of; it is saved whenever this one is.
    """

    def __init__(self, limit_s: float, path: Path | None = None, whole: "Clock | None" = None) -> None:
        self.limit_s = limit_s
        self._path = path
        self._whole = whole
        self._before = _read(path)
        self._started = time.monotonic()
        self.stages: dict[str, float] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """Seconds until the limit; negative after it."""
        return self.limit_s - self.elapsed_s

    @property
    def search_left_s(self) -> float:
        """Seconds until the search must leave the rest to finishing and certifying."""
        return self.finish_left_s - FINISH_SHARE * self.limit_s

    @property
    def finish_left_s(self) -> float:
        """Seconds that final recoveries may take in all."""
        return self.left_s - max(LEAST_CERTIFY_S, CERTIFY_SHARE * self.limit_s)

    def save(self) -> None:
        """Keep the count on disk, so that a killed run goes on with what was left."""
        if self._path is not None:
            write_whole(self._path, json.dumps({"elapsed_s": self.elapsed_s}))
        if self._whole is not None:
            self._whole.save()

    def keep_at(self, path: Path) -> None:
        """Where ``save`` writes from now on."""
        self._path = path

    def book(self, stage: str, seconds: float) -> None:
        """Add to a stage's time."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds


def _read(path: Path | None) -> float:
    if path is None or not path.is_file():
        return 0.0
    return float(json.loads(path.read_text())["elapsed_s"])


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
