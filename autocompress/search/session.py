"""The candidates in work: asked, built, measured, trained in rungs, told; no slot waits while there is work for it.

Building and training need slots, measuring needs a machine on which nothing else runs. So candidates whose forecast
decides whether they meet the budget are trained at once; the others are collected, and measured together when all that
flies has landed. Without a profile of the machine these are all.
"""

import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autocompress.clock import Clock
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.asking import Asking, tell
from autocompress.search.candidate import Candidate, Reached
from autocompress.search.halving import Halving
from autocompress.search.kept_front import KeptFront
from autocompress.search.kept_rungs import KeptRungs
from autocompress.search.launcher import Done, Job, Work
from autocompress.search.pace import Pace
from autocompress.search.setting import Setting
from autocompress.search.study import Study

MEASURED_PER_SLOT = 4  # candidates that are measured together: slots are idle while the last of them are built
BUILDING_SHARE = 0.5  # of the time that is left, for the files that are measured together
AHEAD_PER_SLOT = 1 / 8  # candidates that are asked for before there is a slot for them
BARREN_BUILDS = 48  # that do not fit, in a row, after which the search has seen enough
LEAST_COMPLETE = 4  # that come to the end however few there are: finishing chooses among them
LEAST_RUNG_S = 2.0


def count_trained(records: Iterable[TrialRecord]) -> int:
    """How many candidates were trained, or failed to be; controls apart."""
    return sum(
        (record.state is not TrialState.PRUNED or record.rung is not None) and record.kind is TrialKind.SEARCH
        for record in records
    )


@dataclass(kw_only=True)
class Session:
    """Candidates by where they are, until ``work`` has brought each to its end.

    ``flying`` are in a slot, since when; ``asked`` wait for one to be built in, ``unsure`` to be measured, ``ready``
    for their first rung, ``waiting`` for another one.
    """

    setting: Setting
    study: Study
    clock: Clock
    most_trials: int | None
    keep: Path | None
    front: KeptFront | None = None
    flying: dict[int, tuple[Candidate, Job, float]] = field(default_factory=dict)
    asked: deque[Candidate] = field(default_factory=deque)
    unsure: list[Candidate] = field(default_factory=list)
    ready: deque[Candidate] = field(default_factory=deque)
    halving: Halving = field(default_factory=Halving)
    waiting: dict[int, Candidate] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        records = self.study.records()
        self.slots = self.setting.launcher.slots()
        self.kept = KeptRungs(self.keep)
        self.asking = Asking(setting=self.setting, study=self.study)
        self.trained = count_trained(records)
        self.completed = sum(record.state is TrialState.COMPLETE for record in records)
        self.answered = any(record.state is TrialState.COMPLETE and record.within_budget for record in records)
        self.barren_builds = 0

    def work(self) -> None:
        """Until nothing more may begin; those that still wait then are told to have lost."""
        self._take_up()
        while True:
            self._fill()
            if self.flying:
                self._look_ahead()
                self._land(self.setting.launcher.next_done())
            elif self.unsure and (not self.completed or self._has_time(self.pace.measure_s * len(self.unsure))):
                self._measure()
            else:
                break
        for candidate in (*self.asked, *self.unsure, *self.ready):
            self.study.ask_again(candidate.ask)
        for candidate in list(self.waiting.values()):
            self._tell(candidate, TrialState.PRUNED)

    def _take_up(self) -> None:
        """Go on with what an earlier session left between rungs."""
        for ask, text in self.study.left():
            recipe = ask.recipe or self.setting.recipe(ask.values)
            candidate = None if recipe is None else self.kept.found(ask, recipe, Reached.from_json(text))
            if candidate is None:
                self.study.ask_again(ask)
                continue
            self.asking.seen.add(candidate.recipe.structure_digest())
            self.trained += not candidate.is_control
            self._let_wait(candidate)

    # What begins next

    def _fill(self) -> None:
        """Give every free slot something to do; none if all must land so that measuring can begin."""
        self.slots = self.setting.launcher.slots()
        while len(self.flying) < self.slots and len(self.unsure) < self._measured_at_once():
            candidate = self._next_to_train()
            if candidate is not None:
                self._submit(candidate, self._rung_of(candidate))
            elif (candidate := self._next_asked()) is not None:
                self._submit(candidate, Job(key=candidate.key, work=Work.STRUCTURE, recipe=candidate.recipe))
            else:
                break

    def _submit(self, candidate: Candidate, job: Job) -> None:
        self.flying[candidate.key] = (candidate, job, time.monotonic())
        self.setting.launcher.submit(self.setting.bench, job)

    def _rung_of(self, candidate: Candidate) -> Job:
        rung = candidate.next_rung()
        return Job(
            key=candidate.key,
            work=Work.RUNG,
            recipe=candidate.recipe,
            rung=rung,
            state=candidate.state,
            keep=None if rung.is_final else self.kept.place(candidate.key, rung),
            limit_s=max(LEAST_RUNG_S, self._left_s()),
        )

    def _next_to_train(self) -> Candidate | None:
        """Who goes on: the furthest first, those that are ready then, and when no others come the best that wait."""
        key = next((key for key, each in self.waiting.items() if each.is_control), None)
        key = self.halving.promoted() if key is None else key
        if key is None and self._are_last():
            key = self.halving.best_waiting(LEAST_COMPLETE)
        if key is not None and self._may_train(self.waiting[key]):
            self.halving.go_on(key)
            return self.waiting.pop(key)
        if key is None and self.ready and self._may_train(self.ready[0]):
            candidate = self.ready.popleft()
            self.trained += not candidate.is_control
            return candidate
        return None

    def _are_last(self) -> bool:
        """Whether those that wait are all that there will be."""
        asked = self.asked and self._has_time(self.pace.whole_s())
        comes = asked or self.unsure or self.ready or self._in_building()
        return not comes and not self._may_ask()

    def _may_train(self, candidate: Candidate) -> bool:
        """Whether there is time for its next rung. However little there is, one candidate comes to the end."""
        alone = not self.flying and not self.completed
        return alone or self._has_time(self.pace.of_rung(candidate.next_rung()))

    def _may_ask(self) -> bool:
        if self.asking.is_used_up or self.barren_builds >= BARREN_BUILDS:
            return False
        if self.most_trials is not None and self.trained + self._untrained() >= self.most_trials:
            return False
        return self._has_time(self.pace.whole_s())

    def _has_time(self, seconds: float) -> bool:
        """Whether so much is left; something is tried however little that is."""
        works = self.flying or self.asked or self.unsure or self.ready or self.waiting
        return self._left_s() >= seconds or not (works or self.study.records())

    def _left_s(self) -> float:
        """Seconds for trials; a search without any answer may use the time of finishing, too."""
        return self.clock.search_left_s if self.answered else self.clock.finish_left_s

    def _untrained(self) -> int:
        """Candidates on their way to their first rung, controls apart."""
        found = (*self.asked, *self._in_building(), *self.unsure, *self.ready)
        return sum(not each.is_control for each in found)

    def _in_building(self) -> list[Candidate]:
        return [each for each, job, _ in self.flying.values() if job.work is Work.STRUCTURE]

    def _next_asked(self) -> Candidate | None:
        """Who is built next; asked now if nobody was asked for before. None while enough wait to be measured."""
        if len(self.unsure) + len(self._in_building()) >= self._measured_at_once():
            return None
        if self.asked:
            return self.asked.popleft() if self._has_time(self.pace.whole_s()) else None
        while self._may_ask():
            candidate = self.asking.ask()
            if candidate is not None or self.flying:
                return candidate
        return None

    def _measured_at_once(self) -> int:
        """Fewer where building as many would take most of the time that is left."""
        affordable = self._left_s() * BUILDING_SHARE / self.pace.build_s if self.pace.build_s else MEASURED_PER_SLOT
        return max(1, min(MEASURED_PER_SLOT, int(affordable))) * self.slots

    def _look_ahead(self) -> None:
        """Ask while the slots are busy, so that none waits for the sampler."""
        wanted = math.ceil(self.slots * AHEAD_PER_SLOT) if self.slots > 1 else 0
        while len(self.asked) < wanted and self._may_ask():
            candidate = self.asking.ask()
            if candidate is None:
                return
            self.asked.append(candidate)

    # What becomes of it

    def _land(self, done: Done) -> None:
        candidate, job, since = self.flying.pop(done.key)
        seconds = time.monotonic() - since
        if job.work is Work.STRUCTURE:
            self.pace.built(seconds)
            candidate.built(done)
            self._sort(candidate)
        else:
            assert job.rung is not None
            self.pace.trained(job.rung, seconds)
            candidate.trained(done, job.rung)
            self._keep_file(candidate, done)
            if candidate.error is not None or job.rung.is_final:
                self._tell(candidate, TrialState.FAILED if candidate.error else TrialState.COMPLETE)
            else:
                self._report(candidate)
                self._let_wait(candidate)
        self.setting.observer.deadline(self.clock.left_s)
        self.clock.save()

    def _keep_file(self, candidate: Candidate, done: Done) -> None:
        """The trained file of a candidate that came to its end, as long as it belongs to the front."""
        made = done.product
        if self.front is not None and made is not None and made.file and made.portable and candidate.facts is not None:
            self.front.offer(candidate.key, candidate.facts, made)

    def _sort(self, candidate: Candidate) -> None:
        """A candidate that was built: to be measured, or known well enough."""
        if candidate.error is not None or candidate.file is None or candidate.facts is None:
            candidate.error = candidate.error or "no file was made"
            self.trained += not candidate.is_control
            self.barren_builds += 1
            self._tell(candidate, TrialState.FAILED)
            return
        self.asking.built()
        costing = self.setting.costing
        if costing.forecaster is not None:
            costing.forecaster.see(candidate.recipe, candidate.file)
        files = {candidate.key: (candidate.file, candidate.facts)}
        foreseen = {} if candidate.is_control else costing.foreseen(files)
        if candidate.key in foreseen:
            candidate.facts = foreseen[candidate.key]
            self._judge_costs(candidate)
        else:
            self.unsure.append(candidate)

    def _measure(self) -> None:
        """Measure all that wait for it; nothing else of ours runs now."""
        started, waiting, self.unsure = time.monotonic(), self.unsure, []
        files = {each.key: (each.file, each.facts) for each in waiting if each.file is not None and each.facts}
        always = [each.key for each in waiting if each.is_control]
        found = self.setting.costing.measure(files, always)
        for candidate in waiting:
            candidate.facts = found[candidate.key]
            self._judge_costs(candidate)
        self.pace.measured(len(waiting), time.monotonic() - started)
        self.clock.save()

    def _judge_costs(self, candidate: Candidate) -> None:
        """Whether the costs, which are known now, allow for training."""
        candidate.file = None
        assert candidate.facts is not None
        if candidate.is_control or self.setting.goal.within_costs(candidate.facts):
            self.barren_builds = 0
            self.ready.append(candidate)
        else:
            self.barren_builds += 1
            self._tell(candidate, TrialState.PRUNED)

    def _let_wait(self, candidate: Candidate) -> None:
        assert candidate.ended is not None
        assert candidate.facts is not None
        self.waiting[candidate.key] = candidate
        self.halving.ended(candidate.key, candidate.ended.number, self.setting.goal.rank(candidate.facts))

    def _report(self, candidate: Candidate) -> None:
        assert candidate.ended is not None
        assert candidate.facts is not None
        value = self.setting.goal.objective(candidate.facts)
        self.study.report(candidate.ask, value, candidate.ended.last, candidate.reached().model_dump_json())
        self.kept.forget(candidate.key, before=candidate.ended.number)

    def _tell(self, candidate: Candidate, state: TrialState) -> None:
        record = tell(self.setting, self.study, candidate, state)
        self.kept.forget(candidate.key)
        self.completed += state is TrialState.COMPLETE
        self.answered = self.answered or (state is TrialState.COMPLETE and bool(record.within_budget))
