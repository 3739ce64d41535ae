"""Full recovery of the best candidates, measured side by side with the baseline. Finished work is kept on disk."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from autocompress.clock import Clock
from autocompress.errors import RunError
from autocompress.events import Observer
from autocompress.facts import write_whole
from autocompress.measurement import Latency, ModelFacts
from autocompress.recipe import Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.costing import measure_files, measure_ram
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
from autocompress.search.forecast import Forecaster
from autocompress.search.full_recovery import fully_recovered
from autocompress.search.goal import Goal
from autocompress.search.launcher import Done, Job, Launcher, Work
from autocompress.trial import Bench, Product, accuracy_of, facts_of

FINALISTS = 2  # recovered in full; more would each get less time
MOST_EPOCHS, MOST_STEPS = 30, 400  # of a full recovery: whichever is more
ATTEMPTS = 3  # rounds of finalists before a budget counts as missed
ROUNDS = 12
WINDOW_MS = 60.0
MEASURE_ATTEMPTS = 3  # of the certificate's measurement, while something else disturbs it
MOST_STRAY = 0.1  # of the share of the baseline's time that a file took as a trial
PAUSE_S = 5.0
REPORT_S = 3.0  # from the last measurement to the end
LEAST_RECOVERY_S = 2.0
LEAST_RESPEND_S = 30.0  # of time for recoveries, in which two more files may be made and measured
USED_SHARE = 0.8  # of the time that a full recovery has is planned for its steps; exporting and judging take some
ENOUGH_STEPS = 0.8  # of those planned now, for which a finalist of an earlier session is not recovered again
OVERTIME = 0.05  # of the limit, where there would be no answer without
NO_TIME = "recovery: the trial's own file: there was no time for more than the trial had"
FAILED = "recovery: the trial's own file: recovering it further failed"

Measured = tuple[Latency, dict[int, Latency]]  # the baseline's, and each file's


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What finishing works with; ``run`` does it.

    ``respend`` makes, of a candidate and a number for it, one that uses the limits better: see ``respend.respent``.
    ``trial_files`` are folders of trials' own files by their numbers, as ``KeptFront`` has them: they stand where there
    is no time for more than the trial had, or where that fails.
    """

    bench: Bench
    goal: Goal
    baseline_file: bytes
    launcher: Launcher
    clock: Clock
    observer: Observer
    folder: Path
    threads: int
    steps_per_s: float
    forecaster: Forecaster | None = None
    respend: Callable[[TrialRecord, int], TrialRecord | None] | None = None
    trial_files: Mapping[int, Path] = field(default_factory=dict)

    def run(self, records: tuple[TrialRecord, ...]) -> tuple[Latency, list[Finalist]]:
        """Finalists, the best first, and the baseline's latency from the measurement that they share.

        A finalist that breaks the budget when it is measured alone, or meets it only within the noise of that
        measurement, is followed by candidates that lie further inside: whoever measures the file again must find the
        budget met, too. A median at the limit would be found above it every second time.

        Raises:
            RunError: there is no candidate to finish, or none could be finished.
        """
        finished: list[Finalist] = []
        baseline_latency: Latency | None = None
        goal, measuring_s = self.goal, 0.0
        for attempt in range(ATTEMPTS):
            missed = max((goal.sure_violation(finalist.facts) for finalist in finished), default=0.0)
            chosen = self._choose(records, finished, missed)
            if attempt and not self._has_time(finished, measuring_s):
                break
            free = max((record.number for record in records), default=-1) + 1 + attempt
            chosen = self._with_respent(chosen, finished, free)
            if not chosen:
                break
            finished += self._recover(chosen)
            if not finished:
                continue
            began = time.monotonic()
            baseline_latency, finished = self._measure(finished)
            measuring_s = time.monotonic() - began
            goal = self._goal_beside(baseline_latency)
            if any(goal.sure_violation(finalist.facts) <= 0 for finalist in finished):
                break
        if baseline_latency is None:
            raise RunError("no candidate could be finished; see the failed trials in study.journal for the reasons")
        return baseline_latency, sorted(finished, key=lambda finalist: _rank(goal, finalist.facts))

    def _goal_beside(self, latency: Latency) -> Goal:
        """The goal whose shares are those of the baseline as it was measured beside the finalists."""
        return replace(self.goal, baseline=self.goal.baseline.with_latency(latency))

    def _choose(self, records: tuple[TrialRecord, ...], finished: list[Finalist], missed: float) -> list[TrialRecord]:
        """The best trained candidates that are not finished yet, further inside the costs than those that missed."""
        done = {finalist.recipe.structure_digest() for finalist in finished}
        open_ = [
            record
            for record in records
            if record.state is TrialState.COMPLETE
            and record.facts is not None
            and record.recipe.structure_digest() not in done
            and (not finished or self._worst(record.facts) < -missed)
        ]
        ranked = sorted(open_, key=lambda record: self.goal.rank(record.facts) if record.facts else ())
        distinct = {record.recipe.structure_digest(): record for record in reversed(ranked)}
        best = sorted(distinct.values(), key=ranked.index)
        fitting = [record for record in best if record.within_budget]
        return (fitting or best[:1])[:FINALISTS]

    def _with_respent(self, chosen: list[TrialRecord], finished: list[Finalist], number: int) -> list[TrialRecord]:
        """With what the best makes of the limits as they turned out to be, in the place of the last one."""
        if self.respend is None or not (chosen or finished) or self.clock.finish_left_s < LEAST_RESPEND_S:
            return chosen
        best = min(finished, key=lambda each: _rank(self.goal, each.facts)).kept.record if finished else chosen[0]
        made = self.respend(best, number)
        recipes = [*(each.recipe for each in finished), *(each.recipe for each in chosen)]
        known = {recipe.structure_digest() for recipe in recipes}
        if made is None or made.recipe.structure_digest() in known:
            return chosen
        self.observer.note(f"one more finalist: {made.summary}")
        return [*chosen[: FINALISTS - 1], made]

    def _worst(self, facts: ModelFacts) -> float:
        return max(self.goal.budget.violation(facts, self.goal.baseline).values(), default=-1.0)

    def _has_time(self, finished: list[Finalist], measuring_s: float) -> bool:
        """Whether others can be recovered and measured, too; a little beyond the limit where none meets the budget."""
        met = any(self.goal.within_costs(finalist.facts) for finalist in finished)
        overtime_s = 0.0 if met else OVERTIME * self.clock.limit_s
        return self.clock.left_s + overtime_s > measuring_s + REPORT_S + FINALISTS * LEAST_RECOVERY_S

    def steps(self, count: int) -> int:
        """Steps of one full recovery: what the time allows, at least those of a trial, at most ``MOST_EPOCHS``."""
        usable = max(0.0, self.clock.finish_left_s) / count * USED_SHARE
        epochs = MOST_EPOCHS * len(self.bench.task.train) // 64
        return int(np.clip(usable * self.steps_per_s, 1, max(MOST_STEPS, epochs)))

    def _recover(self, chosen: list[TrialRecord]) -> list[Finalist]:
        count = next((count for count in range(len(chosen), 0, -1) if self._may_gain(chosen[:count])), 0)
        steps = self.steps(max(1, count))
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
        each_s, steps = max(0.0, self.clock.finish_left_s) / len(trials), self.steps(len(trials))
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

    def _measure(self, finalists: list[Finalist]) -> tuple[Latency, list[Finalist]]:
        """All finalists again beside the baseline, alone on the machine, for as long as a certificate takes."""
        started = time.monotonic()
        self.observer.stage("measure", "finalists beside the baseline")
        files = {index: finalist.file() for index, finalist in enumerate(finalists)}
        forecasts = self.forecaster.of_files(files) if self.forecaster is not None else {}
        baseline, latencies = self._measure_calmly(files, self._expected(finalists))
        if self.forecaster is not None:
            calm = {key: each.median_ms for key, each in latencies.items() if not each.noisy}
            self.forecaster.learn(files, calm)
        goal = self._goal_beside(baseline)
        measured = []
        for index, finalist in enumerate(finalists):
            facts = finalist.facts.with_latency(latencies[index])
            if index in forecasts and facts.latency_predicted_ms is None:
                facts = forecasts[index].filled_in(facts)
            ram = facts.peak_ram_bytes or measure_ram(files[index], self.bench.target)
            facts = facts.model_copy(update={"peak_ram_bytes": ram})
            within = goal.within_costs(facts)
            record = finalist.kept.record.model_copy(update={"facts": facts, "within_budget": within})
            kept = finalist.kept.model_copy(update={"record": record})
            measured.append(Finalist(folder=finalist.folder, kept=kept, latency=latencies[index]))
        self.clock.book("measure", time.monotonic() - started)
        return baseline, measured

    def _expected(self, finalists: list[Finalist]) -> dict[int, float]:
        """Shares of the baseline's time that the trials of finalists took, of those that were measured."""
        known = {index: finalist.kept.trial_ms for index, finalist in enumerate(finalists)}
        baseline_ms = self.goal.baseline.latency_ms
        return {index: ms / baseline_ms for index, ms in known.items() if ms and baseline_ms}

    def _measure_calmly(self, files: dict[int, bytes], expected: dict[int, float]) -> Measured:
        """Measure until nothing disturbs it and nothing strays from what its trial took, a few times at most.

        Integer kernels alone can be slow for seconds while the machine seems calm. Of the calm measurements, or of all
        if there is none, the middle one counts; of two the slower one.

        Args:
            files: the finalists.
            expected: shares of the baseline's time that they took before, where that was measured.
        """
        found: list[Measured] = []
        calm: list[Measured] = []
        taken_s = 0.0
        for attempt in range(MEASURE_ATTEMPTS):
            if attempt and self.clock.left_s < PAUSE_S + taken_s + REPORT_S:
                break
            if attempt:
                why = "a finalist takes another time than its trial" if calm else "something else runs on this machine"
                self.observer.note(f"{why}; the finalists are measured again")
                time.sleep(PAUSE_S)
            began = time.monotonic()
            measured = measure_files(self.baseline_file, files, self.bench.target, rounds=ROUNDS, window_ms=WINDOW_MS)
            taken_s = time.monotonic() - began
            found.append(measured)
            if not any(latency.noisy for latency in (measured[0], *measured[1].values())):
                calm.append(measured)
                if not _strays(measured, expected):
                    return measured
        if not calm:
            self.observer.note(
                "no measurement of the finalists was calm; measure the result again before relying on it"
            )
        among = sorted(calm or found, key=_shares)
        return among[len(among) // 2]


def _shares(measured: Measured) -> float:
    """What all files take together, in times of the baseline."""
    baseline, latencies = measured
    return sum(latency.median_ms for latency in latencies.values()) / baseline.median_ms


def _strays(measured: Measured, expected: dict[int, float]) -> bool:
    """Whether a file takes another share of the baseline's time than before."""
    baseline, latencies = measured
    shares = {key: latency.median_ms / baseline.median_ms for key, latency in latencies.items()}
    return any(abs(shares[key] / share - 1) > MOST_STRAY for key, share in expected.items())


def _rank(goal: Goal, facts: ModelFacts) -> tuple[float, ...]:
    """Sorts finalists, the best first: those that surely meet the costs before those that do so within the noise."""
    within, *others = goal.rank(facts)
    return (within, goal.sure_violation(facts) > 0, *others)


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
