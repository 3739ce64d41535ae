"""One candidate of a search on its way from an ask to its record."""

from dataclasses import dataclass, field
from typing import Any

from autocompress.facts import Facts
from autocompress.measurement import ModelFacts
from autocompress.recipe import Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.rungs import Rung, rungs_of
from autocompress.search.forecast import Forecast
from autocompress.search.launcher import Done
from autocompress.search.study import Ask
from autocompress.search.summary import summary


class Reached(Facts):
    """What is remembered of a candidate between two rungs; ``recipe`` is a digest."""

    rung: int
    steps: int
    recipe: str
    facts: ModelFacts
    notes: tuple[str, ...]
    work_s: float
    step_s: float | None = None


@dataclass(kw_only=True)
class Candidate:
    """``facts`` once its file is known; ``ended`` is the last rung that was trained, ``state`` what that left."""

    ask: Ask
    recipe: Recipe
    facts: ModelFacts | None = None
    file: bytes | None = None
    forecast: Forecast | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    work_s: float = 0.0
    ended: Rung | None = None
    steps: int | None = None
    step_s: float | None = None
    state: Any = None
    rungs: tuple[Rung, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.rungs = rungs_of(self.recipe.recovery.steps)

    @property
    def key(self) -> int:
        """The trial's number."""
        return self.ask.number

    @property
    def is_control(self) -> bool:
        """Whether it is trained whatever it costs, to the end."""
        return self.ask.control is not None

    def next_rung(self) -> Rung:
        """The one to train now."""
        return self.rungs[0 if self.ended is None else self.ended.number]

    def built(self, done: Done) -> None:
        """Take in the untrained file, or why there is none."""
        self._take(done)
        if done.product is not None:
            self.facts, self.file = done.product.facts, done.product.file

    def trained(self, done: Done, rung: Rung) -> None:
        """Take in the end of a rung: the costs of the structure stay, the accuracy is that of the trained file."""
        self._take(done)
        self.state = done.state
        if done.product is None or self.facts is None:
            return
        self.ended, self.steps = rung, done.product.steps
        self.step_s = done.product.step_s or self.step_s
        judged = done.product.facts
        self.facts = self.facts.model_copy(
            update={"accuracy_val": judged.accuracy_val, "accuracy_val_interval": judged.accuracy_val_interval}
        )

    def _take(self, done: Done) -> None:
        if done.product is None:
            self.error = done.error or "no reason was given"
            return
        self.notes = done.product.notes
        self.work_s += done.product.seconds

    def record(self, state: TrialState, *, within_budget: bool | None) -> TrialRecord:
        """What stays of it."""
        return TrialRecord(
            number=self.ask.number,
            kind=TrialKind.CONTROL if self.is_control else TrialKind.SEARCH,
            state=state,
            summary=summary(self.recipe),
            recipe=self.recipe,
            facts=self.facts,
            within_budget=within_budget,
            forecast_ms=None if self.forecast is None else self.forecast.ms,
            seconds=self.work_s,
            rung=None if self.ended is None else self.ended.number,
            steps=self.steps,
            step_s=self.step_s,
            control=self.ask.control,
            notes=self.notes,
            error=self.error,
        )

    def reached(self) -> Reached:
        """What a later session needs to go on."""
        assert self.ended is not None
        assert self.facts is not None
        return Reached(
            rung=self.ended.number,
            steps=self.steps or 0,
            recipe=self.recipe.digest(),
            facts=self.facts,
            notes=self.notes,
            work_s=self.work_s,
            step_s=self.step_s,
        )


def taken_up(ask: Ask, recipe: Recipe, reached: Reached) -> Candidate:
    """The candidate that an earlier session left between two rungs; its state is still to be found."""
    candidate = Candidate(
        ask=ask,
        recipe=recipe,
        facts=reached.facts,
        notes=reached.notes,
        work_s=reached.work_s,
        steps=reached.steps,
        step_s=reached.step_s,
    )
    candidate.ended = candidate.rungs[reached.rung - 1]
    return candidate
