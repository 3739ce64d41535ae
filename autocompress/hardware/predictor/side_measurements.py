"""What is measured of a few networks of a session beside their latency: peak RAM, and energy where a meter is.

Each peak is that of one fresh process, where a certificate takes the highest of five: some files peak at one of two
heights, and coefficients that were fitted here predict a usual start of them.
"""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic as clock
from typing import TypeVar

from autocompress.errors import MeasurementError
from autocompress.hardware.child import machine_lock
from autocompress.hardware.drawn.draw import Drawn
from autocompress.hardware.kernels.runtime_graph import runtime_graph
from autocompress.hardware.memory import measure_peak_ram
from autocompress.hardware.predictor.decoded import decoded_bytes
from autocompress.hardware.predictor.energy import FEWEST_METERED, EnergyCoefficients, Work, fit_energy, work_in
from autocompress.hardware.predictor.memory import TYPICAL, RamCoefficients, RamFeatures, fit_ram, ram_features
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.profile import read_facts, update_facts
from autocompress.hardware.predictor.training import Session
from autocompress.hardware.rapl import SHORTEST_S, Meter, metered_mj
from autocompress.hardware.runner import open_session, random_feed
from autocompress.target import Target

SHARE = 0.05  # of a session's time for RAM, and as much again for energy
FEWEST_PEAKS = 4  # below it the coefficients stay as they are

T = TypeVar("T")


def share_beside(meter: Meter | None) -> float:
    """The share of a session's time that ``measure_beside`` takes."""
    return SHARE if meter is None else 2 * SHARE


def measure_beside(folder: Path, session: Session, target: Target, *, seconds: float, meter: Meter | None) -> None:
    """Fit RAM and energy to some networks of ``session``, and keep the coefficients in the profile in ``folder``.

    Where too few could be measured, those of an earlier session stay. RAM is pulled towards them, so they count.

    Args:
        folder: of the profile.
        session: that has ended.
        target: runtime, threads and batch.
        seconds: of the session in all, of which this takes its share.
        meter: None where there is none; the profile then states the estimates of the literature.
    """
    facts, seen = read_facts(folder), {each.name: each for each in session.observations}
    some = [each for each in session.some if each.name in seen]
    ram = _ram(some, target, facts.ram or TYPICAL, SHARE * seconds)
    update_facts(folder, ram=ram or facts.ram, energy=facts.energy or EnergyCoefficients())
    if meter is not None and (energy := _energy(some, seen, target, meter, SHARE * seconds)) is not None:
        update_facts(folder, energy=energy)


def _ram(drawn: Sequence[Drawn], target: Target, typical: RamCoefficients, seconds: float) -> RamCoefficients | None:
    def peak(_: Drawn, file: Path) -> tuple[RamFeatures, int]:
        features = ram_features(runtime_graph(file, target), decoded_bytes(file))
        return features, measure_peak_ram(file, target, processes=1)

    found = [each for each in _measured(drawn, peak, seconds) if each[1] > 0]
    return fit_ram(found, typical) if len(found) >= FEWEST_PEAKS else None


def _energy(
    drawn: Sequence[Drawn], seen: dict[str, Observation], target: Target, meter: Meter, seconds: float
) -> EnergyCoefficients | None:
    def energy(each: Drawn, file: Path) -> tuple[Work, float, float]:
        known = seen[each.name]
        session = open_session(str(file), target.threads)
        feed = random_feed(session, target.batch, seed=0)
        session.run(None, feed)
        with machine_lock():
            spent_mj = metered_mj(meter, lambda: session.run(None, feed))
        return work_in(kernel for kernel, _ in known.parsed()), known.median_us / 1e3, spent_mj

    if seconds < FEWEST_METERED * 2 * SHORTEST_S:  # each rests as long as it runs
        return None
    found = [each for each in _measured(drawn, energy, seconds) if each[2] > 0]
    return fit_energy(found) if len(found) >= FEWEST_METERED else None


def _measured(drawn: Sequence[Drawn], measure: Callable[[Drawn, Path], T], seconds: float) -> list[T]:
    """What ``measure`` says of each network while there is time for one more; those it cannot measure are left out."""
    started, longest_s, found = clock(), 0.0, []
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        file = Path(folder, "network.onnx")
        for each in drawn:
            begun = clock()
            if begun - started + longest_s > seconds:
                break
            file.write_bytes(each.proto)
            with contextlib.suppress(MeasurementError, OSError):
                found.append(measure(each, file))
            longest_s = max(longest_s, clock() - begun)
    return found
