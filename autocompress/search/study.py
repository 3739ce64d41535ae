"""The Optuna study: asked for parameters, told what became of them. Optuna is known here and in ``sampler`` only.

The journal is written by the driver alone. Each finished trial's whole record is kept in it, so that a run goes on from
the journal and nothing else.
"""

import fcntl
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState

from autocompress.budget import Metric
from autocompress.result import TrialRecord
from autocompress.result import TrialState as RecordState
from autocompress.search.parameters import Knob, Value
from autocompress.search.sampler import SurrogateSampler

STUDY = "autocompress"
RECORD, CONTROL = "record", "control"
# More than the budget by this factor says no more about where to look; keeps one far miss from ruling the sampler.
WORST_VIOLATION = 3.0
# Of NSGA-II: Optuna's 50 would be most of a search before it learns anything.
POPULATION = 20

Feasible = Callable[[Sequence[Mapping[str, Value]]], Sequence[bool]]


class Sampler(StrEnum):
    """What proposes parameters."""

    SURROGATE = "surrogate"
    TPE = "tpe"
    NSGA2 = "nsga2"
    RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Parameters to try. ``control`` names the control that they belong to."""

    number: int
    values: dict[str, Value]
    control: str | None
    trial: Trial


class Study:
    """One search's memory: parameters, constraint values and records of all trials, on disk.

    ``minimize`` says whether told values are better when smaller. ``feasible`` says of many parameters at once which
    are worth a trial; sampler surrogate proposes no others, the rest learn it from what they are told.
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
        feasible: Feasible | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = {knob.name: _distribution(knob) for knob in knobs}
        _cut_torn_line(journal)
        storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=_KernelLock(journal)))
        if sampler is Sampler.SURROGATE:
            chosen: BaseSampler = SurrogateSampler(self._space, seed=seed, startup=startup, feasible=feasible)
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
        self._give_up_running()

    def records(self) -> tuple[TrialRecord, ...]:
        """The records of all finished trials, earlier sessions' first."""
        return tuple(self._records)

    def amend(self, records: Iterable[TrialRecord]) -> None:
        """Take over what was learned of finished trials since; the journal keeps what was known when they ended."""
        newer = {record.number: record for record in records}
        self._records = [newer.get(record.number, record) for record in self._records]

    def enqueue(self, values: Mapping[str, Value], control: str | None = None) -> None:
        """Let ``ask`` give these values next, unless they were asked for before."""
        attributes = {} if control is None else {CONTROL: control}
        self._study.enqueue_trial(self._clipped(values), user_attrs=attributes, skip_if_exists=control is None)

    def ask(self) -> Ask:
        """The next parameters."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask(self._space)
        return Ask(number=trial.number, values=dict(trial.params), control=trial.user_attrs.get(CONTROL), trial=trial)

    def tell(self, ask: Ask, record: TrialRecord, violation: Mapping[Metric, float], value: float | None) -> None:
        """Close a trial: its constraints (value / limit - 1, at most 0 when met), its record, its objective."""
        for metric in sorted(violation):
            ask.trial.set_constraint(metric.value, min(violation[metric], WORST_VIOLATION))
        ask.trial.set_user_attr(RECORD, record.model_dump_json())
        self._records.append(record)
        if record.state is RecordState.COMPLETE and value is not None:
            self._study.tell(ask.trial, value)
        else:
            self._study.tell(ask.trial, state=_STATES[record.state])

    def drop(self, ask: Ask) -> None:
        """Close a trial that repeats another; it leaves no record."""
        self._study.tell(ask.trial, state=TrialState.PRUNED)

    def _give_up_running(self) -> None:
        """Trials that a killed driver left running end as failed, and their parameters are asked for again first."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if RECORD in trial.user_attrs or not trial.params:
                continue
            attributes = {k: v for k, v in trial.user_attrs.items() if k == CONTROL}
            self._study.enqueue_trial(trial.params, user_attrs=attributes)

    def _clipped(self, values: Mapping[str, Value]) -> dict[str, Value]:
        return {name: values[name] for name in self._space if name in values}


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


class _KernelLock(JournalFileSymlinkLock):
    """Held while lines are written. The kernel lets go of it when its process dies, however that happens.

    Optuna's own lock is a link that a killed process leaves behind: the next one waits for half a minute, or for ever
    where the path is relative and the link leads nowhere.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._held: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait until no other process writes."""
        self._held = self._journal.open("ab")
        fcntl.flock(self._held, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let others write."""
        assert self._held is not None
        self._held.close()


def _cut_torn_line(journal: Path) -> None:
    """Take off a last line that a kill cut short: Optuna would append to it, and nobody could read on from there."""
    if not journal.is_file():
        return
    with journal.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


def _finished(storage: JournalStorage) -> int:
    """Trials that the journal holds already: a resumed sampler must not repeat its first draws."""
    studies: list[FrozenTrial] = []
    for study in storage.get_all_studies():
        studies.extend(storage.get_all_trials(study._study_id, deepcopy=False))  # noqa: SLF001  # the storage's only key
    return len(studies)
