"""The end of a run: certificate, bundles, result and report."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from autocompress.budget import BudgetRow
from autocompress.clock import Clock
from autocompress.commands.certify import FILE, certificate_of
from autocompress.commands.folder import BASELINE, BEST, REPORT, RESULT
from autocompress.commands.front import write_front
from autocompress.commands.prepare import Prepared
from autocompress.commands.survey import search_space
from autocompress.delivery.bundle import write_bundle
from autocompress.delivery.layer_rows import Treated, layer_rows
from autocompress.delivery.report import write_report
from autocompress.events import Observer
from autocompress.facts import write_whole
from autocompress.graph.anatomy import Anatomy
from autocompress.hardware.machine import package_versions
from autocompress.measurement import Latency, ModelFacts
from autocompress.result import (
    AttributionRow,
    Diagnosis,
    FrontPoint,
    LayerRow,
    Result,
    Status,
    TrialCounts,
    TrialRecord,
    TrialState,
)
from autocompress.search.controls import control_rows, expected_controls
from autocompress.search.finalist import Finalist
from autocompress.search.front_points import FrontFile
from autocompress.search.goal import Goal
from autocompress.search.ladder import Ladder
from autocompress.search.least import Least, least_costs
from autocompress.search.outer import Outer
from autocompress.search.selection import diagnose, nearest_of
from autocompress.trial import accuracy_of
from autocompress.units import Kind, format_quantity


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run has found by its end; ``goal.baseline`` is the baseline as the search knew it.

    ``structures`` are those of the survey; ``least`` is there where they met no budget, else it follows from ``outer``.
    ``told`` are the notes of the run.
    """

    prepared: Prepared
    out: Path
    goal: Goal
    anatomy: Anatomy
    baseline_file: bytes
    records: tuple[TrialRecord, ...]
    ladder: Ladder
    clock: Clock
    structures: tuple[ModelFacts, ...]
    outer: Outer | None = None
    least: Least | None = None
    attribution: tuple[AttributionRow, ...] = ()
    front_files: tuple[FrontFile, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Ending:
    """What certifying added; ``rows`` are those of the best, or of the structure that came nearest without one."""

    baseline: ModelFacts
    facts: ModelFacts | None
    rows: tuple[BudgetRow, ...]
    finalists: tuple[Finalist, ...]
    points: tuple[FrontPoint, ...]

    @property
    def best(self) -> Finalist | None:
        """The finalist that is returned."""
        return self.finalists[0] if self.finalists else None


def write_outcome(
    outcome: Outcome, baseline_latency: Latency | None, finalists: list[Finalist], observer: Observer
) -> Result:
    """Certify the first finalist, write bundles, ``result.json`` and ``report.html``, and give the result.

    The test split is read here and nowhere else, once for the baseline and once for the first finalist.
    """
    baseline = _baseline(outcome, baseline_latency, judged=bool(finalists))
    best = finalists[0] if finalists else None
    shutil.rmtree(outcome.out / BEST, ignore_errors=True)
    facts = None
    rows = outcome.goal.budget.rows(nearest_of(outcome.goal, outcome.structures), baseline, "val")
    if best is not None:
        facts = _tested(outcome, best, f"{BEST}/{FILE}")
        rows = outcome.goal.budget.rows(facts, baseline, "test")
        assert best.latency is not None
        certificate = certificate_of(
            outcome.prepared, best.file(), best.recipe, facts=facts, baseline=baseline, rows=rows, latency=best.latency
        )
        write_bundle(outcome.out / BEST, best.file(), best.portable(), best.recipe, certificate, note=best.note)
    ending = _Ending(
        baseline=baseline,
        facts=facts,
        rows=rows,
        finalists=tuple(finalists),
        points=write_front(
            outcome.prepared,
            outcome.out,
            outcome.goal.budget,
            baseline,
            finalists=finalists,
            trials=outcome.front_files,
        ),
    )
    result = _result(outcome, ending)
    write_whole(outcome.out / RESULT, result.to_json())
    write_report(result, outcome.out / REPORT)
    observer.note(result.verdict)
    return result


def _baseline(outcome: Outcome, latency: Latency | None, *, judged: bool) -> ModelFacts:
    """The baseline with its latency from the finalists' own measurement, and its test accuracy."""
    facts = outcome.goal.baseline if latency is None else outcome.goal.baseline.with_latency(latency)
    if judged or facts.accuracy_val is not None:
        test = accuracy_of(outcome.baseline_file, outcome.prepared.task, "test", threads=outcome.prepared.machine.cores)
        facts = facts.model_copy(update={"accuracy_test": test.value, "accuracy_test_interval": test.interval})
    return facts.model_copy(update={"artifact": f"{BASELINE}/{FILE}"})


def _tested(outcome: Outcome, best: Finalist, artifact: str) -> ModelFacts:
    test = accuracy_of(best.file(), outcome.prepared.task, "test", threads=outcome.prepared.machine.cores)
    return best.facts.model_copy(
        update={
            "accuracy_test": test.value,
            "accuracy_test_interval": test.interval,
            "latency_predicted_ms": best.facts.latency_predicted_ms or _predicted_ms(outcome, best),
            "artifact": artifact,
        }
    )


def _predicted_ms(outcome: Outcome, best: Finalist) -> float | None:
    """What the search took the latency for: measured on the untrained structure."""
    digest = best.recipe.structure_digest()
    return next(
        (r.facts.latency_ms for r in outcome.records if r.facts and r.recipe.structure_digest() == digest), None
    )


def _result(outcome: Outcome, ending: _Ending) -> Result:
    prepared, config = outcome.prepared, outcome.prepared.config
    best, facts, baseline = ending.best, ending.facts, ending.baseline
    met = facts is not None and all(row.met for row in ending.rows)
    diagnosis = None if met else _diagnosis(outcome, ending)
    winner = None if best is None else best.kept.record.control
    return Result(
        status=Status.MET if met else Status.INFEASIBLE,
        verdict=_verdict(facts, baseline, diagnosis) + minimized(outcome.goal, facts, baseline) + _answered_by(winner),
        asked=config.budget,
        budget=ending.rows,
        baseline=baseline,
        best=facts,
        recipe=None if best is None else best.recipe,
        layers=_layers(outcome, best),
        controls=control_rows(
            outcome.records,
            replace(outcome.goal, baseline=baseline),
            expected_controls(search_space(config), outcome.outer) if outcome.records else (),
            winner,
        ),
        attribution=outcome.attribution,
        pareto=ending.points,
        trials=_counts(outcome.records),
        trial_log=outcome.records + tuple(finalist.kept.record for finalist in ending.finalists),
        diagnosis=diagnosis,
        model=config.model,
        data=config.data,
        metric_name=prepared.task.metric_name,
        samples={name: len(split) for name, split in prepared.task.splits()},
        input=prepared.task.preprocess,
        target=config.target,
        machine=prepared.machine,
        notes=_notes(outcome, best),
        seconds=outcome.clock.elapsed_s,
        stage_seconds=dict(outcome.clock.stages),
        seed=config.seed,
        versions=package_versions(),
    )


def _diagnosis(outcome: Outcome, ending: _Ending) -> Diagnosis:
    """From the best by its test accuracy, if only that fails it; else from finalists, trials and the ladder.

    What finalists were as trials is superseded. A trial that seemed to meet the budget and was not finished is none to
    name: it says no more than what was asked for.
    """
    finished = {finalist.recipe.structure_digest() for finalist in ending.finalists}
    tried = [
        record.facts
        for record in outcome.records
        if record.facts is not None and record.recipe.structure_digest() not in finished
    ]
    others = [*tried, *outcome.structures]
    if ending.facts is not None and outcome.goal.within_costs(ending.facts):
        goal = replace(outcome.goal, baseline=_judged_by_test(ending.baseline))
        return diagnose(goal, [_judged_by_test(ending.facts)], others=[_judged_by_test(facts) for facts in others])
    measured = [finalist.facts for finalist in ending.finalists]
    missing = [
        facts for facts in others if not measured or max(outcome.goal.violation(facts).values(), default=0.0) > 0
    ]
    least = outcome.least
    if least is None and outcome.outer is not None and not outcome.goal.minimizes_cost:
        outer = outcome.outer
        least = least_costs(outer.allocator.model, outer.students, outer.limits)
    return diagnose(outcome.goal, [*measured, *missing], least, others)


def _judged_by_test(facts: ModelFacts) -> ModelFacts:
    """The facts with the test accuracy in the place that a diagnosis looks at."""
    return facts.model_copy(update={"accuracy_val": facts.accuracy_test})


def _layers(outcome: Outcome, best: Finalist | None) -> tuple[LayerRow, ...]:
    if best is None:
        return ()
    kept = best.kept
    after = Treated(
        layers=kept.layers,
        params=kept.layer_params,
        stored=kept.stored,
        changed=kept.changed,
        notes=kept.record.notes,
    )
    return layer_rows(outcome.anatomy.layers, after)


def _notes(outcome: Outcome, best: Finalist | None) -> tuple[str, ...]:
    stays = tuple(f"channels of {g.name} stay: {g.reason}" for g in outcome.anatomy.groups if g.reason)
    stays += tuple(f"the block {b.name} stays: {b.reason}" for b in outcome.anatomy.blocks or () if b.reason)
    int8 = outcome.ladder.int8_pays()
    slow = () if int8 is None or int8 else ("int8 is no faster than fp32 for this network on this machine",)
    skipped = () if best is None else best.kept.record.notes
    return tuple(dict.fromkeys((*outcome.prepared.task.notes, *stays, *slow, *outcome.told, *skipped)))


def _counts(records: tuple[TrialRecord, ...]) -> TrialCounts:
    states = [record.state for record in records]
    return TrialCounts(
        total=len(states),
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAILED),
    )


def minimized(goal: Goal, facts: ModelFacts | None, baseline: ModelFacts) -> str:
    """What the minimized cost came to, where accuracy is all that is limited; said plainly where that is no less."""
    if not goal.minimizes_cost or facts is None:
        return ""
    here, before = goal.minimize.of(facts), goal.minimize.of(baseline)
    if here is None or before is None:
        return ""
    values = " against ".join(format_quantity(value, goal.minimize.kind) for value in (here, before))
    no_less = ", no less than the original's" if here >= before else ""
    return f" Minimized: {goal.minimize} {values}{no_less}."


def _answered_by(control: str | None) -> str:
    """Said plainly where the search did no better than a simple alternative."""
    return "" if control is None else f" The answer is a simple alternative that the search tries, too: {control}."


def _verdict(facts: ModelFacts | None, baseline: ModelFacts, diagnosis: Diagnosis | None) -> str:
    if diagnosis is not None or facts is None:
        return f"Not met: {diagnosis.message if diagnosis else 'no candidate'}."
    assert facts.latency_ms is not None
    assert baseline.latency_ms is not None
    return (
        f"Met: {baseline.latency_ms / facts.latency_ms:.1f}× faster and {baseline.size_bytes / facts.size_bytes:.1f}× "
        f"smaller ({format_quantity(facts.latency_ms, Kind.TIME)}, {format_quantity(facts.size_bytes, Kind.BYTES)}), "
        f"test accuracy {facts.accuracy_test:.4f} against {baseline.accuracy_test:.4f}."
    )
