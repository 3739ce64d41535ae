"""Latency of ONNX files, measured by the protocol of ``runner.py`` and ``rounds.py``.

Files that are measured together are measured in turns by one process, so that their ratios hold even when the machine
gets slower or faster meanwhile; comparing numbers of two calls is comparing two moments.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autocompress.hardware.child import run_runner
from autocompress.hardware.file_facts import external_files
from autocompress.hardware.rounds import (
    MOST_DISTURBANCE,
    Timed,
    disturbances,
    half_width_ratio,
    summarize,
)
from autocompress.measurement import Latency
from autocompress.target import Target

WARM_UP_MS = 50.0
FILES_AT_ONCE = 16  # more would lie too far apart within a round
RETRY_ABOVE_REJECTED = 1 / 3  # of the rounds
RETRY_MORE_ROUNDS = 1.5


@dataclass(frozen=True, kw_only=True)
class _Protocol:
    rounds: int
    window_ms: float
    seed: int
    timeout_s: float
    shares: bool


def measure_latency(
    files: Sequence[Path],
    target: Target,
    *,
    rounds: int = 12,
    window_ms: float = 60.0,
    seed: int = 0,
    timeout_s: float = 300.0,
    shares: bool = False,
) -> list[Latency]:
    """The latency of each file, all measured in turns; costs about ``rounds * window_ms`` a file and half a second.

    A disturbed measurement is repeated once, with half as many rounds again, and the calmer one counts. Beyond 16 files
    the work is split; every part contains the first file, and where that came out different than in the first part, the
    part is marked noisy.

    Args:
        files: ONNX files with static shapes.
        target: gives threads, and the batch where a file leaves it open.
        rounds: visits to each file.
        window_ms: of one visit, of which two fifths let the caches settle; at least 5 runs unless they are very slow.
        seed: of inputs, order and bootstrap.
        timeout_s: for at most 16 files; no new round begins after a third of it.
        shares: whether ``share_interval`` is filled in, of all but the first file.

    Raises:
        MeasurementError: the runtime cannot load or run one of the files, or the time is over.
    """
    protocol = _Protocol(rounds=rounds, window_ms=window_ms, seed=seed, timeout_s=timeout_s, shares=shares)
    latencies: list[Latency] = []
    for part in _parts(files):
        measured = _calmer_of_two(part, target, protocol)
        if latencies:
            moved = abs(measured[0].median_ms / latencies[0].median_ms - 1) > MOST_DISTURBANCE
            measured = [item.model_copy(update={"noisy": item.noisy or moved}) for item in measured[1:]]
        latencies += measured
    return latencies


def a_a_floor(file: Path, target: Target, *, seed: int = 0) -> float:
    """Relative difference between a file and its own copy, measured as two: no smaller difference means anything."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        for part in (file, *external_files(file)):
            copied = Path(folder) / part.relative_to(file.parent)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, copied)
        first, second = measure_latency([file, Path(folder) / file.name], target, seed=seed)
    return abs(first.median_ms / second.median_ms - 1)


def _parts(files: Sequence[Path]) -> list[Sequence[Path]]:
    if len(files) <= FILES_AT_ONCE:
        return [files] if files else []
    first, rest, size = files[0], files[1:], FILES_AT_ONCE - 1
    return [[first, *rest[start : start + size]] for start in range(0, len(rest), size)]


def _calmer_of_two(files: Sequence[Path], target: Target, protocol: _Protocol) -> list[Latency]:
    first = _measure_once(files, target, protocol)
    if not _is_disturbed(first):
        return first
    more_rounds = round(protocol.rounds * RETRY_MORE_ROUNDS)
    second = _measure_once(files, target, replace(protocol, rounds=more_rounds, seed=protocol.seed + 1))
    return min(first, second, key=_unrest)


def _unrest(latencies: Sequence[Latency]) -> tuple[int, float]:
    return sum(item.noisy for item in latencies), max(map(half_width_ratio, latencies))


def _is_disturbed(latencies: Sequence[Latency]) -> bool:
    item = latencies[0]
    if item.unrest > 1:  # the runner has waited for a calm moment in vain
        return False
    rejected_ratio = item.rejected_rounds / (item.rounds + item.rejected_rounds)
    return rejected_ratio > RETRY_ABOVE_REJECTED or any(each.noisy for each in latencies)


def _measure_once(files: Sequence[Path], target: Target, protocol: _Protocol) -> list[Latency]:
    lines = run_runner(
        "latency",
        files,
        timeout_s=protocol.timeout_s,
        threads=target.threads,
        batch=target.batch,
        rounds=protocol.rounds,
        window_ms=protocol.window_ms,
        warm_up_ms=WARM_UP_MS,
        seed=protocol.seed,
        time_limit_s=protocol.timeout_s / 3,
    )
    timed = {line.file: Timed(**line.content) for line in lines if line.kind == "times"}
    calmness = next(line.content for line in lines if line.kind == "calmness")
    disturbance, unrest = disturbances(**calmness), calmness["unrest"]
    return [
        summarize(
            timed[index],
            disturbance,
            unrest,
            threads=target.threads,
            seed=protocol.seed,
            beside=timed[0] if protocol.shares and index else None,
        )
        for index in range(len(files))
    ]
