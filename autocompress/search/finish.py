"""Full recovery of the best candidates, measured side by side with the baseline. Finished work is kept on disk."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from autocompress.clock import Clock
from autocompress.errors import RunError
from autocompress.events import Observer
from autocompress.measurement import Latency, ModelFacts
from autocompress.result import TrialRecord, TrialState
from autocompress.search.calm_latency import REPORT_S, CalmLatency
from autocompress.search.costing import measure_ram
from autocompress.search.finalist import Finalist
from autocompress.search.forecast import Forecaster
from autocompress.search.goal import Goal
from autocompress.search.recoveries import LEAST_RECOVERY_S, Recoveries

FINALISTS = 2  # recovered in full; more would each get less time
ATTEMPTS = 3  # rounds of finalists before a budget counts as missed
LEAST_RESPEND_S = 30.0  # of time for recoveries, in which two more files may be made and measured
OVERTIME = 0.05  # of the limit, where there would be no answer without


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What finishing works with; ``run`` does it.

    ``respend`` makes, of a candidate and a number for it, one that uses the limits better: see ``respend.respent``.
    """

    goal: Goal
    clock: Clock
    observer: Observer
    recoveries: Recoveries
    measuring: CalmLatency
    forecaster: Forecaster | None = None
    respend: Callable[[TrialRecord, int], TrialRecord | None] | None = None

    def run(self, records: tuple[TrialRecord, ...]) -> tuple[Latency, list[Finalist]]:
        """Finalists, the best first, and the baseline's latency from the measurement that they share.

        A finalist that breaks the budget when it is measured alone, or meets it only within the noise of that
        measurement, is followed by candidates that lie further inside: whoever measures the file again must find the
        budget met, too. A median at the limit would be found above it every second time. Where time is left for trials'
        own files only, that is not worth an accuracy that is lower beyond chance.

        Raises:
            RunError: there is no candidate to finish, or none could be finished.
        """
        finished: list[Finalist] = []
        baseline_latency: Latency | None = None
        goal, measuring_s = self.goal, 0.0
        for attempt in range(ATTEMPTS):
            missed = max((_missed_by(goal, finalist.facts) for finalist in finished), default=0.0)
            chosen = self._choose(records, finished, missed)
            if attempt and not self._has_time(goal, finished, measuring_s):
                break
            free = max((record.number for record in records), default=-1) + 1 + attempt
            chosen = self._with_respent(goal, chosen, finished, free)
            if not chosen:
                break
            finished += self.recoveries.finalists(chosen)
            if not finished:
                continue
            began = time.monotonic()
            baseline_latency, finished = self._measure(finished)
            measuring_s = time.monotonic() - began
            goal = self._goal_beside(baseline_latency)
            if any(goal.is_surely_within(finalist.facts) for finalist in finished):
                break
        if baseline_latency is None:
            raise RunError("no candidate could be finished; see the failed trials in study.journal for the reasons")
        ranked = _best_first(goal, finished)
        if goal.within_costs(ranked[0].facts) and not goal.is_surely_within(ranked[0].facts):
            self.observer.note("the answer meets the budget only within the noise of its measurement; measure it again")
        return baseline_latency, ranked

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

    def _with_respent(
        self, goal: Goal, chosen: list[TrialRecord], finished: list[Finalist], number: int
    ) -> list[TrialRecord]:
        """With what the best makes of the limits as they turned out to be, in the place of the last one."""
        if self.respend is None or not (chosen or finished) or self.clock.finish_left_s < LEAST_RESPEND_S:
            return chosen
        best = min(finished, key=lambda each: _rank(goal, each.facts)).kept.record if finished else chosen[0]
        made = self.respend(best, number)
        recipes = [*(each.recipe for each in finished), *(each.recipe for each in chosen)]
        known = {recipe.structure_digest() for recipe in recipes}
        if made is None or made.recipe.structure_digest() in known:
            return chosen
        self.observer.note(f"one more finalist: {made.summary}")
        return [*chosen[: FINALISTS - 1], made]

    def _worst(self, facts: ModelFacts) -> float:
        return max(self.goal.budget.violation(facts, self.goal.baseline).values(), default=-1.0)

    def _has_time(self, goal: Goal, finished: list[Finalist], measuring_s: float) -> bool:
        """Whether others can be recovered and measured, too; a little beyond the limit where none meets the budget."""
        met = any(goal.within_costs(finalist.facts) for finalist in finished)
        overtime_s = 0.0 if met else OVERTIME * self.clock.limit_s
        return self.clock.left_s + overtime_s > measuring_s + REPORT_S + FINALISTS * LEAST_RECOVERY_S

    def _measure(self, finalists: list[Finalist]) -> tuple[Latency, list[Finalist]]:
        """All finalists again beside the baseline, alone on the machine, for as long as a certificate takes."""
        started = time.monotonic()
        self.observer.stage("measure", "finalists beside the baseline")
        files = {index: finalist.file() for index, finalist in enumerate(finalists)}
        forecasts = self.forecaster.of_files(files) if self.forecaster is not None else {}
        baseline, latencies = self.measuring.of(files, self._expected(finalists))
        if self.forecaster is not None:
            calm = {key: each.median_ms for key, each in latencies.items() if not each.noisy}
            self.forecaster.learn(files, calm)
        goal = self._goal_beside(baseline)
        measured = []
        for index, finalist in enumerate(finalists):
            facts = finalist.facts.with_latency(latencies[index])
            if index in forecasts and facts.latency_predicted_ms is None:
                facts = forecasts[index].filled_in(facts)
            ram = facts.peak_ram_bytes or measure_ram(files[index], self.measuring.target)
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


def _best_first(goal: Goal, finalists: list[Finalist]) -> list[Finalist]:
    """By rank; but before a trial's own file goes what was recovered, is better beyond chance and met the costs."""
    ranked = sorted(finalists, key=lambda finalist: _rank(goal, finalist.facts))
    if not ranked[0].kept.is_as_tried:
        return ranked
    recovered = [each for each in ranked if not each.kept.is_as_tried]
    better = [each for each in recovered if _is_surely_better(goal, each.facts, ranked[0].facts)]
    return [*better[:1], *(each for each in ranked if each not in better[:1])]


def _is_surely_better(goal: Goal, unsure: ModelFacts, sure: ModelFacts) -> bool:
    """Whether what meets the costs, if only within the noise, is more accurate by more than both intervals allow."""
    if unsure.accuracy_val_interval is None or sure.accuracy_val_interval is None:
        return False
    is_near = goal.within_costs(unsure) and not goal.is_surely_within(unsure)
    return is_near and unsure.accuracy_val_interval[0] > sure.accuracy_val_interval[1]


def _missed_by(goal: Goal, facts: ModelFacts) -> float:
    """How far beyond the worst limit, by what was measured or by what measuring again may find."""
    return max(goal.sure_violation(facts), *goal.budget.violation(facts, goal.baseline).values(), -1.0)


def _rank(goal: Goal, facts: ModelFacts) -> tuple[float, ...]:
    """Sorts finalists, the best first: those that surely meet the costs before those that do so within the noise."""
    within, *others = goal.rank(facts)
    return (within, not goal.is_surely_within(facts), *others)
