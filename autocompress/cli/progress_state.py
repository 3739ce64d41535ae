"""What has been seen of a run so far: one frozen record, and how each event changes it.

Frozen, because the live view draws from another thread: it always has one whole state.
"""

from dataclasses import dataclass, replace

from autocompress.budget import Budget, BudgetRow, Metric
from autocompress.measurement import ModelFacts
from autocompress.result import TrialRecord, TrialState
from autocompress.search.goal import Goal

KEPT = 20  # notes and trials that are remembered; a screen shows fewer


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run as its events told it. Times are those of one monotonic clock, in seconds."""

    title: str = ""
    budget: str = ""
    minimize: Metric = Metric.LATENCY
    started: float = 0.0
    ends: float | None = None
    stage: str = ""
    detail: str = ""
    stage_started: float = 0.0
    finished: tuple[tuple[str, float], ...] = ()  # stages that are over, with their seconds
    done: int = 0
    total: int = 0
    what: str = ""
    baseline: ModelFacts | None = None
    best: TrialRecord | None = None
    trials: tuple[TrialRecord, ...] = ()  # the last ones
    counts: tuple[tuple[TrialState, int], ...] = ()
    notes: tuple[str, ...] = ()  # the last ones

    def count(self, state: TrialState) -> int:
        """How many trials ended so."""
        return dict(self.counts).get(state, 0)

    def goal(self) -> Goal | None:
        """What the run is after; None before the original has been measured, or without a budget."""
        if self.baseline is None or not self.budget:
            return None
        return Goal(budget=Budget.parse(self.budget), baseline=self.baseline, minimize=self.minimize)

    def rows(self) -> tuple[BudgetRow, ...]:
        """The limits beside the best so far, accuracy of the validation split; values are None while there is none."""
        goal = self.goal()
        if goal is None:
            return ()
        facts = self.best.facts if self.best else None
        nothing = ModelFacts(size_bytes=0, macs=0, params=0)
        rows = goal.budget.rows(facts or nothing, goal.baseline, "val")
        return rows if facts else tuple(row.model_copy(update={"value": None, "met": None}) for row in rows)


def begin_stage(seen: Seen, name: str, detail: str, now: float) -> Seen:
    """A stage begins, and the one before it ends."""
    finished = seen.finished
    if seen.stage:
        spent = now - seen.stage_started
        if finished and finished[-1][0] == seen.stage:
            finished, spent = finished[:-1], spent + finished[-1][1]
        finished = (*finished, (seen.stage, spent))
    return replace(seen, stage=name, detail=detail, stage_started=now, finished=finished, done=0, total=0, what="")


def add_trial(seen: Seen, record: TrialRecord) -> Seen:
    """A trial has ended; it is the best if nothing before ranks above it."""
    counts = dict(seen.counts)
    ended = TrialState.COMPLETE if record.is_behind else record.state  # trained, as far as it went
    counts[ended] = counts.get(ended, 0) + 1
    trials = (*seen.trials, record)[-KEPT:]
    return replace(seen, counts=tuple(counts.items()), trials=trials, best=_better(seen, record))


def add_note(seen: Seen, text: str) -> Seen:
    """Something was said; said again, it moves to the end."""
    return replace(seen, notes=(*(note for note in seen.notes if note != text), text)[-KEPT:])


def _better(seen: Seen, record: TrialRecord) -> TrialRecord | None:
    goal, facts = seen.goal(), record.facts
    if goal is None or facts is None or facts.accuracy_val is None or not record.within_budget or record.is_behind:
        return seen.best
    if seen.best is None or seen.best.facts is None:
        return record
    return record if goal.rank(facts) < goal.rank(seen.best.facts) else seen.best
