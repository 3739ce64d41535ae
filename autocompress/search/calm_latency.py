"""Latencies that a certificate can rest on: measured until nothing disturbs them."""

import time
from dataclasses import dataclass

from autocompress.clock import Clock
from autocompress.events import Observer
from autocompress.hardware.rounds import NOISY_HALF_WIDTH
from autocompress.measurement import Interval, Latency
from autocompress.search.costing import measure_files
from autocompress.target import Target

ROUNDS = 12
WINDOW_MS = 60.0
MEASURE_ATTEMPTS = 3  # while something else disturbs them
MOST_STRAY = 0.1  # of the share of the baseline's time that a file took as a trial
PAUSE_S = 5.0
REPORT_S = 3.0  # from the last measurement to the end

Measured = tuple[Latency, dict[int, Latency]]  # the baseline's, and each file's


@dataclass(frozen=True, kw_only=True)
class CalmLatency:
    """Measures files beside the original's, ``baseline_file``.

    ``by_share``: shares of its time are all that counts, which a machine that gets slower for all leaves alone.
    """

    baseline_file: bytes
    target: Target
    clock: Clock
    observer: Observer
    by_share: bool = False

    def of(self, files: dict[int, bytes], expected: dict[int, float]) -> Measured:
        """The baseline's latency and each file's, once they are calm and none strays from what its trial took.

        Integer kernels alone can be slow for seconds while the machine seems calm. Of the calm measurements, or of all
        if there is none, the middle one counts; of two the slower one.

        Args:
            files: the finalists.
            expected: shares of the baseline's time that they took before, where that was measured.
        """
        found: list[Measured] = []
        calm: list[Measured] = []
        taken_s = 0.0
        for attempt in range(MEASURE_ATTEMPTS):
            if attempt and self.clock.left_s < PAUSE_S + taken_s + REPORT_S:
                break
            if attempt:
                why = "a finalist takes another time than its trial" if calm else "something else runs on this machine"
                self.observer.note(f"{why}; the finalists are measured again")
                time.sleep(PAUSE_S)
            began = time.monotonic()
            measured = measure_files(self.baseline_file, files, self.target, rounds=ROUNDS, window_ms=WINDOW_MS)
            taken_s = time.monotonic() - began
            found.append(measured)
            if self._is_calm(measured):
                calm.append(measured)
                if not _strays(measured, expected):
                    return measured
        if not calm:
            self.observer.note(
                "no measurement of the finalists was calm; measure the result again before relying on it"
            )
        among = sorted(calm or found, key=_shares)
        return among[len(among) // 2]

    def _is_calm(self, measured: Measured) -> bool:
        baseline, latencies = measured
        if self.by_share:
            return all(not each.noisy or _is_narrow(each.share_interval) for each in latencies.values())
        return not any(each.noisy for each in (baseline, *latencies.values()))


def _is_narrow(interval: Interval | None) -> bool:
    return interval is not None and interval[1] - interval[0] <= NOISY_HALF_WIDTH * (interval[0] + interval[1])


def _shares(measured: Measured) -> float:
    """What all files take together, in times of the baseline."""
    baseline, latencies = measured
    return sum(latency.median_ms for latency in latencies.values()) / baseline.median_ms


def _strays(measured: Measured, expected: dict[int, float]) -> bool:
    """Whether a file takes another share of the baseline's time than before."""
    baseline, latencies = measured
    shares = {key: latency.median_ms / baseline.median_ms for key, latency in latencies.items()}
    return any(abs(shares[key] / share - 1) > MOST_STRAY for key, share in expected.items())
