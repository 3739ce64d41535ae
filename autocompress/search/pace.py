"""How long a trial should train, and how long each kind of work has taken, to know what there is still time for."""

from dataclasses import dataclass, field

from autocompress.rungs import Rung

TRIALS_AIMED = 16  # trained candidates that a run's search time should hold
OVERHEAD_S = 5.0  # at least, of a trial beside training: building, exporting, judging
TRAINING_S = (3.0, 120.0)


def training_s_of_trial(search_s: float, slots: int, file_s: float) -> float:
    """Seconds that a trial trains.

    As long as so many trials allow; but no shorter than all that a trial takes beside it, where two in a row have half
    of the time for that: more trials that are hardly trained would take nearly as long, and tell less.

    Args:
        search_s: that are left to the search.
        slots: on which trials run side by side.
        file_s: what an untrained file took to be built, exported and measured, by the clock, on all slots.
    """
    overhead_s = max(OVERHEAD_S, slots * file_s)
    shortest, longest = TRAINING_S
    worth_s = min(overhead_s, search_s / 4 - overhead_s)
    return min(max(search_s * slots / TRIALS_AIMED - overhead_s, worth_s, shortest), longest)


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
