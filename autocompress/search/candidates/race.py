"""A short race of architectures on data: all train for the same steps, the better third again for thrice as many."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from autocompress.measurement import ModelFacts
from autocompress.recipe import Arithmetic, Distill, PassStep, Recipe, Recovery
from autocompress.search.launcher import Job, Launcher, Work
from autocompress.students.family import Architecture
from autocompress.students.recovery import student_recovery
from autocompress.trial import Bench

GROWTH = 3  # of steps from one round to the next, which a third of the field sees
ROUNDS = 2
FEWEST_STEPS = 20
OVERHEAD_S = 4.0  # of a job beside training: building, exporting, judging
LEAST_S = 1.0
STUDENT = "student"


@dataclass(frozen=True, kw_only=True)
class Place:
    """How far an architecture came: its last ``round``, from 1, and what ``steps`` of that one's training gave."""

    round: int = 0
    steps: int = 0
    facts: ModelFacts | None = None
    error: str | None = None

    @property
    def merit(self) -> tuple[int, float]:
        """Sorts places: later rounds first, then accuracy."""
        accuracy = None if self.facts is None else self.facts.accuracy_val
        return (self.round, accuracy) if accuracy is not None else (-1, 0.0)


def recipe_of(architecture: Architecture, recovery: Recovery, seed: int) -> Recipe:
    """Training of an architecture from nothing."""
    settings = {"family": architecture.family, "values": dict(architecture.values)}
    return Recipe(passes=(PassStep(name=STUDENT, settings=settings),), recovery=recovery, seed=seed)


def recovery_of(steps: int, arithmetic: Arithmetic, student: nn.Module) -> Recovery:
    """Settings of a training from nothing, on labels."""
    return student_recovery(Recovery(steps=steps, distill=Distill(logits=0.0), arithmetic=arithmetic), student)


def affordable_steps(seconds: float, steps_per_s: float, slots: int, field: int) -> int:
    """Steps of the first round, so that all rounds fit into ``seconds``.

    Every round takes about as many steps in all as the first.
    """
    waves = _waves(slots, field)
    trained = sum(count * GROWTH**turn for turn, count in enumerate(waves))
    return max(FEWEST_STEPS, int((seconds - sum(waves) * OVERHEAD_S) * steps_per_s / trained))


def limit_of_jobs(seconds: float, turn: int, slots: int, field: int) -> float:
    """Seconds that one training in round ``turn`` may last, so that it and all rounds to come fit into ``seconds``."""
    ahead = list(enumerate(_waves(slots, field)))[turn:]
    trained = sum(count * float(GROWTH) ** (later - turn) for later, count in ahead)
    return max(LEAST_S, (seconds - sum(count for _, count in ahead) * OVERHEAD_S) / trained)


def _waves(slots: int, field: int) -> list[int]:
    """How often in each round all slots are filled anew."""
    return [math.ceil(math.ceil(field / GROWTH**turn) / slots) for turn in range(ROUNDS)]


@dataclass(frozen=True, kw_only=True)
class Race:
    """One race; ``bench.base`` is any network with as many outputs, as ``recoveries`` follow labels.

    Where the machine is slower than was planned, trainings come to the end of their schedules sooner, so that all is
    over after about ``limit_s``.
    """

    bench: Bench
    launcher: Launcher
    recoveries: Sequence[Recovery]
    seed: int = 0
    limit_s: float = math.inf
    progress: Callable[[int, int], None] = lambda _done, _total: None

    def run(self, field: Sequence[Architecture]) -> list[Place]:
        """The place of each."""
        places = [Place()] * len(field)
        running = list(range(len(field)))
        total = sum(math.ceil(len(field) / GROWTH**turn) for turn in range(ROUNDS))
        ended, started = 0, time.monotonic()
        for turn in range(ROUNDS):
            left_s = self.limit_s - (time.monotonic() - started)
            limit_s = limit_of_jobs(left_s, turn, self.launcher.slots(), len(field))
            jobs = [
                Job(key=index, work=Work.TRIAL, recipe=self._recipe(field[index], index, turn), limit_s=limit_s)
                for index in running
            ]
            for done in self.launcher.run(self.bench, jobs):
                ended += 1
                self.progress(ended, total)
                if done.product is not None:
                    places[done.key] = Place(round=turn + 1, steps=done.product.steps, facts=done.product.facts)
                elif turn == 0:
                    places[done.key] = Place(error=(done.error or "").strip().rpartition("\n")[2])
            best = sorted(running, key=lambda index: places[index].merit, reverse=True)
            running = best[: math.ceil(len(field) / GROWTH ** (turn + 1))]
        return places

    def _recipe(self, architecture: Architecture, index: int, turn: int) -> Recipe:
        recovery = self.recoveries[index]
        return recipe_of(architecture, recovery.model_copy(update={"steps": recovery.steps * GROWTH**turn}), self.seed)
