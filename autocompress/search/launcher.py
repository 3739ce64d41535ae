"""Where work is done: a protocol, and the launcher that does it here, one job after another."""

import math
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import torch

from autocompress.divergence import divergence, forget_recordings, original_of
from autocompress.export.onnx_file import to_onnx
from autocompress.recipe import Recipe
from autocompress.result import SCORED_SAMPLES
from autocompress.rungs import Rung, keep_state, run_rung
from autocompress.task import Layout, Preprocess
from autocompress.trial import Bench, Product, finalist_of, make_structure, product_of, run_trial


class Work(StrEnum):
    """What to do with a recipe."""

    STRUCTURE = "structure"  # export untrained
    RUNG = "rung"  # recover as far as a rung goes, export, judge
    TRIAL = "trial"  # recover as a whole, export, judge
    FINALIST = "finalist"  # recover, export, judge, and keep everything
    DIVERGENCE = "divergence"  # how far outputs move before recovery; of several recipes in one job


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work; ``threads`` is how many cores it may use, and how many it waits for.

    A ``rung`` goes on from ``state``, the one of the ``Done`` of the rung before, or the file that this was kept in.
    Its own is kept in ``keep``, where that is given. After ``limit_s`` a recovery has come to its end whatever is left.
    ``more`` are further recipes of a job that takes several at once.
    """

    key: int
    work: Work
    recipe: Recipe
    threads: int = 1
    rung: Rung | None = None
    state: Any = None
    keep: Path | None = None
    limit_s: float = math.inf
    more: tuple[Recipe, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished job: either ``product`` (of a divergence, ``divergences``: one for each recipe), or why not.

    ``state`` stands for what the next rung needs; it means something to the launcher that gave it, and to no other.
    A divergence that could not be measured is not a number; ``error`` is that of the first of them.
    """

    key: int
    product: Product | None = None
    error: str | None = None
    state: Any = None
    divergences: tuple[float, ...] = ()


class Launcher(Protocol):
    """Runs jobs on a shared bench: a number of them at once, or one more whenever a slot is free."""

    def slots(self) -> int:
        """How many one-thread jobs run at once now."""

    def ready(self) -> None:
        """Wait until its workers have started: before that, nothing can be measured in peace."""

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        """Each job's end, in the order in which they end. An error in a job is part of its ``Done``."""

    def submit(self, bench: Bench, job: Job) -> None:
        """Begin a job as soon as there is a slot for it."""

    def next_done(self) -> Done:
        """The end of the job that ends next, of those that were submitted and not handed out yet; there must be one."""

    def close(self) -> None:
        """Free what the launcher holds."""


class SerialLauncher:
    """In this process, one job after another in the order of submission: for short runs and for tests."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Bench, Job]] = deque()

    def slots(self) -> int:
        """One."""
        return 1

    def ready(self) -> None:
        """Always."""

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        """Each job in turn."""
        return (perform_here(bench, job) for job in jobs)

    def submit(self, bench: Bench, job: Job) -> None:
        """Remember the job; it is done when its end is asked for."""
        self._waiting.append((bench, job))

    def next_done(self) -> Done:
        """Do the first job that waits."""
        return perform_here(*self._waiting.popleft())

    def close(self) -> None:
        """Let go of the original's activations, which divergences are measured with."""
        forget_recordings()


def warm_up() -> None:
    """Import what jobs need, and export something: the first of them in a process takes seconds longer than others."""
    to_onnx(torch.nn.Linear(1, 1), Preprocess(layout=Layout.AS_STORED, shape=(1,)), batch=1)


def perform_here(bench: Bench, job: Job) -> Done:
    """``perform`` with the state in its ``Done``; the threads of this process stay as they were."""
    threads = torch.get_num_threads()
    try:
        done, state = perform(bench, job, job.state)
    finally:
        torch.set_num_threads(threads)
    return replace(done, state=state)


def perform(bench: Bench, job: Job, state: Any = None) -> tuple[Done, Any]:
    """Do one job, and the state that it leaves.

    Whatever a job raises ends in ``error`` with its traceback, so that a bad candidate ends alone.
    """
    try:
        if job.work is Work.DIVERGENCE:
            divergences, error = _divergences(bench, job)
            return Done(key=job.key, divergences=divergences, error=error), None
        product, left = _product(bench, job, state)
        return Done(key=job.key, product=product), left
    except Exception:  # whatever a candidate breaks ends that candidate alone
        return Done(key=job.key, error=traceback.format_exc(limit=-6)), None


def _divergences(bench: Bench, job: Job) -> tuple[tuple[float, ...], str | None]:
    """Of each recipe, and the first error; a recipe that raises is not a number."""
    torch.set_num_threads(job.threads)
    original, found, errors = original_of(bench), [], []
    for recipe in (job.recipe, *job.more):
        try:
            found.append(divergence(bench, recipe, original))
        except Exception:  # as above
            found.append(math.nan)
            errors.append(traceback.format_exc(limit=-6))
    return tuple(found), errors[0] if errors else None


def _product(bench: Bench, job: Job, state: Any) -> tuple[Product, Any]:
    if job.work is Work.STRUCTURE:
        return product_of(make_structure(bench, job.recipe, threads=job.threads), file=True), None
    if job.work is Work.FINALIST:
        made = run_trial(bench, job.recipe, threads=job.threads, limit_s=job.limit_s)
        return finalist_of(made, bench), None
    if job.work is Work.TRIAL:
        made = run_trial(bench, job.recipe, threads=job.threads, most_samples=SCORED_SAMPLES, limit_s=job.limit_s)
        return product_of(made, file=False), None
    assert job.rung is not None
    made, left = run_rung(
        bench,
        job.recipe,
        state,
        job.rung,
        threads=job.threads,
        most_samples=SCORED_SAMPLES,
        limit_s=job.limit_s,
    )
    if job.keep is not None:
        keep_state(left, job.keep)
    return finalist_of(made, bench) if job.rung.is_final else product_of(made, file=False), left
