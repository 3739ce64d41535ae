"""The processor's own energy meter (RAPL), where the system lets us read it: package counters below powercap.

It counts whole packages, whatever runs there; what the idle machine takes is measured before and subtracted. Virtual
machines mostly have none, and elsewhere reading may need root.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autocompress.errors import MeasurementError

POWERCAP = Path("/sys/class/powercap")
SHORTEST_S = 1.0  # counters advance about a thousand times a second; shorter windows give nonsense


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Counters in microjoules, one a package, and where each starts again from zero."""

    counters: tuple[Path, ...]
    ranges_uj: tuple[int, ...]

    def read_uj(self) -> tuple[int, ...]:
        """All counters now."""
        return tuple(int(counter.read_text()) for counter in self.counters)

    def spent_mj(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Millijoules between two readings; a counter that started again once is followed around."""
        pairs = zip(before, after, self.ranges_uj, strict=True)
        return sum((then - now if then >= now else then - now + span) for now, then, span in pairs) / 1e3


def find_meter(folder: Path = POWERCAP) -> Meter | None:
    """The meter of this machine; None where there is none that we may read."""
    counters, ranges = [], []
    for package in sorted(folder.glob("intel-rapl:*")):
        if package.name.count(":") > 1:  # a part of a package, counted with it
            continue
        try:
            int((package / "energy_uj").read_text())
            ranges.append(int((package / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            return None
        counters.append(package / "energy_uj")
    return Meter(counters=tuple(counters), ranges_uj=tuple(ranges)) if counters else None


def metered_mj(meter: Meter, run: Callable[[], object], *, window_s: float = SHORTEST_S) -> float:
    """Millijoules of one ``run`` beyond what the idle machine takes in its time; runs for ``window_s``.

    Raises:
        MeasurementError: the window is too short for the counters.
    """
    if window_s < SHORTEST_S:
        raise MeasurementError(
            f"energy is metered over at least {SHORTEST_S:g} s, got {window_s:g} s; raise the window"
        )
    idle_watts = _idle_watts(meter, window_s)
    runs, started, before = 0, time.monotonic(), meter.read_uj()
    while (elapsed_s := time.monotonic() - started) < window_s:
        run()
        runs += 1
    spent = meter.spent_mj(before, meter.read_uj())
    return max(0.0, spent - idle_watts * elapsed_s * 1e3) / runs


def _idle_watts(meter: Meter, window_s: float) -> float:
    started, before = time.monotonic(), meter.read_uj()
    time.sleep(window_s)
    return meter.spent_mj(before, meter.read_uj()) / 1e3 / (time.monotonic() - started)
