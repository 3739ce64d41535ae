"""How long each kind of work has taken so far, to know what there is still time for."""

from dataclasses import dataclass, field

from autocompress.rungs import Rung


@dataclass
class Pace:
    """The longest seconds of a build and of each rung; ``measure_s`` is of one file among those measured together."""

    build_s: float = 0.0
    measure_s: float = 0.0
    _rungs: dict[int, tuple[int, float]] = field(default_factory=dict)

    def built(self, seconds: float) -> None:
        """A candidate was built."""
        self.build_s = max(self.build_s, seconds)

    def measured(self, files: int, seconds: float) -> None:
        """So many files were measured together."""
        self.measure_s = seconds / max(1, files)

    def trained(self, rung: Rung, seconds: float) -> None:
        """A rung has ended."""
        _, longest_s = self._rungs.get(rung.number, (0, 0.0))
        self._rungs[rung.number] = (rung.last - rung.first, max(longest_s, seconds))

    def of_rung(self, rung: Rung) -> float:
        """Seconds to expect; in proportion to its steps from the nearest rung before, 0 where nothing is known."""
        known = [number for number in self._rungs if number <= rung.number]
        if not known:
            return 0.0
        steps, seconds = self._rungs[max(known)]
        return seconds * max(1.0, (rung.last - rung.first) / max(1, steps))

    def whole_s(self) -> float:
        """Seconds of a candidate from being built to its end, as far as that is known."""
        return self.build_s + sum(seconds for _, seconds in self._rungs.values())
