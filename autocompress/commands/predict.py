"""The latency of any ONNX file on this machine, predicted from the machine's profile."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from autocompress.errors import InputError, ProfileError
from autocompress.facts import Facts
from autocompress.hardware.kept import Circumstances, circumstances_of
from autocompress.hardware.kernels.runtime_graph import runtime_graph
from autocompress.hardware.machine import this_machine
from autocompress.hardware.predictor.circumstances import differences, require_same
from autocompress.hardware.predictor.decoded import decoded_bytes
from autocompress.hardware.predictor.energy import EnergyCoefficients, estimate_energy, work_in
from autocompress.hardware.predictor.kept_fit import predictor_in
from autocompress.hardware.predictor.kernel_model import LEAST_FOR_RATES
from autocompress.hardware.predictor.memory import TYPICAL, predict_ram, ram_features
from autocompress.hardware.predictor.notes import notes_on
from autocompress.hardware.predictor.predictor import KernelRow
from autocompress.hardware.predictor.profile import ProfileFacts, is_profile, latest_profile, place_of, read_facts
from autocompress.measurement import Interval
from autocompress.paths import near_path
from autocompress.target import Target

# Power to which the ratio of an interval's end to the prediction is raised under other circumstances. Ten percent to a
# side become half as much again: what clocks and caches of processors with the same kernels differ by.
MISMATCH_WIDENING = 4.0
MEASURED, LEARNED, ROOFLINE = "measured", "learned", "roofline"


class PredictedKernel(Facts):
    """One kernel; ``source`` says whether its like was measured, learned from others, or merely estimated."""

    name: str
    op: str
    us: float
    interval_us: Interval
    source: str


class FilePrediction(Facts):
    """What a file will cost; ``interval_ms`` holds the latency in nine of ten cases.

    ``measured_ratio`` is the share of the time that comes from kernels which were measured as they are. ``energy_mj``
    is an estimate unless ``energy_source`` says ``metered``. Kernels stand in running order.
    """

    file: str
    latency_ms: float
    interval_ms: Interval
    measured_ratio: float = Field(ge=0, le=1)
    peak_ram_bytes: int
    peak_ram_interval_bytes: tuple[int, int]
    energy_mj: float
    energy_source: str
    kernels: tuple[PredictedKernel, ...]
    notes: tuple[str, ...]
    profile: str
    target: Target


def predict(
    file: str | Path,
    *,
    profile: str | Path | None = None,
    target: Target | None = None,
    allow_mismatch: bool = False,
) -> FilePrediction:
    """What ``file`` will cost here; runs it once, for the shapes of its kernels.

    Args:
        file: any ONNX file that the runtime runs.
        profile: the folder of a profile; None is the one of this machine, runtime and threads, and where there is none
            and ``allow_mismatch`` holds, the one in the cache folder that was updated last.
        target: threads and batch.
        allow_mismatch: use a profile of other circumstances, with wider intervals.

    Raises:
        InputError: no such file.
        ProfileError: no profile, one that cannot be read, or one that does not hold here.
        MeasurementError: the runtime cannot load or run the file; names the operator.
    """
    path, target = Path(file), target or Target()
    if not path.is_file():
        raise InputError(f"predict takes an ONNX file; there is no {path}{near_path(path)}")
    machine = this_machine()
    here = circumstances_of(machine, target.threads)
    folder = _folder(profile, here, allow_mismatch=allow_mismatch)
    facts = read_facts(folder)
    mismatches = differences(facts.circumstances, here)
    if not allow_mismatch:
        require_same(facts.circumstances, here, folder)
    predictor, notes = predictor_in(folder, facts)
    graph = runtime_graph(path, target)
    found = predictor.predict(graph)
    widening = MISMATCH_WIDENING if mismatches else 1.0
    ram = predict_ram(ram_features(graph, decoded_bytes(path)), facts.ram or TYPICAL)
    energy = facts.energy or EnergyCoefficients()
    return FilePrediction(
        file=str(path),
        latency_ms=found.ms,
        interval_ms=_widened(found.ms, found.interval_ms, widening),
        measured_ratio=0.0 if mismatches else min(1.0, max(0.0, found.measured_share)),
        peak_ram_bytes=ram.bytes,
        peak_ram_interval_bytes=(ram.low, ram.high),
        energy_mj=estimate_energy(work_in(placed.kernel for placed in graph.kernels), found.ms, energy),
        energy_source=energy.source,
        kernels=tuple(_row(row, widening, is_elsewhere=bool(mismatches)) for row in found.rows),
        notes=(
            *notes,
            *(f"the profile is of other circumstances, so intervals are wider: {text}" for text in mismatches),
            *found.notes,
            *_seldom_seen(found.rows),
            *notes_on(graph, [row.us for row in found.rows], machine.channel_block),
        ),
        profile=str(folder),
        target=target,
    )


def _folder(profile: str | Path | None, here: Circumstances, *, allow_mismatch: bool) -> Path:
    folder = place_of(here) if profile is None else Path(profile)
    if profile is not None or is_profile(folder):
        return folder
    latest = latest_profile()
    if latest is not None and allow_mismatch:
        return latest[0]
    threads = f" --threads {here.threads}" if here.threads > 1 else ""
    raise ProfileError(
        f"predict needs a profile of this machine with threads {here.threads}, there is none in {folder} yet; "
        f"`autocompress profile{threads}` makes one, in 5 minutes (--time 1m for a rougher one)"
        f"{_instead(*latest, here) if latest else ''}"
    )


def _instead(folder: Path, facts: ProfileFacts, here: Circumstances) -> str:
    differing = "; ".join(differences(facts.circumstances, here))
    return f", or --allow-mismatch predicts with wider intervals from the one in {folder}, which differs: {differing}"


def _widened(value: float, interval: Interval, power: float) -> Interval:
    low, high = interval
    return value * (low / value) ** power, value * (high / value) ** power


def _row(row: KernelRow, widening: float, *, is_elsewhere: bool) -> PredictedKernel:
    interval = _widened(row.us, (row.low_us, row.high_us), widening) if row.us > 0 else (row.low_us, row.high_us)
    source = LEARNED if is_elsewhere and row.source == MEASURED else row.source
    return PredictedKernel(name=row.name, op=row.op, us=row.us, interval_us=interval, source=source)


def _seldom_seen(rows: Sequence[KernelRow]) -> tuple[str, ...]:
    estimated = [row for row in rows if row.source == ROOFLINE]
    if not estimated:
        return ()
    operators = ", ".join(sorted({row.op for row in estimated}))
    ms = sum(row.us for row in estimated) / 1e3
    seldom = f"of a kind that was measured never, or fewer than {LEAST_FOR_RATES} times"
    return (f"{seldom}: {operators}; {ms:.3g} ms of the latency are a rough estimate with a wide interval",)
