"""The Optuna study: asked for parameters, told what became of them. Optuna is known here and in ``sampler`` only.

The journal is written by the driver alone. Each finished trial's whole record is kept in it, so that a run goes on from
the journal and nothing else.
"""

import fcntl
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from autocompress.budget import Metric
from autocompress.recipe import Recipe
from autocompress.result import TrialRecord
from autocompress.result import TrialState as RecordState
from autocompress.search.parameters import Knob, Value
from autocompress.search.proposal import MISS_COST
from autocompress.search.sampler import SurrogateSampler

STUDY = "autocompress"
RECORD, CONTROL, RECIPE, GIVEN, REACHED = "record", "control", "recipe", "given", "reached"
# More than the budget by this factor says no more about where to look; keeps one far miss from ruling the sampler.
WORST_VIOLATION = 3.0
# Of NSGA-II: Optuna's 50 would be most of a search before it learns anything.
POPULATION = 20


class Sampler(StrEnum):
    """What proposes parameters."""

    SURROGATE = "surrogate"
    TPE = "tpe"
    NSGA2 = "nsga2"
    RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Parameters to try. ``control`` names the control that they belong to.

    ``recipe`` is what is tried, where that does not follow from the parameters; ``given``: it never came from them.
    """

    number: int
    values: dict[str, Value]
    control: str | None
    trial: Trial
    recipe: Recipe | None = None
    given: bool = False


class Study:
    """One search's memory: parameters, constraint values and records of all trials, on disk.

    ``minimize`` says whether told values are better when smaller.
    """

    def __init__(
        self,
        journal: Path,
        knobs: tuple[Knob, ...],
        *,
        seed: int,
        minimize: bool,
        startup: int,
        sampler: Sampler = Sampler.SURROGATE,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = {knob.name: _distribution(knob) for knob in knobs}
        _cut_torn_line(journal)
        self._journal = _Journal(journal)
        storage = JournalStorage(self._journal)
        if sampler is Sampler.SURROGATE:
            miss_cost = 1.0 if minimize else MISS_COST  # floors of accuracy are known once it is trained
            chosen: BaseSampler = SurrogateSampler(self._space, seed=seed, startup=startup, miss_cost=miss_cost)
        else:
            chosen = optuna_sampler(sampler, seed=seed + _finished(storage), startup=startup)
        self._study = optuna.create_study(
            study_name=STUDY,
            storage=storage,
            sampler=chosen,
            load_if_exists=True,
            direction="minimize" if minimize else "maximize",
        )
        trials = self._study.get_trials(deepcopy=False)
        self._records = [TrialRecord.from_json(t.user_attrs[RECORD]) for t in trials if RECORD in t.user_attrs]
        self.is_new = not trials
        self._left: list[tuple[Ask, str]] = []
        self._take_up_running()

    def records(self) -> tuple[TrialRecord, ...]:
        """The records of all finished trials, earlier sessions' first."""
        return tuple(self._records)

    def amend(self, records: Iterable[TrialRecord]) -> None:
        """Take over what was learned of finished trials since; the journal keeps what was known when they ended."""
        newer = {record.number: record for record in records}
        self._records = [newer.get(record.number, record) for record in self._records]

    def enqueue(self, values: Mapping[str, Value], control: str | None = None, recipe: Recipe | None = None) -> None:
        """Let ``ask`` give these values next; without a control or a recipe, unless they were asked for before."""
        attributes = _attributes(control, recipe, given=recipe is not None)
        self._study.enqueue_trial(self._clipped(values), user_attrs=attributes, skip_if_exists=not attributes)

    def ask(self) -> Ask:
        """The next parameters."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask(self._space)
        return _ask_of(trial)

    def settle(self, ask: Ask, recipe: Recipe) -> None:
        """Remember what a trial tries, for a session that takes it up."""
        ask.trial.set_user_attr(RECIPE, recipe.model_dump_json())

    def tell(self, ask: Ask, record: TrialRecord, violation: Mapping[Metric, float], value: float | None) -> None:
        """Close a trial: its constraints (value / limit - 1, at most 0 when met), its record, its objective.

        One whose recipe was given ends as failed, which samplers leave out of account: its parameters do not say what
        it was. Its record does.
        """
        self._constrain(ask, violation)
        ask.trial.set_user_attr(RECORD, record.model_dump_json())
        self._records.append(record)
        if ask.given:
            self._study.tell(ask.trial, state=TrialState.FAIL)
        elif record.state is RecordState.COMPLETE and value is not None:
            self._study.tell(ask.trial, value)
        else:
            self._study.tell(ask.trial, state=_STATES[record.state])
        self._journal.sync()

    def report(self, ask: Ask, value: float | None, step: int, reached: str) -> None:
        """How good a trial that goes on is after ``step``; ``reached`` is what ``left`` gives back after a kill."""
        if value is not None:
            ask.trial.report(value, step)
        ask.trial.set_user_attr(REACHED, reached)
        self._journal.sync()

    def left(self) -> tuple[tuple[Ask, str], ...]:
        """Trials that a killed driver left between two rungs, with what was last reported of them; handed out once."""
        found, self._left = tuple(self._left), []
        return found

    def ask_again(self, ask: Ask) -> None:
        """Close a trial without a record, and let ``ask`` give its parameters next."""
        self._study.tell(ask.number, state=TrialState.FAIL)
        self._study.enqueue_trial(ask.values, user_attrs=_attributes(ask.control, ask.recipe, given=ask.given))

    def rule_out(self, ask: Ask, violation: Mapping[Metric, float]) -> None:
        """Close a trial whose parameters lead to nothing within the limits; it leaves no record, and samplers learn it.

        ``violation`` as in ``tell``.
        """
        self._constrain(ask, violation)
        self._study.tell(ask.trial, state=TrialState.PRUNED)

    def drop(self, ask: Ask) -> None:
        """Close a trial that repeats another, or is one too many; it leaves no record.

        It ends as failed, which samplers leave out of account: pruned it would pass for one that was tried and lost.
        """
        self._study.tell(ask.trial, state=TrialState.FAIL)

    def _constrain(self, ask: Ask, violation: Mapping[Metric, float]) -> None:
        for metric in sorted(violation):
            ask.trial.set_constraint(metric.value, min(violation[metric], WORST_VIOLATION))

    def _take_up_running(self) -> None:
        """Trials that a killed driver left running: those between rungs are kept, others asked for again first."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if RECORD in trial.user_attrs or not trial.params:
                self._study.tell(trial.number, state=TrialState.FAIL)
                continue
            ask = _ask_of(Trial(self._study, trial._trial_id))  # noqa: SLF001  # the storage's only key
            if REACHED in trial.user_attrs:
                self._left.append((ask, trial.user_attrs[REACHED]))
            else:
                self.ask_again(ask)

    def _clipped(self, values: Mapping[str, Value]) -> dict[str, Value]:
        return {name: values[name] for name in self._space if name in values}


def _ask_of(trial: Trial) -> Ask:
    recipe = trial.user_attrs.get(RECIPE)
    return Ask(
        number=trial.number,
        values=dict(trial.params),
        control=trial.user_attrs.get(CONTROL),
        trial=trial,
        recipe=None if recipe is None else Recipe.model_validate_json(recipe),
        given=GIVEN in trial.user_attrs,
    )


def _attributes(control: str | None, recipe: Recipe | None, *, given: bool) -> dict[str, Any]:
    found: dict[str, Any] = {} if control is None else {CONTROL: control}
    if recipe is not None:
        found[RECIPE] = recipe.model_dump_json()
    return {**found, GIVEN: True} if given else found


_STATES = {
    RecordState.COMPLETE: TrialState.FAIL,  # complete without a value cannot be told
    RecordState.PRUNED: TrialState.PRUNED,
    RecordState.FAILED: TrialState.FAIL,
}


def optuna_sampler(sampler: Sampler, *, seed: int, startup: int) -> BaseSampler:
    """One of Optuna's own. Random search alone takes no notice of constraints."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if sampler is Sampler.TPE:
            return TPESampler(multivariate=True, constant_liar=True, n_startup_trials=startup, seed=seed)
        if sampler is Sampler.NSGA2:
            return NSGAIISampler(population_size=POPULATION, seed=seed)
    return RandomSampler(seed=seed)


def _distribution(knob: Knob) -> BaseDistribution:
    if knob.range is None:
        return CategoricalDistribution(knob.choices)
    return FloatDistribution(knob.range.low, knob.range.high)


class _Journal(JournalFileBackend):
    """Optuna's journal, written under a lock that the kernel lets go of when its process dies, however that happens.

    Optuna's own lock is a link that a killed process leaves behind: the next one waits for half a minute, or for ever
    where the path is relative and the link leads nowhere. And it waits for the disk after every parameter of a trial;
    what is written is safe from a kill at once, and from a loss of power by ``sync``.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines when no other process does."""
        with self._journal.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode())

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        with self._journal.open("rb") as file:
            os.fsync(file.fileno())


def _cut_torn_line(journal: Path) -> None:
    """Take off a last line that a kill cut short: Optuna would append to it, and nobody could read on from there."""
    if not journal.is_file():
        return
    with journal.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


def _finished(storage: JournalStorage) -> int:
    """Trials that the journal holds already: a resumed sampler must not repeat its first draws."""
    trials: list[FrozenTrial] = []
    for study in storage.get_all_studies():
        trials.extend(storage.get_all_trials(study._study_id, deepcopy=False))  # noqa: SLF001  # the storage's only key
    return len(trials)
