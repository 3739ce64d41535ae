"""Networks drawn and measured until the time is over, each kept at once.

The random part decides how well the predictor knows kernels, so it has nearly all the time. Models of timm bring what
PyTorch's exporter writes; a tenth of the time goes there at most, as an export takes seconds.
"""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from autocompress.events import Observer
from autocompress.hardware.drawn.draw import RANDOM, TIMM, Drawn, draw, draw_timm
from autocompress.hardware.drawn.space import NetworkSpace, profile_space
from autocompress.hardware.predictor.measuring import Failure, Protocol, observe_drawn
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.profile import append, read_observations
from autocompress.target import Machine, Target

FILES_AT_ONCE = 16  # in one process, so that its start counts little
FILE_S = 0.5  # of drawing and measuring one network, before it is known
TIMM_S = 10.0  # of building, exporting and measuring one of timm's models twice, before it is known
FLOOR_FILES = 6


@dataclass(kw_only=True)
class Session:
    """One stretch of measuring. ``first`` are the networks that are measured again for the A/A floor."""

    observations: list[Observation] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    first: list[Drawn] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(kw_only=True)
class _Seeds:
    """The next network of either sort."""

    random: int
    timm: int


def measure_for(
    seconds: float,
    session: Session,
    folder: Path,
    *,
    machine: Machine,
    target: Target,
    observer: Observer,
    protocol: Protocol | None = None,
    most_files: int | None = None,
) -> None:
    """Measure new networks into the profile in ``folder``, going on with the seeds that it has not seen.

    Args:
        seconds: to spend; the batch that is begun in it is finished.
        session: a new one; filled as it goes, so that its maker has it even if this is interrupted.
        folder: of the profile; every observation is on its disk as soon as it is made.
        machine: decides how int8 is written.
        target: runtime, threads and batch.
        observer: told how far it is.
        protocol: how each file is measured; None is the usual way.
        most_files: end after so many.
    """
    space = profile_space()
    seeds = _next_seeds(read_observations(folder)[0])
    started, timm_s = time.monotonic(), 0.0
    while session.seconds < seconds and (most_files is None or len(session.observations) < most_files):
        begun = time.monotonic()
        is_timm = timm_s + (timm_s / max(1, _count(session, TIMM) // 2) or TIMM_S) <= space.timm.share * session.seconds
        size = _batch_size(session, seconds, most_files)
        batch = _timm(seeds, machine, space, session) if is_timm else _random(seeds, size, machine, session)
        if len(session.first) < FLOOR_FILES:
            session.first = [*session.first, *batch][:FLOOR_FILES]
        for each in observe_drawn(batch, target, protocol or Protocol()):
            _keep(each, folder, session)
            session.seconds = time.monotonic() - started
            observer.deadline(seconds - session.seconds)
            observer.progress(int(session.seconds), int(seconds), f"s, {len(session.observations)} networks measured")
        session.seconds = time.monotonic() - started
        timm_s += (time.monotonic() - begun) * is_timm


def a_a_floor_of(session: Session, target: Target, *, protocol: Protocol | None = None) -> float | None:
    """Median relative difference between a file of the session and the same file measured again now; None without."""
    before = {each.name: each for each in session.observations}
    again = [drawn for drawn in session.first if drawn.name in before]
    if not again:
        return None
    measured = [each for each in observe_drawn(again, target, protocol or Protocol()) if isinstance(each, Observation)]
    return median(_difference(before[each.name], each) for each in measured) if measured else None


def _difference(first: Observation, second: Observation) -> float:
    """Relative, at the speed that the machine had at first."""
    if first.reference_ms is not None:
        second = second.at_speed(first.reference_ms)
    return abs(second.median_us / first.median_us - 1)


def _random(seeds: _Seeds, size: int, machine: Machine, session: Session) -> list[Drawn]:
    batch = []
    for _ in range(size):
        name = f"{RANDOM}-{seeds.random}"
        try:
            batch.append(draw(seeds.random, machine))
        except Exception as error:  # a network that the tools refuse is left out
            session.failures.append(Failure(name=name, reason=f"drawing failed: {error}"))
        seeds.random += 1
    return batch


def _timm(seeds: _Seeds, machine: Machine, space: NetworkSpace, session: Session) -> Sequence[Drawn]:
    seeds.timm += 1
    try:
        return draw_timm(seeds.timm - 1, machine, space)
    except Exception as error:  # as above; PyTorch's exporter has errors of its own
        session.failures.append(Failure(name=f"{TIMM}-{seeds.timm - 1}", reason=f"drawing failed: {error}"))
        return ()


def _keep(each: Observation | Failure, folder: Path, session: Session) -> None:
    if isinstance(each, Failure):
        session.failures.append(each)
        return
    append(folder, [each])
    session.observations.append(each)


def _batch_size(session: Session, seconds: float, most_files: int | None) -> int:
    """As many as fit into the time that is left, and at least one."""
    done = len(session.observations)
    file_s = session.seconds / done if done else FILE_S
    fitting = int((seconds - session.seconds) / file_s)
    allowed = FILES_AT_ONCE if most_files is None else most_files - done
    return max(1, min(FILES_AT_ONCE, fitting, allowed))


def _count(session: Session, sort: str) -> int:
    return sum(each.name.startswith(f"{sort}-") for each in session.observations)


def _next_seeds(known: Sequence[Observation]) -> _Seeds:
    return _Seeds(random=max(_seeds(known, RANDOM), default=-1) + 1, timm=max(_seeds(known, TIMM), default=-1) + 1)


def _seeds(known: Sequence[Observation], sort: str) -> Iterator[int]:
    for each in known:
        found = re.match(rf"{sort}-(\d+)", each.name)
        if found:
            yield int(found[1])
