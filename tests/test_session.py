"""Rungs and slots of a search, on candidates whose costs and scores are made up."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from made_up_forecasts import ForecastingCosting, MadeUpForecaster
from made_up_search import MadeUpCosting, MadeUpLauncher, made_up_setting
from test_loop import ended, launcher_of, search_in
from test_study import trials_in

from autocompress.recipe import Recovery
from autocompress.result import TrialRecord, TrialState
from autocompress.search.asking import FREE_TELLS
from autocompress.search.launcher import Job, Work
from autocompress.search.loop import Search
from autocompress.search.session import LEAST_COMPLETE, MEASURED_PER_SLOT, Session
from autocompress.search.setting import Setting

LOOSE = "latency<=9ms"
IN_RUNGS = Recovery(steps=90)


def in_rungs(setting: Setting) -> Setting:
    return replace(setting, builder=replace(setting.builder, recovery=IN_RUNGS))


def forecasting(budget: str, limit_ms: float, **forecasts) -> Setting:
    costing = ForecastingCosting(limit_ms=limit_ms, forecaster=MadeUpForecaster(**forecasts))
    return replace(in_rungs(made_up_setting(budget)), costing=costing)


def rungs_trained(launcher: MadeUpLauncher) -> list[tuple[int, int]]:
    return [(job.key, job.rung.number) for job in launcher.jobs if job.rung is not None]


def test_most_candidates_end_at_an_early_rung_and_the_best_come_to_the_end(tmp_path):
    setting = in_rungs(made_up_setting(LOOSE))
    records = search_in(tmp_path, setting, trials=18).run()
    trained = [record for record in records if record.rung is not None]
    complete, lost = ended(tuple(trained), TrialState.COMPLETE), ended(tuple(trained), TrialState.PRUNED)
    assert len(trained) == 18
    assert LEAST_COMPLETE <= len(complete) < len(lost)
    assert {(record.rung, record.steps) for record in complete} == {(3, 90)}
    assert {(record.rung, record.steps) for record in lost} <= {(1, 10), (2, 30)}
    best = max(trained, key=lambda record: record.facts.accuracy_val)
    assert best.state is TrialState.COMPLETE


def test_a_loser_is_told_what_it_reached_apart_from_the_values_of_whole_recoveries(tmp_path):
    records = search_in(tmp_path, in_rungs(made_up_setting(LOOSE)), trials=12).run()
    trials = {trial.number: trial for trial in trials_in(tmp_path / "study.journal")}
    for record in records:
        trial = trials[record.number]
        if record.state is TrialState.PRUNED and record.rung is not None:
            assert trial.state is optuna.trial.TrialState.PRUNED
            assert trial.intermediate_values[record.steps] == record.facts.accuracy_val
        if record.state is TrialState.COMPLETE:
            assert trial.value == record.facts.accuracy_val


def test_a_control_goes_through_all_rungs(tmp_path):
    setting = in_rungs(made_up_setting(LOOSE))
    search = search_in(tmp_path, setting, trials=9)
    search.study.enqueue(setting.builder.uniform(0.9), "uniform pruning + int8")  # by far the least accurate
    (control,) = [record for record in search.run() if record.control]
    assert (control.state, control.rung) == (TrialState.COMPLETE, 3)


class Crowded(MadeUpLauncher):
    """Remembers how many jobs it had whenever it was listened to."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd: list[int] = []

    def next_done(self):
        self.crowd.append(len(self.waiting))
        return super().next_done()


def test_where_forecasts_decide_no_slot_is_idle_until_the_last_candidates(tmp_path):
    setting = replace(forecasting(LOOSE, 9.0), launcher=(launcher := Crowded()))
    search_in(tmp_path, setting, trials=20).run()
    assert setting.costing.measured == []
    assert set(launcher.crowd[:-4]) == {launcher.slots()}


class Watched(MadeUpCosting):
    """Remembers how many files were measured at once, and that nothing ran meanwhile."""

    def __init__(self, launcher: MadeUpLauncher) -> None:
        self.launcher, self.batches = launcher, []

    def measure(self, candidates, always=()):
        assert self.launcher.waiting == []
        self.batches.append(len(candidates))
        return super().measure(candidates, always)


def test_without_forecasts_many_are_measured_at_once_while_nothing_runs(tmp_path):
    setting = in_rungs(made_up_setting("size<=100MB"))
    setting = replace(setting, costing=(costing := Watched(launcher_of(setting))))
    search_in(tmp_path, setting, trials=16).run()
    assert costing.batches == [MEASURED_PER_SLOT * 2] * 2


@pytest.mark.parametrize(
    ("left_s", "build_s", "at_once"), [(600.0, 0.0, 8), (600.0, 3.0, 8), (12.0, 3.0, 4), (2.0, 9.0, 2)]
)
def test_fewer_are_measured_at_once_where_building_them_would_take_most_of_the_time(left_s, build_s, at_once):
    session = SimpleNamespace(slots=2, pace=SimpleNamespace(build_s=build_s), _left_s=lambda: left_s)
    assert Session._measured_at_once(session) == at_once


class Keeping(MadeUpLauncher):
    """Keeps rungs as workers do, and dies at the ``dies_at``-th end."""

    def __init__(self, dies_at: int = 10**6) -> None:
        super().__init__()
        self.left = dies_at

    def next_done(self):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().next_done()

    def done(self, job: Job):
        if job.keep is not None:
            job.keep.parent.mkdir(exist_ok=True)
            job.keep.write_bytes(b"")
        return super().done(job)


def killed_and_resumed(folder: Path, *, lose_files: bool) -> tuple[Keeping, Keeping, tuple[TrialRecord, ...]]:
    """A search that dies between rungs, and the one after it."""
    first, second = Keeping(dies_at=22), Keeping()

    def search_on(launcher: Keeping) -> Search:
        setting = replace(in_rungs(made_up_setting(LOOSE)), launcher=launcher)
        return replace(search_in(folder, setting, trials=9), keep=folder / "rungs")

    with pytest.raises(KeyboardInterrupt):
        search_on(first).run()
    if lose_files:
        for path in (folder / "rungs").iterdir():
            path.unlink()
    return first, second, search_on(second).run()


def test_a_killed_search_goes_on_with_finished_rungs(tmp_path):
    first, second, records = killed_and_resumed(tmp_path, lose_files=False)
    assert rungs_trained(first)
    assert not set(rungs_trained(first)) & set(rungs_trained(second))
    resumed = [job for job in second.jobs if job.rung is not None and job.state is not None]
    assert any(job.state.suffix == ".safetensors" for job in resumed)
    assert sum(record.rung is not None for record in records) == 9
    assert list((tmp_path / "rungs").iterdir()) == []


def test_what_cannot_go_on_is_asked_for_again(tmp_path):
    first, second, records = killed_and_resumed(tmp_path, lose_files=True)
    left = {job.recipe.digest() for job in first.jobs if job.rung is not None}
    assert left <= {record.recipe.digest() for record in records}
    assert min(number for _, number in rungs_trained(second)) == 1


def test_what_forecasts_rule_out_is_told_a_few_times_only(tmp_path):
    setting = forecasting("latency<=1us", 1e-3)
    records = search_in(tmp_path, setting, trials=None).run()
    assert len(records) == FREE_TELLS
    assert {record.state for record in records} == {TrialState.PRUNED}
    assert [job for job in launcher_of(setting).jobs if job.work is not Work.STRUCTURE] == []


def test_trials_in_work_are_running_for_the_sampler(tmp_path):
    setting = in_rungs(made_up_setting(LOOSE))
    launcher = launcher_of(setting)
    running, next_done = [], launcher.next_done

    def counted():
        states = [trial.state for trial in trials_in(tmp_path / "study.journal")]
        running.append(states.count(optuna.trial.TrialState.RUNNING) >= len(launcher.waiting))
        return next_done()

    launcher.next_done = counted
    search_in(tmp_path, setting, trials=3).run()
    assert running
    assert all(running)
