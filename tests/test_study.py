import json
import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from autocompress.budget import Metric
from autocompress.measurement import ModelFacts
from autocompress.recipe import PassStep, Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.parameters import Knob
from autocompress.search.space import Range
from autocompress.search.study import CONTROL, STUDY, WORST_VIOLATION, Ask, Study

KNOBS = (Knob(name="prune.0", range=Range(low=0.0, high=0.8)), Knob(name="precision.0", choices=("int8", "fp32")))
START = {"prune.0": 0.25, "precision.0": "fp32"}


def study_at(path: Path, **changes) -> Study:
    return Study(path, KNOBS, **({"seed": 0, "minimize": False, "startup": 4} | changes))


def record_of(ask: Ask, state: TrialState = TrialState.COMPLETE, accuracy: float | None = 0.9) -> TrialRecord:
    return TrialRecord(
        number=ask.number,
        kind=TrialKind.CONTROL if ask.control else TrialKind.SEARCH,
        state=state,
        summary="pruned",
        recipe=Recipe(passes=(PassStep(name="prune_channels", settings={"ratios": {"a": ask.values["prune.0"]}}),)),
        facts=ModelFacts(size_bytes=100, macs=10, params=5, latency_ms=0.123456789, accuracy_val=accuracy),
        control=ask.control,
        error="because" if state is TrialState.FAILED else None,
    )


def tell(
    study: Study, state: TrialState = TrialState.COMPLETE, accuracy: float = 0.9, size: float = -0.5
) -> TrialRecord:
    ask = study.ask()
    record = record_of(ask, state, accuracy)
    study.tell(ask, record, {Metric.SIZE: size}, accuracy)
    return record


def trials_in(path: Path) -> list[optuna.trial.FrozenTrial]:
    """As any other program that knows Optuna sees them."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name=STUDY, storage=storage).trials


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "study.journal"


def test_a_new_study_has_nothing_in_it(journal):
    study = study_at(journal)
    assert study.is_new
    assert study.records() == ()


def test_records_survive_reopening_the_journal_to_the_last_bit(journal):
    study = study_at(journal)
    told = (tell(study), tell(study, TrialState.PRUNED, size=0.5), tell(study, TrialState.FAILED), tell(study))
    assert study.records() == told
    again = study_at(journal)
    assert again.records() == told
    assert not again.is_new


def test_a_complete_trial_is_told_with_its_value_and_constraints(journal):
    tell(study_at(journal), accuracy=0.75, size=-0.25)
    (trial,) = trials_in(journal)
    assert trial.state is optuna.trial.TrialState.COMPLETE
    assert trial.value == 0.75
    assert trial.constraints == {"size": -0.25}


def test_an_infeasible_trial_is_told_as_pruned_with_its_constraint(journal):
    tell(study_at(journal), TrialState.PRUNED, size=0.5)
    (trial,) = trials_in(journal)
    assert trial.state is optuna.trial.TrialState.PRUNED
    assert trial.constraints == {"size": 0.5}


def test_parameters_that_lead_nowhere_are_told_as_pruned_and_leave_no_record(journal):
    study = study_at(journal)
    study.rule_out(study.ask(), {Metric.SIZE: 0.1})
    (trial,) = trials_in(journal)
    assert trial.state is optuna.trial.TrialState.PRUNED
    assert trial.constraints == {"size": 0.1}
    assert study_at(journal).records() == ()


def test_one_far_miss_is_told_as_a_miss_of_bounded_size(journal):
    tell(study_at(journal), TrialState.PRUNED, size=float("inf"))
    (trial,) = trials_in(journal)
    assert trial.constraints == {"size": WORST_VIOLATION}


def test_a_failed_trial_is_told_as_failed_and_keeps_its_error(journal):
    tell(study_at(journal), TrialState.FAILED)
    (trial,) = trials_in(journal)
    assert trial.state is optuna.trial.TrialState.FAIL
    assert study_at(journal).records()[0].error == "because"


def test_a_trial_without_a_value_ends_as_failed(journal):
    study = study_at(journal)
    ask = study.ask()
    study.tell(ask, record_of(ask, accuracy=None), {}, None)
    assert trials_in(journal)[0].state is optuna.trial.TrialState.FAIL
    assert study.records()[0].state is TrialState.COMPLETE


def test_a_repeat_is_closed_without_a_record(journal):
    study = study_at(journal)
    study.drop(study.ask())
    assert trials_in(journal)[0].state is optuna.trial.TrialState.FAIL
    assert study_at(journal).records() == ()


def test_enqueued_values_are_asked_for_first_and_in_order(journal):
    study = study_at(journal)
    study.enqueue(START | {"unknown": 1.0}, "uniform")
    study.enqueue({"prune.0": 0.5, "precision.0": "int8"})
    first, second = study.ask(), study.ask()
    assert (first.values, first.control) == (START, "uniform")
    assert (second.values, second.control) == ({"prune.0": 0.5, "precision.0": "int8"}, None)


def test_guesses_are_enqueued_once_and_controls_always(journal):
    study = study_at(journal)
    for control in (None, None, "uniform", "other"):
        study.enqueue(START, control)
    assert len(trials_in(journal)) == 3


def test_asked_values_lie_in_the_space(journal):
    study = study_at(journal)
    for _ in range(12):
        ask = study.ask()
        study.tell(ask, record_of(ask), {Metric.SIZE: -0.1}, 0.5)
        assert 0.0 <= ask.values["prune.0"] <= 0.8
        assert ask.values["precision.0"] in ("int8", "fp32")


def test_the_best_feasible_value_guides_the_sampler(journal):
    """With 40 told trials whose value is the ratio itself, what is asked next lies high."""
    study = study_at(journal)
    for _ in range(40):
        ask = study.ask()
        study.tell(ask, record_of(ask), {Metric.SIZE: -0.1}, float(ask.values["prune.0"]))
    following = []
    for _ in range(10):
        ask = study.ask()
        study.tell(ask, record_of(ask), {Metric.SIZE: -0.1}, float(ask.values["prune.0"]))
        following.append(float(ask.values["prune.0"]))
    assert sum(following) / len(following) > 0.6


def test_the_same_seed_asks_the_same_and_a_resumed_study_does_not_repeat_itself(tmp_path):
    first, second = study_at(tmp_path / "a"), study_at(tmp_path / "b")
    asked = [(tell(first).recipe, tell(second).recipe) for _ in range(3)]
    assert all(one == other for one, other in asked)
    resumed = study_at(tmp_path / "a")
    assert resumed.ask().values["prune.0"] not in {recipe.passes[0].settings["ratios"]["a"] for recipe, _ in asked}


def test_what_a_dead_driver_left_running_is_failed_and_asked_for_again_first(journal):
    study = study_at(journal)
    study.enqueue(START, "uniform")
    done, left = tell(study), study.ask()
    again = study_at(journal)
    assert trials_in(journal)[left.number].state is optuna.trial.TrialState.FAIL
    ask = again.ask()
    assert ask.values == left.values
    assert ask.number != left.number
    assert again.records() == (done,)


def test_a_control_left_running_is_still_that_control_when_asked_again(journal):
    study = study_at(journal)
    study.enqueue(START, "uniform")
    study.ask()
    ask = study_at(journal).ask()
    assert (ask.values, ask.control) == (START, "uniform")


def test_what_was_enqueued_before_a_kill_is_still_asked_for(journal):
    study_at(journal).enqueue(START, "uniform")
    ask = study_at(journal).ask()
    assert (ask.values, ask.control) == (START, "uniform")


def test_a_kill_between_record_and_tell_loses_nothing_and_repeats_nothing(journal):
    """The record is written before Optuna is told; a trial that has one is not asked for again."""
    study = study_at(journal)
    ask = study.ask()
    record = record_of(ask)
    ask.trial.set_user_attr("record", record.model_dump_json())
    again = study_at(journal)
    assert again.records() == (record,)
    assert again.ask().values != ask.values


def test_plain_optuna_in_another_process_reads_the_journal(journal):
    study = study_at(journal)
    tell(study, accuracy=0.5)
    tell(study, accuracy=0.75)
    study.enqueue(START, "uniform")
    script = f"""
import json, optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
study = optuna.load_study(study_name={STUDY!r}, storage=JournalStorage(JournalFileBackend({str(journal)!r})))
print(json.dumps([study.best_value, study.direction.name, [t.state.name for t in study.trials],
                  study.trials[2].user_attrs]))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    states = ["COMPLETE", "COMPLETE", "WAITING"]
    assert json.loads(ended.stdout) == [0.75, "MAXIMIZE", states, {CONTROL: "uniform"}]


@pytest.mark.parametrize("minimize", [True, False])
def test_the_direction_is_kept(journal, minimize):
    tell(study_at(journal, minimize=minimize))
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    study = optuna.load_study(study_name=STUDY, storage=storage)
    assert (study.direction is optuna.study.StudyDirection.MINIMIZE) is minimize


@pytest.mark.parametrize("cut", [1, 40])
def test_a_last_line_cut_off_by_a_kill_costs_that_line_alone(journal, cut):
    """And what is written after it can be read by all."""
    study = study_at(journal)
    first = tell(study)
    tell(study)
    journal.write_bytes(journal.read_bytes()[:-cut])
    again = study_at(journal)
    assert again.records()[0] == first
    more = tell(again)
    assert study_at(journal).records()[-1] == more
    assert len(trials_in(journal)) >= 3


def test_a_lock_left_by_a_kill_holds_nobody_up(tmp_path, monkeypatch):
    """A driver killed while it writes leaves Optuna's link behind, which leads nowhere if the path was relative."""
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    journal = Path("run", "study.journal")
    told = tell(study_at(journal))
    Path("run", "study.journal.lock").symlink_to(journal)
    started = time.monotonic()
    again = study_at(journal)
    assert tell(again) in again.records()
    assert told in again.records()
    assert time.monotonic() - started < 20  # Optuna's own lock waits for 30 s


def test_the_disk_is_waited_for_when_a_trial_ends_and_not_for_its_parameters(journal, monkeypatch):
    study, waited = study_at(journal), []
    monkeypatch.setattr(os, "fsync", waited.append)
    ask = study.ask()
    assert waited == []
    study.report(ask, 0.5, 1, "so far")
    study.tell(ask, record_of(ask), {}, 0.9)
    assert len(waited) == 2


def test_a_process_that_dies_while_it_writes_lets_go_of_the_journal(journal):
    study_at(journal)
    script = f"""
import os
from pathlib import Path
import json
from autocompress.search.study import _Journal
json.dumps = lambda *_, **__: os.kill(os.getpid(), 9)
_Journal(Path({str(journal)!r})).append_logs([{{}}])
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert tell(study_at(journal)).state is TrialState.COMPLETE
