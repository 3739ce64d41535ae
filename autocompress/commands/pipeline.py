"""The stages of a run in their order; each hands facts to the next and can be taken up again after a kill."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from autocompress.clock import FINISH_SHARE, Clock
from autocompress.commands.allocating import outer_of, outer_under
from autocompress.commands.baseline import (
    FILE,
    Pace,
    default_recovery,
    ensure_trained,
    measure_pace,
    measured_baseline,
)
from autocompress.commands.folder import BASELINE, JOURNAL, WORK
from autocompress.commands.outcome import Outcome, write_outcome
from autocompress.commands.prepare import Prepared
from autocompress.commands.reach import fitting_extremes, setting_of, with_extremes
from autocompress.commands.survey import Survey, survey
from autocompress.events import Remembering
from autocompress.facts import write_whole
from autocompress.recipe import Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import Teacher, teacher_outputs
from autocompress.result import AttributionRow, Result, TrialRecord
from autocompress.search.attribution import attribution
from autocompress.search.calm_latency import CalmLatency
from autocompress.search.confirm import search_and_confirm
from autocompress.search.controls import control_values, fitting_first
from autocompress.search.finish import FINALISTS, Finish
from autocompress.search.front_points import front_files
from autocompress.search.kept_front import KeptFront
from autocompress.search.launcher import Launcher
from autocompress.search.loop import Search, first_guesses
from autocompress.search.outer import Outer
from autocompress.search.outer_start import enqueue_outer
from autocompress.search.pace import training_s_of_trial
from autocompress.search.recoveries import TEACHER_SHARE, Recoveries
from autocompress.search.respend import respent
from autocompress.search.setting import Setting
from autocompress.search.study import Study
from autocompress.trial import Bench, export_base

CLIMB_SHARE = 0.2  # of the whole time, for uniform recipes
TABLE_SHARE = 0.2  # of the search's time
FIRST_SHARE = 0.25  # of what is left of that, for the first files of allocations
LEAST_OUTER_SHARE = 0.05  # of the whole time that must be left to the search for choosing unit by unit
ALIKE = "alike"  # marks a run that had no time for that
ATTRIBUTION_SHARE = 0.02  # of the whole time
MOST_EPOCHS_A_TRIAL = 10
LOSSES = "losses"
FRONT = "front"
RUNGS = "rungs"  # what a killed search goes on from; on a cluster, workers have no folder in common
STARTUP_TRIALS = 12  # guesses and controls come first; the sampler models from then on


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One run. ``run`` goes through all stages and leaves the finished folder.

    Of several runs that differ in their budgets alone, one does ``look``, ``train`` and ``score``, then each ``search``
    with that one's ``outer``. ``teacher`` may be common to all.
    """

    prepared: Prepared
    out: Path
    clock: Clock
    launcher: Launcher
    observer: Remembering
    outer: Outer | None = None
    teacher: Teacher = field(default_factory=Teacher)

    def run(self) -> Result:
        """Every stage in order; ends early when no structure can meet the costs."""
        found = self.look()
        if found.is_hopeless:
            return self.give_up(found)
        return self.search(*self.train(found))

    def look(self) -> Survey:
        """What uniform recipes cost; nothing is trained."""
        with self._stage("plan", "what this network can reach on this machine"):
            found = survey(self.prepared, self.launcher, self.observer, CLIMB_SHARE * self.clock.left_s)
            return self.with_extremes(found)

    def with_extremes(self, found: Survey) -> Survey:
        """The survey with the smallest structures there are, where no uniform recipe meets the costs."""
        return with_extremes(found, self._setting(found, Recovery()))

    def train(self, found: Survey) -> tuple[Survey, Pace]:
        """The survey with the trained baseline, and how fast that trains."""
        pace = self._train_baseline(found.bench)
        return self._measure_baseline(found), pace

    def score(self, found: Survey, pace: Pace) -> Outer:
        """The outer search, its table of losses measured as far as this run's time allows."""
        with self._stage("sensitivity", "what each treatment of each part loses"):
            table_s = TABLE_SHARE * max(0.0, self.clock.search_left_s)
            steps = FINISH_SHARE * self.prepared.config.time_s * pace.all_threads / FINALISTS
            epochs = steps * Recovery().batch / self._stream.epoch_length
            setting, folder = self._setting(found, Recovery()), self.out / WORK / LOSSES
            return outer_of(setting, found, table_s=table_s, folder=folder, epochs=epochs)

    def search(self, found: Survey, pace: Pace) -> Result:
        """From a trained baseline to the finished folder."""
        setting = self._with_outer(found, self._setting(found, Recovery()), pace)
        recovery = self._trial_recovery(found, pace)
        study = self._study(found, setting)
        if study.records():
            recovery = recovery.model_copy(update={"steps": study.records()[0].recipe.recovery.steps})
            self._recall(study)
        found = self._with_teacher(found, recovery, recovery.steps * recovery.batch)
        setting = setting.with_recovery(recovery, found.bench)
        if study.is_new:
            self._enqueue(study, setting, found)
        with self._stage("search", f"{recovery.steps} recovery steps a trial"):
            most_trials = self.prepared.config.trials
            keep = self.out / WORK / RUNGS if self.prepared.config.ray_address is None else None
            kept = KeptFront(self.out / WORK / FRONT)
            search = Search(
                setting=setting, study=study, clock=self.clock, most_trials=most_trials, keep=keep, front=kept
            )
            records = search_and_confirm(search, FINALISTS)
        return self._finish(found, setting, records, pace, kept)

    @cached_property
    def _stream(self) -> SampleStream:
        return SampleStream(self.prepared.task, self.prepared.config.seed)

    def _train_baseline(self, bench: Bench) -> Pace:
        with self._stage("baseline", "how fast this network trains here"):
            pace = measure_pace(bench.base, self._stream, bench.machine.cores)
            folder = self.out / BASELINE
            ensure_trained(self.prepared, self._stream, pace, self.clock, folder=folder, observer=self.observer)
        return pace

    def _measure_baseline(self, found: Survey) -> Survey:
        """The survey with the trained baseline's file, costs and validation accuracy."""
        with self._stage("measure", "the trained baseline"):
            known = found.goal.baseline.peak_ram_bytes
            file = export_base(found.bench)
            baseline = measured_baseline(file, found.bench, accuracy=True, ram_bytes=known)
            write_whole(self.out / BASELINE / FILE, file)
        self.observer.baseline(baseline)
        return replace(found, baseline_file=file, goal=replace(found.goal, baseline=baseline))

    def _setting(self, found: Survey, recovery: Recovery) -> Setting:
        return setting_of(self.prepared, found, self.launcher, self.observer, recovery)

    def _trial_recovery(self, found: Survey, pace: Pace) -> Recovery:
        """Recovery of a trial; see ``training_s_of_trial``."""
        training_s = training_s_of_trial(self.clock.search_left_s, self.launcher.slots(), found.ladder.each_s)
        seconds = training_s * (1 - TEACHER_SHARE)
        recovery = default_recovery(found.bench.base, pace)
        most = max(60, MOST_EPOCHS_A_TRIAL * self._stream.epoch_length // recovery.batch)
        return recovery.model_copy(update={"steps": max(10, min(most, int(seconds * pace.one_thread)))})

    def _with_outer(self, found: Survey, setting: Setting, pace: Pace) -> Setting:
        """With the outer search, where the network has parts to choose for and the run has time to."""
        if self._is_short():
            self.observer.note("parts are treated alike: there was no time to choose for each; give more --time")
            write_whole(self.out / WORK / ALIKE, "")
            return setting
        outer = self.score(found, pace) if self.outer is None else self.outer
        if not outer.can_choose:
            return setting
        with self._stage("sensitivity", "what the first allocations cost"):
            limit_s = FIRST_SHARE * max(0.0, self.clock.search_left_s)
            return replace(setting, outer=outer_under(outer, setting, limit_s=limit_s, each_s=found.ladder.each_s))

    def _is_short(self) -> bool:
        """Whether there is no time for the outer search; a run that goes on does as it did before."""
        if (self.out / JOURNAL).is_file() or self.outer is not None:
            return (self.out / WORK / ALIKE).is_file()
        return self.clock.search_left_s < LEAST_OUTER_SHARE * self.clock.limit_s

    def _study(self, found: Survey, setting: Setting) -> Study:
        return Study(
            self.out / JOURNAL,
            (setting.outer or setting.builder).knobs(),
            seed=self.prepared.config.seed,
            minimize=found.goal.minimizes_cost,
            startup=STARTUP_TRIALS,
            sampler=self.prepared.config.sampler,
        )

    def _recall(self, study: Study) -> None:
        """Tell of the trials of earlier sessions, so that whoever watches knows the best so far."""
        self.observer.note(f"going on after {len(study.records())} trials")
        for record in study.records():
            self.observer.trial(record)

    def _enqueue(self, study: Study, setting: Setting, found: Survey) -> None:
        """Controls, recipes that are sure to fit, then guesses around the mildest uniform ones that should.

        Without an outer search there may be time for one trial only: then what fits as measured comes first.
        """
        with self._stage("controls", "the simple alternatives"):
            outer, seed = setting.outer, self.prepared.config.seed
            ladder = found.ladder
            controls = control_values(setting, ladder, has_time=self.clock.search_left_s > 0)
            if outer is not None:
                recipes = {name: setting.builder.recipe(values) for name, values in controls.items()}
                fitting = [setting.builder.recipe(rung.values) for rung in ladder.anchors(setting.goal)]
                enqueue_outer(study, outer, recipes, fitting, seed)
                for recipe in fitting_extremes(found, setting):
                    study.enqueue(outer.neutral(), recipe=recipe)
                return
            for recipe in fitting_extremes(found, setting):
                study.enqueue(ladder.nearest(setting.goal).values, recipe=recipe)
            anchors = [rung.values for rung in ladder.anchors(setting.goal)]
            for values, name in fitting_first(controls, anchors):
                study.enqueue(values, name)
            starts = ladder.starts(setting.goal, setting.builder) or anchors
            for guess in first_guesses(setting.builder, starts, seed):
                study.enqueue(guess)

    def _with_teacher(self, found: Survey, recovery: Recovery, positions: int) -> Survey:
        """The survey with the original's outputs along the stream, computed by all cores at once."""
        bench = found.bench
        with self._stage("teacher", "the original's outputs, computed once for all trials"):
            torch.set_num_threads(bench.machine.cores)
            known = self.teacher.outputs
            outputs = teacher_outputs(bench.base, self._stream, positions, recovery.arithmetic, known)
        self.teacher.outputs = outputs
        return replace(found, bench=bench.with_teacher(outputs.numpy()))

    def _finish(
        self, found: Survey, setting: Setting, records: tuple[TrialRecord, ...], pace: Pace, kept: KeptFront
    ) -> Result:
        trained = [record for record in records if record.facts and record.facts.accuracy_val is not None]
        if not trained:
            return self.give_up(found, records, setting.outer)
        recovery = trained[0].recipe.recovery
        with self._stage("attribution", "what each technique brought"):
            brought = self._attribution(found, setting, records)
        recoveries = Recoveries(
            bench=found.bench,
            launcher=self.launcher,
            clock=self.clock,
            observer=self.observer,
            folder=self.out / WORK / "finalists",
            threads=found.bench.machine.cores,
            original_step_s=1 / pace.all_threads,
            speedup=pace.all_threads / pace.one_thread,
            trial_files=kept.files(),
        )
        best = sorted(trained, key=lambda record: found.goal.rank(record.facts) if record.facts else ())[:FINALISTS]
        found = self._with_teacher(found, recovery, recoveries.steps(best) * recovery.batch)
        finish = Finish(
            goal=found.goal,
            clock=self.clock,
            observer=self.observer,
            recoveries=replace(recoveries, bench=found.bench, is_taught=True),
            measuring=CalmLatency(
                baseline_file=found.baseline_file,
                target=found.bench.target,
                clock=self.clock,
                observer=self.observer,
                by_share=found.goal.limits_share,
            ),
            forecaster=found.forecaster,
            respend=lambda record, number: respent(setting, record, number),
        )
        with self._stage("finish", "full recovery of the best"):
            latency, finalists = finish.run(records)
        with self._stage("front", "the files of other trials that are worth taking"):
            taken = [finalist.kept.record for finalist in finalists]
            baseline = (found.baseline_file, latency)
            others = front_files(found.bench, self.clock, records, kept.files(), taken, baseline=baseline)
        with self._stage("certify", "the file on the test split, read once"):
            outcome = self._outcome(found, records, setting.outer)
            outcome = replace(outcome, attribution=brought, front_files=tuple(others))
            return write_outcome(outcome, latency, finalists, self.observer)

    def _attribution(
        self, found: Survey, setting: Setting, records: tuple[TrialRecord, ...]
    ) -> tuple[AttributionRow, ...]:
        """For a small share of the run's time, so that recoveries keep theirs."""
        until_s = self.clock.elapsed_s + ATTRIBUTION_SHARE * self.clock.limit_s
        names = setting.builder.space.passes.names()
        return attribution(found.goal, records, names, setting.outer, lambda: self.clock.elapsed_s < until_s)

    def give_up(self, found: Survey, records: tuple[TrialRecord, ...] = (), outer: Outer | None = None) -> Result:
        """No structure meets the costs: say so, with the original's accuracy where that needs no training."""
        if found.goal.baseline.accuracy_val is None and not self.prepared.needs_training:
            baseline = measured_baseline(found.baseline_file, found.bench, accuracy=True, rounds=6)
            found = replace(found, goal=replace(found.goal, baseline=baseline))
        write_whole(self.out / BASELINE / FILE, found.baseline_file)
        return write_outcome(self._outcome(found, records, outer), None, [], self.observer)

    def _outcome(self, found: Survey, records: tuple[TrialRecord, ...], outer: Outer | None) -> Outcome:
        return Outcome(
            prepared=self.prepared,
            out=self.out,
            goal=found.goal,
            anatomy=found.anatomy,
            baseline_file=found.baseline_file,
            records=records,
            ladder=found.ladder,
            clock=self.clock,
            structures=found.structures,
            outer=outer,
            least=found.least,
            told=self.observer.notes,
        )

    @contextmanager
    def _stage(self, name: str, detail: str) -> Iterator[None]:
        """Announce a stage, and book its time."""
        self.observer.stage(name, detail)
        self.observer.deadline(self.clock.left_s)
        started = time.monotonic()
        try:
            yield
        finally:
            self.clock.book(name, time.monotonic() - started)
            self.clock.save()
