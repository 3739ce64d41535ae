"""Networks drawn and measured until the time is over, each kept at once.

Random networks bring kernels of all shapes, half a second each. Students and models of timm bring what PyTorch's
exporter writes, and kernels as real networks join them; to build and export one takes longer, so both have a share of
the time.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from autocompress.events import Observer
from autocompress.hardware.drawn.draw import RANDOM, STUDENT, TIMM, Drawn, draw, draw_student, draw_timm
from autocompress.hardware.drawn.space import NetworkSpace, profile_space
from autocompress.hardware.drawn.together import drawn_together
from autocompress.hardware.predictor.measuring import Failure, Protocol, observe_drawn
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.profile import append, read_observations
from autocompress.target import Machine, Target

FILES_AT_ONCE = 16  # in one process, so that its start counts little
FILE_S = 0.5  # of drawing and measuring one network, before it is known
BUILT_S = 3.0  # of building and exporting a network, and measuring it twice, before it is known
BUILT_AT_ONCE = 4
FLOOR_FILES = 6
SOME_EVERY, SOME_FILES = 8, 24  # kept in memory, some megabytes each


@dataclass(kw_only=True)
class Session:
    """One stretch of measuring.

    ``first`` are the networks that are measured again for the A/A floor; ``some`` are one of every few until they are
    enough, for what is measured beside latency.
    """

    observations: list[Observation] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    first: list[Drawn] = field(default_factory=list)
    some: list[Drawn] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(kw_only=True)
class _Built:
    """Networks that PyTorch builds and exports, each in fp32 and in int8, for at most a ``share`` of the time."""

    name: str
    share: float
    draw: Callable[[int, Machine, NetworkSpace], Sequence[Drawn]]
    seed: int
    one_s: float = BUILT_S  # of building and measuring one
    seconds: float = 0.0
    count: int = 0

    def is_due(self, gone_s: float, left_s: float) -> bool:
        """Whether another batch fits into the share of the time that is gone, and into what is left."""
        batch_s = BUILT_AT_ONCE * self.one_s
        return self.share > 0 and self.seconds + batch_s <= self.share * gone_s and batch_s <= left_s

    def batch(self, machine: Machine, space: NetworkSpace, session: Session) -> list[Drawn]:
        """The next few; one that the tools refuse is left out."""
        seeds = range(self.seed, self.seed + BUILT_AT_ONCE)
        self.seed = seeds.stop
        batch = _batch(self.name, self.draw, seeds, session, machine, space)
        if not batch:
            self.share = 0.0  # it will not go better with the next ones
        return batch

    def book(self, seconds: float) -> None:
        """What the last batch took in all."""
        self.seconds += seconds
        self.count += BUILT_AT_ONCE
        self.one_s = self.seconds / self.count


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
    space, known = profile_space(), read_observations(folder)[0]
    seed = _next_seed(known, RANDOM)
    built = [
        _Built(name=name, share=share, draw=draw_one, seed=_next_seed(known, name))
        for name, share, draw_one in (
            (STUDENT, space.students.share, draw_student),
            (TIMM, space.timm.share, draw_timm),
        )
    ]
    started = time.monotonic()
    while session.seconds < seconds and (most_files is None or len(session.observations) < most_files):
        begun = time.monotonic()
        due = next((each for each in built if each.is_due(session.seconds, seconds - session.seconds)), None)
        if due is None:
            size = _batch_size(session, seconds, most_files)
            batch = _batch(RANDOM, _draw_alone, range(seed, seed + size), session, machine)
            seed += size
        else:
            batch = due.batch(machine, space, session)
        if len(session.first) < FLOOR_FILES:
            session.first = [*session.first, *batch][:FLOOR_FILES]
        if batch and len(session.some) < SOME_FILES:
            place = len(session.some) % min(len(batch), SOME_EVERY)
            session.some = [*session.some, *batch[place::SOME_EVERY]][:SOME_FILES]
        for each in observe_drawn(batch, target, protocol or Protocol()):
            _keep(each, folder, session)
            session.seconds = time.monotonic() - started
            observer.deadline(seconds - session.seconds)
            observer.progress(int(session.seconds), int(seconds), f"s, {len(session.observations)} networks measured")
        session.seconds = time.monotonic() - started
        if due is not None:
            due.book(time.monotonic() - begun)


def a_a_floor_of(session: Session, target: Target, *, protocol: Protocol | None = None) -> float | None:
    """Median relative difference between a file of the session and the same file measured again now; None without."""
    before = {each.name: each for each in session.observations}
    again = [drawn for drawn in session.first if drawn.name in before]
    if not again:
        return None
    measured = [each for each in observe_drawn(again, target, protocol or Protocol()) if isinstance(each, Observation)]
    return median(abs(each.median_us / before[each.name].median_us - 1) for each in measured) if measured else None


def _draw_alone(seed: int, machine: Machine) -> tuple[Drawn]:
    return (draw(seed, machine),)


def _batch(
    sort: str, draw_one: Callable[..., Sequence[Drawn]], seeds: range, session: Session, *about: object
) -> list[Drawn]:
    """The networks of ``seeds``; one that the tools refuse is left out."""
    batch: list[Drawn] = []
    for seed, found in zip(seeds, drawn_together(draw_one, seeds, *about), strict=True):
        if isinstance(found, str):
            session.failures.append(Failure(name=f"{sort}-{seed}", reason=f"drawing failed: {found}"))
        else:
            batch += found
    return batch


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


def _next_seed(known: Sequence[Observation], sort: str) -> int:
    """Beyond those of the networks of a sort that were measured."""
    return max((int(found[1]) for each in known if (found := re.match(rf"{sort}-(\d+)", each.name))), default=-1) + 1
