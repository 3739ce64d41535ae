"""Where work is done: a protocol, and the launcher that does it here, one job after another."""

import math
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch

from autocompress.divergence import divergence, original_of
from autocompress.recipe import Recipe
from autocompress.result import SCORED_SAMPLES
from autocompress.trial import Bench, Product, finalist_of, make_structure, product_of, run_trial


class Work(StrEnum):
    """What to do with a recipe."""

    STRUCTURE = "structure"  # export untrained
    TRIAL = "trial"  # recover, export, judge
    FINALIST = "finalist"  # the same, and keep everything
    DIVERGENCE = "divergence"  # how far outputs move before recovery; of several recipes in one job


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work; ``threads`` is how many cores it may use, and how many it waits for.

    ``more`` are further recipes of a job that takes several at once.
    """

    key: int
    work: Work
    recipe: Recipe
    threads: int = 1
    more: tuple[Recipe, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished job: either ``product`` (of a divergence, ``divergences``: one for each recipe), or why not.

    A divergence that could not be measured is not a number; ``error`` is that of the first of them.
    """

    key: int
    product: Product | None = None
    error: str | None = None
    divergences: tuple[float, ...] = ()


class Launcher(Protocol):
    """Runs jobs on a shared bench."""

    def slots(self) -> int:
        """How many one-thread jobs run at once now."""

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        """Each job's end, in the order in which they end. An error in a job is part of its ``Done``."""

    def close(self) -> None:
        """Free what the launcher holds."""


class SerialLauncher:
    """In this process, one job after another: for tests and for debugging."""

    def slots(self) -> int:
        """One."""
        return 1

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        """Each job in turn."""
        return (perform(bench, job) for job in jobs)

    def close(self) -> None:
        """Nothing to free."""


def perform(bench: Bench, job: Job) -> Done:
    """Do one job; whatever it raises ends in ``error`` with its traceback, so that a bad candidate ends alone."""
    try:
        if job.work is Work.DIVERGENCE:
            divergences, error = _divergences(bench, job)
            return Done(key=job.key, divergences=divergences, error=error)
        return Done(key=job.key, product=_product(bench, job))
    except Exception:  # whatever a candidate breaks ends that candidate alone
        return Done(key=job.key, error=traceback.format_exc(limit=-6))


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


def _product(bench: Bench, job: Job) -> Product:
    if job.work is Work.STRUCTURE:
        return product_of(make_structure(bench, job.recipe, threads=job.threads), file=True)
    if job.work is Work.FINALIST:
        return finalist_of(run_trial(bench, job.recipe, threads=job.threads), bench)
    return product_of(run_trial(bench, job.recipe, threads=job.threads, most_samples=SCORED_SAMPLES), file=False)
