"""A search from its first ask to its last record, and the guesses that it begins with."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from autocompress.clock import Clock
from autocompress.errors import RunError
from autocompress.result import TrialRecord, TrialState
from autocompress.search.kept_front import KeptFront
from autocompress.search.parameters import RecipeBuilder, Value
from autocompress.search.session import Session, count_trained
from autocompress.search.setting import Setting
from autocompress.search.study import Study

SEED_SPREAD = 0.15  # of the ratios of the first guesses around the uniform recipe that is just feasible
SEEDS = 8
OTHER_SHARE = 0.2  # of the other settings of a guess are random


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search works with; ``run`` does it. ``keep`` is where rungs are kept for a later session, if anywhere.

    ``front`` keeps the files of the best.
    """

    setting: Setting
    study: Study
    clock: Clock
    most_trials: int | None = None
    keep: Path | None = None
    front: KeptFront | None = None

    def run(self) -> tuple[TrialRecord, ...]:
        """Work until time or trials are used up; the records of all finished trials, earlier sessions included.

        Raises:
            RunError: every trial that was not ruled out by its costs failed; with the first cause.
        """
        if self.front is not None:
            self.front.take_up(self.study.records())
        session = Session(
            setting=self.setting,
            study=self.study,
            clock=self.clock,
            most_trials=self.most_trials,
            keep=self.keep,
            front=self.front,
        )
        with beside_workers():
            session.work()
        self.clock.save()
        records = self.study.records()
        _raise_if_all_failed(records)
        return records

    def can_go_on(self) -> bool:
        """Whether there is time for more trials, and no limit on their number forbids it."""
        if self.most_trials is not None and self.trained() >= self.most_trials:
            return False
        longest_s = max((record.seconds for record in self.study.records()), default=0.0)
        return self.clock.search_left_s > longest_s

    def trained(self) -> int:
        """How many candidates were trained, or failed to be; controls apart."""
        return count_trained(self.study.records())


def beside_workers() -> AbstractContextManager[object]:
    """One thread for NumPy's matrices, which are small: more would wait for cores that the workers are using."""
    found: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return found


def _raise_if_all_failed(records: tuple[TrialRecord, ...]) -> None:
    """A search without any success is infeasible only if costs are the reason, not if everything that fits breaks."""
    failed = [record for record in records if record.state is TrialState.FAILED]
    fitting = [record for record in failed if record.within_budget]
    worked = any(record.state is TrialState.COMPLETE for record in records)
    if not worked and (fitting or (failed and len(failed) == len(records))):
        raise RunError(f"every trial failed; the first cause:\n{(fitting or failed)[0].error}")


def first_guesses(builder: RecipeBuilder, starts: list[dict[str, Value]], seed: int) -> list[dict[str, Value]]:
    """Recipes around uniform ones that are just feasible: stages pruned a little more or less, others at random."""
    rng = np.random.default_rng(seed)
    return [_varied(builder, starts[place % len(starts)], rng) for place in range(SEEDS)] if starts else []


def _varied(builder: RecipeBuilder, start: dict[str, Value], rng: np.random.Generator) -> dict[str, Value]:
    guess = dict(start)
    for knob in builder.knobs():
        if knob.range is not None and knob.name.startswith("prune."):
            guess[knob.name] = knob.range.clip(float(start[knob.name]) + float(rng.normal(0.0, SEED_SPREAD)))
        elif knob.range is not None and rng.random() < OTHER_SHARE:
            guess[knob.name] = float(rng.uniform(knob.range.low, knob.range.high))
        elif knob.name == "criterion" or (knob.kind in {"codebook", "tie"} and rng.random() < OTHER_SHARE):
            guess[knob.name] = str(rng.choice(knob.choices))
    return guess
