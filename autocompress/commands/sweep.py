"""Several budgets from one run: each has a folder and a search of its own, what does not depend on them is done once.

Once are trained and measured the original, the uniform recipes of the survey and the sensitivity table. Handed on are
the original's outputs, and what measured candidates have taught of costs. The time is for all: each budget gets its
share of what is left.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import nn

from autocompress.budget import Budget
from autocompress.clock import Clock
from autocompress.commands.baseline import FILE, WEIGHTS, Pace
from autocompress.commands.compress import Opened, check_budget, has_ended, opened
from autocompress.commands.config import RunConfig
from autocompress.commands.folder import BASELINE, CLOCK, CONFIG, REPORT, RESULT, WORK, check_folder, part
from autocompress.commands.pipeline import Pipeline
from autocompress.commands.reach import NOT_UNIFORM
from autocompress.commands.survey import Survey, search_space
from autocompress.delivery.sweep import write_page
from autocompress.errors import BudgetError
from autocompress.events import Observer, Remembering
from autocompress.facts import write_whole
from autocompress.recover.teacher import Teacher
from autocompress.result import FrontPoint, Result, Status
from autocompress.search.launcher import Launcher
from autocompress.search.outer import Outer
from autocompress.sweep import Sweep, SweepRow
from autocompress.task import Task

LEAST_S = 1.0  # of a budget, when no time is left: a run always tries something


def run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer,
    launcher: Launcher | None = None,
    model: nn.Module | None = None,
    task: Task | None = None,
) -> Sweep:
    """Carry out ``config`` for each budget of its sweep; see ``autocompress.compress``.

    Raises:
        BudgetError: no budget, or one that cannot be judged on this machine.
    """
    if not config.sweep:
        raise BudgetError("a sweep takes at least one budget, got none; for example ['size<=50%', 'size<=25%']")
    for budget in config.sweep:
        check_budget(budget)
    search_space(config)
    check_folder(out, config, resume=resume, overwrite=overwrite)
    ended = resume and has_ended(config, out, observer)
    if ended:
        return Sweep.from_json((out / RESULT).read_text())
    goes_on_longer = resume and (out / RESULT).is_file()
    kept = {} if goes_on_longer or not resume else _kept(config, out)
    with opened(
        config, out, resume=resume, overwrite=overwrite, observer=observer, launcher=launcher, model=model, task=task
    ) as work:
        return _Sweeping(config=config, out=out, work=work, observer=observer).run(kept)


def _kept(config: RunConfig, out: Path) -> dict[int, Result]:
    """Results of the budgets that an earlier session came to the end of."""
    places = {number: out / part(number) / RESULT for number, _ in enumerate(config.sweep, 1)}
    return {number: Result.from_json(place.read_text()) for number, place in places.items() if place.is_file()}


@dataclass(frozen=True, kw_only=True)
class _Basis:
    """What all budgets have in common; without ``pace`` nothing was trained, as no budget can be met.

    ``told`` are the notes on it.
    """

    found: Survey
    pace: Pace | None
    outer: Outer | None
    told: tuple[str, ...]

    def under(self, budget: str) -> Survey:
        """The survey, with one of the budgets as what is sought."""
        return replace(self.found, goal=replace(self.found.goal, budget=Budget.parse(budget)))


@dataclass(frozen=True, kw_only=True)
class _Sweeping:
    config: RunConfig
    out: Path
    work: Opened
    observer: Observer

    def run(self, kept: dict[int, Result]) -> Sweep:
        """Every budget that has no result yet, in order, then the account of all."""
        results = dict(kept)
        left = [(number, budget) for number, budget in enumerate(self.config.sweep, 1) if number not in results]
        basis = self._basis() if left else None
        for place, (number, budget) in enumerate(left):
            assert basis is not None
            self.observer.note(f"budget {number} of {len(self.config.sweep)}: {budget}")
            share_s = self.work.clock.left_s / (len(left) - place)
            results[number] = self._search(basis, self.out / part(number), budget, share_s)
        sweep = self._account([results[number] for number in sorted(results)])
        write_whole(self.out / RESULT, sweep.to_json())
        write_page(sweep, self.out / REPORT)
        self.observer.note(sweep.verdict)
        return sweep

    def _basis(self) -> _Basis:
        # A limit on each metric that any budget limits: so the survey measures it.
        limits = {limit.metric: limit for text in self.config.sweep for limit in Budget.parse(text).limits}
        first = self._pipeline(",".join(map(str, limits.values())), self.out, self.work.clock)
        found = first.look()
        # That no uniform recipe meets all budgets at once says nothing of any.
        first.observer.forget(NOT_UNIFORM)
        basis = _Basis(found=found, pace=None, outer=None, told=first.observer.notes)
        if all(basis.under(budget).is_hopeless for budget in self.config.sweep):
            return basis
        found, pace = first.train(found)
        outer = first.score(found, pace)
        return _Basis(found=found, pace=pace, outer=outer, told=first.observer.notes)

    @cached_property
    def _teacher(self) -> Teacher:
        return Teacher()

    def _pipeline(
        self, budget: str, out: Path, clock: Clock, outer: Outer | None = None, told: tuple[str, ...] = ()
    ) -> Pipeline:
        time_s = self.config.time_s / len(self.config.sweep)
        config = self.work.prepared.config.model_copy(update={"budget": budget, "sweep": (), "time_s": time_s})
        return Pipeline(
            prepared=replace(self.work.prepared, config=config),
            out=out,
            clock=clock,
            launcher=self.work.launcher,
            observer=Remembering(self.observer, told),
            outer=outer,
            teacher=self._teacher,
        )

    def _search(self, basis: _Basis, out: Path, budget: str, share_s: float) -> Result:
        """The run for one budget, in its own folder."""
        found, clock = basis.under(budget), self._clock(out, share_s)
        self._open(out, budget, clock.limit_s)
        pipeline = self._pipeline(budget, out, clock, basis.outer, basis.told)
        try:
            if basis.pace is None:
                return pipeline.give_up(found)
            found = pipeline.with_extremes(found)
            if found.is_hopeless:
                return pipeline.give_up(found)
            return pipeline.search(found, basis.pace)
        finally:
            clock.save()

    def _clock(self, out: Path, share_s: float) -> Clock:
        """Counts on from what earlier sessions spent on this budget."""
        clock = Clock(max(LEAST_S, share_s), out / WORK / CLOCK, self.work.clock)
        clock.limit_s += clock.elapsed_s
        return clock

    def _open(self, out: Path, budget: str, time_s: float) -> None:
        """State the configuration, and lay the common baseline where that of a run lies."""
        given = {"budget": budget, "sweep": (), "time_s": time_s, "input": self.work.prepared.task.preprocess}
        write_whole(out / CONFIG, self.config.model_copy(update=given).to_yaml())
        for name in (WEIGHTS, FILE):
            place = self.out / BASELINE / name
            if place.is_file():
                write_whole(out / BASELINE / name, place.read_bytes())

    def _account(self, results: list[Result]) -> Sweep:
        rows = [
            _row(budget, part(number), result)
            for number, (budget, result) in enumerate(zip(self.config.sweep, results, strict=True), 1)
        ]
        met = sum(row.status is Status.MET for row in rows)
        first, clock = results[0], self.work.clock
        return Sweep(
            status=Status.MET if met == len(rows) else Status.INFEASIBLE,
            verdict=_verdict(met, rows),
            budgets=tuple(rows),
            baseline=first.baseline.model_copy(update={"artifact": f"{part(1)}/{first.baseline.artifact}"}),
            model=self.config.model,
            data=self.config.data,
            metric_name=first.metric_name,
            samples=first.samples,
            target=first.target,
            machine=first.machine,
            seconds=clock.elapsed_s,
            stage_seconds=dict(clock.stages),
            seed=self.config.seed,
            versions=first.versions,
        )


def _row(budget: str, folder: str, result: Result) -> SweepRow:
    """A run's result, with its paths from the folder above."""
    return SweepRow(
        budget=budget,
        folder=folder,
        status=result.status,
        verdict=result.verdict,
        rows=result.budget,
        best=None if result.best is None else result.best.model_copy(update=_moved(result.best.artifact, folder)),
        pareto=tuple(
            FrontPoint(
                name=f"{folder}/{point.name}",
                summary=point.summary,
                facts=point.facts.model_copy(update=_moved(point.facts.artifact, folder)),
                note=point.note,
            )
            for point in result.pareto
        ),
        nearest_budget=None if result.diagnosis is None else result.diagnosis.nearest_budget,
        seconds=result.seconds,
    )


def _moved(artifact: str | None, folder: str) -> dict[str, str | None]:
    return {"artifact": None if artifact is None else f"{folder}/{artifact}"}


def _verdict(met: int, rows: list[SweepRow]) -> str:
    if met == len(rows):
        return f"Met: all of {met} budgets." if met > 1 else rows[0].verdict
    missed = "; ".join(row.budget for row in rows if row.status is not Status.MET)
    return f"Met: {met} of {len(rows)} budgets. Not met: {missed}."
