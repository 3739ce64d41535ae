"""Whole runs on the tiny task, in this process. What they cost is mostly exporting: about half a second a candidate."""

import hashlib
import json
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch
import torch.nn.functional as F
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sample_certificate import BASELINE
from tiny_runs import NET, SMALL_SPACE, TASK, brief_measuring, compress_briefly, tiny_task, trained_net
from torch import Tensor, nn

import autocompress as ac
from autocompress.budget import Budget, Metric
from autocompress.commands import outcome, pipeline
from autocompress.commands.config import RunConfig
from autocompress.errors import (
    AutocompressError,
    BudgetError,
    InputError,
    ModelError,
    OutputError,
    RunError,
    SpaceError,
)
from autocompress.evaluate import evaluate_file
from autocompress.measurement import ModelFacts
from autocompress.recipe import PassStep, Recipe
from autocompress.result import Result, Status, TrialKind, TrialRecord, TrialState
from autocompress.search import launcher
from autocompress.search.goal import Goal
from autocompress.units import Kind, parse_quantity

FACTS = (
    "accuracy_val",
    "accuracy_test",
    "accuracy_test_interval",
    "latency_ms",
    "latency_p95_ms",
    "latency_interval_ms",
    "size_bytes",
    "peak_ram_bytes",
    "macs",
    "params",
    "artifact",
)


@pytest.fixture(scope="module")
def result(finished_run) -> dict:
    """``result.json`` as anyone reads it."""
    return json.loads((finished_run / "result.json").read_text())


@pytest.fixture
def small_space(tmp_path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_SPACE)
    return str(path)


# A finished run


def test_the_share_of_the_originals_time_is_measured_round_by_round(result):
    low, high = result["best"]["latency_share_interval"]
    share = result["best"]["latency_ms"] / result["baseline"]["latency_ms"]
    assert 0 < low <= high
    assert 0.8 * low <= share <= 1.25 * high  # medians of rounds that were paired, and that were not
    assert result["baseline"]["latency_share_interval"] is None


@pytest.mark.slow
def test_a_run_leaves_every_file_that_is_promised(finished_run):
    promised = ["result.json", "report.html", "config.yaml", "study.journal"]
    promised += [f"best/{name}" for name in ("model.onnx", "recipe.yaml", "certificate.json", "README.md")]
    assert [name for name in promised if not (finished_run / name).is_file()] == []


@pytest.mark.slow
def test_the_result_has_the_keys_that_are_promised(result):
    assert result["status"] == "met"
    promised = {"budget", "baseline", "best", "controls", "pareto", "trials", "seconds", "seed", "versions"}
    assert promised <= set(result)
    assert set(result["trials"]) == {"total", "complete", "pruned", "failed"}
    for row in result["budget"]:
        assert {"metric", "limit", "value", "met"} <= set(row)
        assert row["met"] is True
    for name in ("baseline", "best"):
        missing = [field for field in FACTS if result[name].get(field) is None]
        assert missing == [], name
    assert result["best"]["latency_predicted_ms"] > 0
    assert (result["best"]["artifact"], result["baseline"]["artifact"]) == ("best/model.onnx", "baseline/model.onnx")


@pytest.mark.slow
def test_rows_of_the_budget_follow_from_the_numbers_beside_them(result):
    best, baseline = result["best"], result["baseline"]
    rows = {row["metric"]: (row["limit"], row["value"]) for row in result["budget"]}
    assert rows == {
        "latency": (5.0, best["latency_ms"]),
        "size": (0.5 * baseline["size_bytes"], best["size_bytes"]),
        "accuracy": (0.7 * baseline["accuracy_test"], best["accuracy_test"]),
        "accuracy_drop": (0.3, pytest.approx(baseline["accuracy_test"] - best["accuracy_test"])),
    }


@pytest.mark.slow
def test_the_certificate_is_of_the_file_beside_it(finished_run, result):
    certificate = json.loads((finished_run / "best" / "certificate.json").read_text())
    content = (finished_run / "best" / "model.onnx").read_bytes()
    assert certificate["file"] == {
        "name": "model.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    assert certificate["met"] is True
    assert certificate["budget"] == result["budget"]
    assert certificate["facts"] == result["best"]
    assert certificate["baseline"] == result["baseline"]
    assert certificate["latency"]["median_ms"] == result["best"]["latency_ms"]
    assert result["best"]["size_bytes"] == len(content)
    recipe = Recipe.from_yaml((finished_run / "best" / "recipe.yaml").read_text())
    assert certificate["recipe_digest"] == recipe.digest()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["baseline", "best"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_accuracies_are_those_of_the_files_in_the_runtime(finished_run, result, name, split):
    task = tiny_task()
    accuracy = evaluate_file(finished_run / name / "model.onnx", getattr(task, split), task, threads=1)
    assert result[name][f"accuracy_{split}"] == accuracy.value
    assert result[name][f"accuracy_{split}_interval"] == pytest.approx(accuracy.interval)


@pytest.mark.slow
def test_controls_are_the_original_and_uniform_recipes_under_the_same_rules(result):
    controls = {row["name"]: row for row in result["controls"]}
    assert set(controls) == {
        "original",
        "uniform int8",
        "uniform pruning + int8",
        "best uniform combination",
        "the table's own allocation",
        "random within the budget",
    }
    assert controls["original"]["met"] is False  # it is twice as large as the limit
    assert all(row["facts"]["accuracy_val"] is not None for row in controls.values())


@pytest.mark.slow
def test_no_control_that_meets_the_budget_was_more_accurate_than_the_best_trained_as_long(result):
    log = result["trial_log"]
    trained = [t["facts"]["accuracy_val"] for t in log if t["within_budget"] and t["state"] == "complete"]
    finalists = [t for t in log if t["kind"] == TrialKind.FINALIST]
    assert finalists
    assert max(t["facts"]["accuracy_val"] for t in finalists) == result["best"]["accuracy_val"]
    assert {t["within_budget"] for t in finalists} == {True}
    assert trained


@pytest.mark.slow
def test_counts_are_those_of_the_journal(finished_run, result):
    storage = JournalStorage(JournalFileBackend(str(finished_run / "study.journal")))
    trials = optuna.load_study(study_name="autocompress", storage=storage).trials
    recorded = [trial for trial in trials if "record" in trial.user_attrs]
    counts = result["trials"]
    assert counts["total"] == len(recorded) == counts["complete"] + counts["pruned"] + counts["failed"]
    states = [TrialRecord.from_json(trial.user_attrs["record"]).state for trial in recorded]
    assert counts["complete"] == states.count(TrialState.COMPLETE)
    assert counts["complete"] >= 5  # the controls


@pytest.mark.slow
def test_the_result_reads_back_and_the_report_stands_alone(finished_run):
    read = Result.from_json((finished_run / "result.json").read_text())
    assert read.status is Status.MET
    assert {layer.layer for layer in read.layers} == {"stem", "block.conv1", "block.conv2", "down", "head"}
    report = (finished_run / "report.html").read_text()
    assert read.verdict.split(":")[0] in report
    assert "<script src=" not in report


@pytest.mark.slow
def test_the_configuration_says_all_that_the_same_run_needs(finished_run):
    config = RunConfig.read(finished_run / "config.yaml")
    assert (config.model, config.data, config.trials, config.seed) == (NET, TASK, 1, 0)
    assert config.input == tiny_task().preprocess


@pytest.mark.slow
def test_points_of_the_front_are_bundles_too(finished_run, result):
    for point in result["pareto"]:
        folder = finished_run / point["name"]
        assert (folder / "model.onnx").stat().st_size == point["facts"]["size_bytes"]
        assert json.loads((folder / "certificate.json").read_text())["accuracy_test"] is None
        assert ac.load(folder) is not None


@pytest.mark.slow
def test_resuming_a_finished_run_gives_its_result_and_touches_nothing(finished_run):
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    weights = finished_run.with_suffix(".safetensors")
    again = compress_briefly(
        finished_run,
        "latency<=5ms,size<=50%,accuracy>=70%,accuracy_drop<=30%",
        model=NET,
        data=TASK,
        checkpoint=weights,
        space=str(finished_run.with_suffix(".yaml")),
        resume=True,
    )
    assert again == Result.from_json((finished_run / "result.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before


@pytest.mark.slow
def test_the_recipe_gives_the_same_file_from_the_kept_baseline(finished_run, tmp_path):
    with brief_measuring():
        applied = ac.apply(
            finished_run / "best" / "recipe.yaml",
            NET,
            TASK,
            tmp_path / "again",
            checkpoint=finished_run / "baseline" / "model.safetensors",
        )
    assert Path(applied.folder, "model.onnx").read_bytes() == (finished_run / "best" / "model.onnx").read_bytes()
    assert applied.skipped == {}


@pytest.mark.slow
def test_verifying_finds_the_same_file_and_the_budget_met(finished_run):
    found = ac.verify(finished_run)
    assert found.met
    assert found.same_file
    assert {row.metric for row in found.budget} == {"latency", "size", "accuracy", "accuracy_drop"}
    assert all(row.met for row in found.budget)
    assert found.accuracy_test.value == found.certified.accuracy_test
    assert found.notes == ()


# Other budgets and networks


@pytest.mark.slow
def test_a_budget_that_nothing_meets_is_said_to_be_so_without_any_training(tmp_path, monkeypatch):
    def trains(*_, **__):
        raise AssertionError("nothing may be trained here")

    trained = trained_net()
    for module, name in (
        (pipeline, "ensure_trained"),
        (pipeline, "measure_pace"),
        (launcher, "run_rung"),
        (torch.optim, "AdamW"),
    ):
        monkeypatch.setattr(module, name, trains)
    budget = "latency<=1us,size<=100MB,accuracy>=10%"
    result = compress_briefly(tmp_path / "run", budget, model=trained, techniques=["quantize"])
    assert result.status is Status.INFEASIBLE
    assert result.best is None
    assert result.diagnosis.binding == (Metric.LATENCY,)
    best_ms = result.diagnosis.reachable[Metric.LATENCY]
    assert 0.001 < best_ms < 5
    assert "latency<=1us binds (best reachable latency:" in result.diagnosis.message
    assert result.diagnosis.message in result.verdict
    limit, *others = result.diagnosis.nearest_budget.split(",")
    assert others == ["size<=100MB"]
    assert "at an accuracy that is not known: nothing was trained" in result.verdict
    assert best_ms <= parse_quantity(limit.removeprefix("latency<="), Kind.TIME) <= 1.1 * best_ms
    rows = {row.metric: row.met for row in result.budget}
    assert (rows[Metric.LATENCY], rows[Metric.SIZE]) == (False, True)
    assert (tmp_path / "run" / "report.html").is_file()
    assert not (tmp_path / "run" / "best").exists()
    assert result.baseline.accuracy_val is not None


@pytest.mark.slow
def test_with_an_accuracy_floor_alone_latency_is_minimized_by_the_techniques_asked_for(tmp_path):
    result = compress_briefly(tmp_path / "run", "accuracy>=40%", techniques=["quantize"])
    assert result.status is Status.MET
    assert {step.name for record in result.trial_log for step in record.recipe.passes} == {"quantize"}
    assert [row.name for row in result.controls][:2] == ["original", "uniform int8"]
    finalists = [record.facts for record in result.trial_log if record.kind is TrialKind.FINALIST]
    assert result.best.latency_ms == min(facts.latency_ms for facts in finalists)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "run" / "study.journal")))
    study = optuna.load_study(study_name="autocompress", storage=storage)
    assert study.direction is optuna.study.StudyDirection.MINIMIZE
    told = {trial.number: trial.value for trial in study.trials if trial.value is not None}
    measured = {
        record.number: record.facts.latency_ms
        for record in result.trial_log
        if record.kind is not TrialKind.FINALIST and record.facts is not None
    }
    assert told.items() <= measured.items()  # recipes that were given teach no sampler


class PaddedNet(nn.Module):
    """A CIFAR ResNet in small: the shortcut of its second block pads channels by a fixed number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = F.relu(self.conv2(F.relu(self.norm(self.conv1(x)))) + shortcut)
        return self.head(x.mean((2, 3)))


@pytest.mark.slow
def test_a_network_with_hard_coded_channels_is_compressed_where_it_can_be_and_the_rest_is_explained(
    tmp_path, small_space
):
    result = compress_briefly(
        tmp_path / "run", "size<=99%", model=PaddedNet().eval(), space=small_space, measures=False
    )
    assert result.status is Status.MET
    assert any(note.startswith("channels of stem stay: ") for note in result.notes)
    assert set(result.recipe.settings_of("prune_channels")["ratios"]) == {"conv1"}
    assert result.best.params < result.baseline.params


def test_an_accuracy_that_only_the_test_split_misses_is_diagnosed_by_the_test_split():
    baseline = BASELINE.model_copy(update={"accuracy_val": 0.9, "accuracy_test": 0.8})
    facts = baseline.model_copy(update={"latency_ms": 1.0, "accuracy_val": 0.9, "accuracy_test": 0.7})
    goal = Goal(budget=Budget.parse("latency<=2ms,accuracy>=0.85,accuracy_drop<=1%"), baseline=baseline)
    rows = goal.budget.rows(facts, baseline, "test")
    ending = outcome._Ending(baseline=baseline, facts=facts, rows=rows, finalists=(), points=())
    small = baseline.model_copy(update={"size_bytes": 5, "accuracy_val": 0.95, "accuracy_test": None})
    found = outcome._diagnosis(SimpleNamespace(goal=goal, records=(), structures=(small,)), ending)
    assert found.binding == (Metric.ACCURACY_DROP, Metric.ACCURACY)
    assert found.nearest_budget == "latency<=2ms,accuracy>=0.700,accuracy_drop<=10.1%"
    assert (found.reachable[Metric.SIZE], found.reachable[Metric.ACCURACY]) == (5, 0.7)


def test_a_diagnosis_after_finalists_looks_at_all_trials_and_structures():
    def facts(ms: float, size: int, accuracy: float | None) -> ModelFacts:
        return BASELINE.model_copy(update={"latency_ms": ms, "size_bytes": size, "accuracy_val": accuracy})

    def of(recipe: Recipe, found: ModelFacts) -> SimpleNamespace:
        return SimpleNamespace(recipe=recipe, facts=found)

    one, two, three = (Recipe(passes=(PassStep(name="quantize", settings={"at": at}),)) for at in "123")
    goal = Goal(budget=Budget.parse("latency<=2ms,size<=500B,accuracy>=0.8"), baseline=BASELINE)
    tried = (of(one, facts(1.9, 400, 0.85)), of(two, facts(2.2, 400, 0.85)), of(three, facts(1.8, 450, 0.9)))
    finalist = of(one, facts(3.0, 400, 0.9))
    ending = outcome._Ending(baseline=BASELINE, facts=finalist.facts, rows=(), finalists=(finalist,), points=())
    ended = SimpleNamespace(goal=goal, records=tried, structures=(facts(1.0, 300, None),), least=None, outer=None)
    found = outcome._diagnosis(ended, ending)
    assert found.nearest_budget == "latency<=2.24ms,size<=500B,accuracy>=0.8"  # of the second trial
    assert found.binding == (Metric.LATENCY,)
    assert (found.reachable[Metric.LATENCY], found.reachable[Metric.SIZE]) == (1.0, 300)


# What goes wrong


@pytest.mark.slow
def test_when_every_trial_fails_the_run_ends_with_the_first_cause(tmp_path, monkeypatch):
    def breaks(*_, **__):
        raise ValueError("this network never recovers")

    monkeypatch.setattr(launcher, "run_rung", breaks)
    with pytest.raises(RunError, match=r"(?s)every trial failed; the first cause:.*ValueError: this network never rec"):
        compress_briefly(tmp_path / "run", "size<=90%", techniques=["quantize"], measures=False)
    assert not (tmp_path / "run" / "result.json").exists()


def test_when_nothing_can_be_exported_the_run_ends_with_the_first_cause_and_the_model_is_as_it_was(
    tmp_path, monkeypatch
):
    def breaks(*_, **__):
        raise ValueError("this network has no structure")

    monkeypatch.setattr(launcher, "make_structure", breaks)
    model = trained_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RunError, match=r"(?s)no recipe could be exported; the first cause: .*has no structure"):
        compress_briefly(tmp_path / "run", "size<=90%", model=model, measures=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


Usage = namedtuple("Usage", "total used free")


def refused(error: type[AutocompressError], match: str, out: Path, budget: str = "size<=50%", **settings) -> None:
    """The run is refused with ``error``, and nothing in the folder or beside it has changed."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(error, match=match):
        compress_briefly(out, budget, **settings)
    assert sorted(out.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("budget", "match"),
    [
        ("size<=50%,size<=10kB", "limits each metric once"),
        ("latncy<=5ms", "near: latency"),
        ("latency<=5", "lacks its unit"),
        ("latency>=5ms", "is limited with '<='"),
        ("size<=0B", "above zero"),
        ("accuracy>=1.5", "between 0 and 1"),
        ("energy<=3mJ", "energy cannot be limited"),
        ("", "at least one limit"),
    ],
)
def test_a_budget_that_cannot_hold_is_refused_and_nothing_written(tmp_path, budget, match):
    refused(BudgetError, match, tmp_path / "run", budget)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"techniques": ["prune_weights"]}, SpaceError, "techniques of the space default are .*got 'prune_weights'"),
        ({"space": "nowhere"}, SpaceError, "a space is one of default"),
        ({"time": "soon"}, InputError, "a duration looks like"),
        ({"trials": 0}, InputError, "trials: Input should be greater than or equal to 1, got 0"),
        ({"minimize": "accuracy"}, InputError, "minimize takes a cost"),
        ({"resume": True}, OutputError, "--resume needs a run"),
        ({"resume": True, "overwrite": True}, OutputError, "give one of them"),
        ({"data": "nowhere.npz"}, InputError, "there is no nowhere.npz"),
        ({"model": "resnet1888"}, ModelError, "near: resnet18"),
        ({"model": nn.Flatten()}, ModelError, "one score a class"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_written(tmp_path, settings, error, match):
    refused(error, match, tmp_path / "run", **settings)


def test_a_folder_with_a_run_is_refused_unless_one_says_what_to_do(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text(RunConfig(model="object", data="object", budget="size<=50%").to_yaml())
    refused(OutputError, "already holds a run; use --resume", out)
    refused(OutputError, "a resumed run keeps what it was asked for; seed was 0 and is now 1", out, seed=1, resume=True)


def test_a_folder_with_other_files_is_refused_even_to_overwrite(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    refused(OutputError, "holds files that are not a run's", out)
    refused(OutputError, "holds files that are not a run's", out, overwrite=True)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    refused(OutputError, "--out must be a folder", tmp_path / "run")


def test_too_little_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 10**6))
    refused(OutputError, r"needs about 50 MB of disk, .* has 1 MB; make room", tmp_path / "run")


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    """Root may write anywhere, so the place is one below a file."""
    (tmp_path / "file").write_text("")
    refused(OutputError, "must be a place that can be written to", tmp_path / "file" / "run")
