"""What there is of the best candidates in the time that is left: recovered in full, or the trial's own file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autocompress.clock import Clock
from autocompress.events import Observer
from autocompress.facts import write_whole
from autocompress.measurement import ModelFacts
from autocompress.recipe import Recipe
from autocompress.result import TrialKind, TrialRecord
from autocompress.search.finalist import (
    FILE,
    LAYERS,
    RECORD,
    Finalist,
    KeptRecord,
    LayersOfFile,
    keep_files,
    layers_of,
)
from autocompress.search.full_recovery import fully_recovered
from autocompress.search.launcher import Done, Job, Launcher, Work
from autocompress.trial import Bench, Product, accuracy_of, facts_of

MOST_EPOCHS, MOST_STEPS = 30, 400  # of a full recovery: whichever is more
LEAST_RECOVERY_S = 2.0
TEACHER_SHARE = 0.35  # of a step of the original: a forward pass, against forward and backward
USED_SHARE = 0.8  # of the time that a full recovery has is planned for its steps; exporting and judging take some
ENOUGH_STEPS = 0.8  # of those planned now, for which a finalist of an earlier session is not recovered again
NO_TIME = "recovery: the trial's own file: there was no time for more than the trial had"
FAILED = "recovery: the trial's own file: recovering it further failed"


@dataclass(frozen=True, kw_only=True)
class Recoveries:
    """What full recoveries work with; each is kept in ``folder``.

    ``original_step_s`` are the seconds of a step of the original on all ``threads``, ``speedup`` what these are faster
    than one. ``is_taught`` says that the original's outputs are there already, computed once for all.
    ``trial_files`` are folders of trials' own files by their numbers, as ``KeptFront`` has them: they stand where there
    is no time for more than the trial had, or where that fails.
    """

    bench: Bench
    launcher: Launcher
    clock: Clock
    observer: Observer
    folder: Path
    threads: int
    original_step_s: float
    speedup: float = 1.0
    is_taught: bool = False
    trial_files: Mapping[int, Path] = field(default_factory=dict)

    def steps(self, trials: Sequence[TrialRecord]) -> int:
        """Steps of the full recoveries of ``trials``, one after another: what the time allows, to ``MOST_EPOCHS``."""
        usable_s = max(0.0, self.clock.finish_left_s) * USED_SHARE
        teacher_s = 0.0 if self.is_taught else TEACHER_SHARE * self.original_step_s
        steps = usable_s / (sum(map(self._step_s, trials)) + teacher_s)
        most = max(MOST_STEPS, MOST_EPOCHS * len(self.bench.task.train) // 64)
        return int(np.clip(steps, 1, most))

    def _step_s(self, trial: TrialRecord) -> float:
        """What a step should take on all threads: its trial's did on one; with roundings at least the original's."""
        if trial.step_s is None:
            return self.original_step_s
        step_s = trial.step_s / self.speedup
        aware = fully_recovered(trial.recipe, 1).recovery.quantize_aware
        return max(step_s, self.original_step_s) if aware else step_s

    def finalists(self, chosen: list[TrialRecord]) -> list[Finalist]:
        """Of the chosen trials: recovered, of an earlier session, or the trial's own file; fewer where some fail."""
        count = next((count for count in range(len(chosen), 0, -1) if self._may_gain(chosen[:count])), 0)
        steps = self.steps(chosen[: max(1, count)])
        recipes = {record.number: fully_recovered(record.recipe, steps) for record in chosen}
        records = {record.number: record for record in chosen}
        finalists = [
            stands
            for place, record in enumerate(chosen)
            if (stands := self._standing(record, recipes[record.number], recovers=place < count)) is not None
        ]
        stand = {finalist.kept.record.number for finalist in finalists}
        open_ = [
            record for record in (chosen[:count] if finalists or count else chosen[:1]) if record.number not in stand
        ]
        limit_s = self._limit_s(len(open_))
        jobs = [
            Job(
                key=record.number,
                work=Work.FINALIST,
                recipe=recipes[record.number],
                threads=self.threads,
                limit_s=limit_s,
            )
            for record in open_
        ]
        self.observer.progress(len(finalists), len(finalists) + len(jobs), "full recoveries")
        for done in self.launcher.run(self.bench, jobs) if jobs else ():
            found = self._ended(done, records[done.key], recipes[done.key])
            finalists += [] if found is None else [found]
            self.observer.progress(len(finalists), len(finalists) + len(jobs), "full recoveries")
        return finalists

    def _may_gain(self, trials: list[TrialRecord]) -> bool:
        """Whether there is time to recover all of them for more than their trials were, at the pace of all cores."""
        each_s, steps = max(0.0, self.clock.finish_left_s) / len(trials), self.steps(trials)
        return all(
            each_s > (trial.seconds or 0.0) / self.threads
            and (steps > _steps_of(trial) or fully_recovered(trial.recipe, steps).recovery.quantize_aware)
            for trial in trials
        )

    def _standing(self, trial: TrialRecord, recipe: Recipe, *, recovers: bool) -> Finalist | None:
        """What there is already: of an earlier session, or the trial's own file where it is not recovered now."""
        if recovers:
            return self._kept(recipe)
        kept = self._kept(recipe, least=0.0)
        if kept is not None and kept.recipe.recovery.steps >= _steps_of(trial):
            return kept
        return self._as_tried(trial, NO_TIME) or kept

    def _ended(self, done: Done, trial: TrialRecord, recipe: Recipe) -> Finalist | None:
        """What a full recovery comes to: what stood before it stays where time was up too soon."""
        before = self._kept(recipe, least=0.0)
        if done.product is None:
            self.observer.note(f"the full recovery of trial {trial.number} failed: {_last_line(done.error)}")
            return before or self._as_tried(trial, FAILED)
        if before is not None and done.product.steps <= before.recipe.recovery.steps:
            return before
        instead = self._as_tried(trial, NO_TIME) if done.product.steps < _steps_of(trial) else None
        return instead or self._keep(trial, recipe, done.product)

    def _limit_s(self, count: int) -> float:
        """Seconds after which each of so many recoveries must have ended, on a machine that has become slower, too."""
        at_once = max(1, self.launcher.slots() // self.threads)
        each_s = self.clock.finish_left_s / max(1, -(-count // at_once))
        return max(LEAST_RECOVERY_S, each_s * (1 + USED_SHARE) / 2)

    def _place(self, recipe: Recipe) -> Path:
        """A finalist's folder: by structure, so that a resumed run finds it if it has hardly more time left."""
        return self.folder / recipe.structure_digest()

    def _kept(self, recipe: Recipe, least: float = ENOUGH_STEPS) -> Finalist | None:
        """What an earlier session left, where it was recovered for at least that share of the recipe's steps."""
        place = self._place(recipe)
        if not (place / RECORD).is_file():
            return None
        kept = KeptRecord.from_json((place / RECORD).read_text())
        if kept.record.recipe.recovery.steps < least * recipe.recovery.steps:
            return None
        return Finalist(folder=place, kept=kept)

    def _keep(self, trial: TrialRecord, recipe: Recipe, product: Product) -> Finalist:
        place = self._place(recipe)
        notes = product.notes
        if product.steps < recipe.recovery.steps:
            notes += (f"recovery: steps: time was up after {product.steps} of {recipe.recovery.steps} steps",)
            recipe = recipe.with_steps(product.steps)
        record = trial.model_copy(
            update={
                "kind": TrialKind.FINALIST,
                "recipe": recipe,
                "facts": _with_prediction(product.facts, trial.facts),
                "notes": notes,
                "seconds": product.seconds,
                "steps": product.steps,
            }
        )
        kept = _remembered(record, trial, layers_of(product))
        (place / RECORD).unlink(missing_ok=True)  # of an earlier session: it must not stand beside what is new
        keep_files(place, product)
        write_whole(place / RECORD, kept.to_json())
        return Finalist(folder=place, kept=kept)

    def _as_tried(self, trial: TrialRecord, why: str) -> Finalist | None:
        """A trial's own file, judged on the whole validation split; None if it was not kept."""
        place = self.trial_files.get(trial.number)
        if place is None or trial.facts is None or not (place / LAYERS).is_file():
            return None
        file = (place / FILE).read_bytes()
        judged = accuracy_of(file, self.bench.task, "val", threads=self.threads)
        accuracy = {"accuracy_val": judged.value, "accuracy_val_interval": judged.interval}
        record = trial.model_copy(
            update={
                "kind": TrialKind.FINALIST,
                "recipe": trial.recipe.with_steps(_steps_of(trial)),
                "facts": _with_prediction(facts_of(file), trial.facts).model_copy(update=accuracy),
                "notes": (*trial.notes, why),
            }
        )
        layers = LayersOfFile.from_json((place / LAYERS).read_text())
        kept = _remembered(record, trial, layers).model_copy(update={"is_as_tried": True})
        self.observer.note(f"{why.removeprefix('recovery: ')}; it may be the answer, give more --time")
        return Finalist(folder=place, kept=kept)


def _with_prediction(facts: ModelFacts, trial: ModelFacts | None) -> ModelFacts:
    """The facts of a finalist with what was predicted of its structure before that was ever measured."""
    if trial is None or trial.latency_predicted_ms is None or trial.latency_predicted_interval_ms is None:
        return facts
    return facts.with_prediction(trial.latency_predicted_ms, trial.latency_predicted_interval_ms)


def _steps_of(trial: TrialRecord) -> int:
    """Of the recovery that a trial had."""
    return trial.recipe.recovery.steps if trial.steps is None else trial.steps


def _remembered(record: TrialRecord, trial: TrialRecord, layers: LayersOfFile) -> KeptRecord:
    trial_ms = None if trial.facts is None else trial.facts.latency_ms
    return KeptRecord(record=record, trial_ms=trial_ms, **dict(layers))


def _last_line(text: str | None) -> str:
    return (text or "no reason was given").strip().splitlines()[-1]
