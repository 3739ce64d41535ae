"""Several budgets from one run: what is common is done once, and each budget is left as a run of its own."""

import json
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from rich.console import Console
from sample_result import sample_result
from tiny_runs import NET, TASK, compress_briefly, trained_net

import autocompress as ac
from autocompress.cli.app import run
from autocompress.cli.sweep import show_sweep
from autocompress.clock import Clock
from autocompress.commands import baseline, pipeline
from autocompress.commands import compress as compressing
from autocompress.commands import plan as planning
from autocompress.commands import sweep as sweeping
from autocompress.commands.config import RunConfig
from autocompress.delivery.sweep import render_page
from autocompress.errors import BudgetError, OutputError
from autocompress.events import Silence
from autocompress.hardware.machine import package_versions
from autocompress.result import Result, Status
from autocompress.search.launcher import SerialLauncher, Work
from autocompress.sweep import Sweep

BUDGETS = ["size<=60%", "latency<=5ms,size<=90%", "size<=100B"]


@dataclass
class Watched(SerialLauncher):
    """Counts the treatments whose loss was measured, and the structures that were built."""

    losses: Counter = field(default_factory=Counter)

    def __post_init__(self):
        super().__init__()

    def run(self, bench, jobs):
        for job in jobs:
            if job.work is Work.DIVERGENCE:
                self.losses.update(recipe.digest() for recipe in (job.recipe, *job.more))
        return super().run(bench, jobs)


@contextmanager
def counted(calls: Counter, stop_at: int = 0):
    """Counts what should happen once; the ``stop_at``-th search is interrupted."""

    def trains(model, *_, **__):
        calls["trained"] += 1
        model.load_state_dict(trained_net().state_dict())
        model.eval()

    def surveys(*args, real=pipeline.survey):
        calls["surveyed"] += 1
        return real(*args)

    def searches(*args, real=pipeline.search_and_confirm):
        calls["searched"] += 1
        if calls["searched"] == stop_at:
            raise KeyboardInterrupt
        return real(*args)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(baseline, "train_baseline", trains))
        patches.enter_context(mock.patch.object(pipeline, "survey", surveys))
        patches.enter_context(mock.patch.object(pipeline, "search_and_confirm", searches))
        yield


def sweep_briefly(out: Path, budgets=BUDGETS, **settings) -> Sweep:
    return compress_briefly(
        out, budgets, model=NET, data=TASK, techniques=["quantize"], time=80, measures=False, **settings
    )


@dataclass
class Interrupted:
    """A sweep that was stopped in its second search, and taken up again."""

    out: Path
    before: Counter
    after: Counter
    launchers: tuple[Watched, Watched]
    first: dict[str, bytes]
    sweep: Sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Interrupted:
    out = tmp_path_factory.mktemp("sweep") / "run"
    before, after, launchers = Counter(), Counter(), (Watched(), Watched())
    with counted(before, stop_at=2), pytest.raises(KeyboardInterrupt):
        sweep_briefly(out, launcher=launchers[0])
    assert not (out / "result.json").exists()
    first = files_in(out / "01")
    with counted(after):
        sweep = sweep_briefly(out, launcher=launchers[1], resume=True)
    return Interrupted(out=out, before=before, after=after, launchers=launchers, first=first, sweep=sweep)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_what_budgets_have_in_common_is_done_once(swept):
    assert swept.before == {"trained": 1, "surveyed": 1, "searched": 2}
    losses = swept.launchers[0].losses
    assert losses
    assert set(losses.values()) == {1}


@pytest.mark.slow
def test_a_resumed_sweep_goes_on_with_the_budget_that_was_interrupted(swept):
    assert swept.after == {"surveyed": 1, "searched": 1}  # the last budget is out of reach without any search
    assert swept.launchers[1].losses == {}
    assert files_in(swept.out / "01") == swept.first


@pytest.mark.slow
def test_each_budget_leaves_what_a_run_of_its_own_does(swept):
    for number, budget in enumerate(BUDGETS, 1):
        folder = swept.out / f"0{number}"
        result = Result.from_json((folder / "result.json").read_text())
        config = RunConfig.read(folder / "config.yaml")
        assert (result.asked, config.budget, config.sweep) == (budget, budget, ())
        names = ["report.html", "baseline/model.onnx", "baseline/model.safetensors"]
        if result.best is not None:
            names += ["study.journal", "best/model.onnx", "best/certificate.json"]
        assert [name for name in names if not (folder / name).is_file()] == []
    assert [row.status for row in swept.sweep.budgets] == [Status.MET, Status.MET, Status.INFEASIBLE]


@pytest.mark.slow
def test_the_account_of_a_sweep_is_that_of_its_runs(swept):
    found = json.loads((swept.out / "result.json").read_text())
    assert Sweep.from_json(json.dumps(found)) == swept.sweep
    assert found["status"] == "infeasible"
    assert found["verdict"] == "Met: 2 of 3 budgets. Not met: size<=100B."
    for row in found["budgets"]:
        result = json.loads((swept.out / row["folder"] / "result.json").read_text())
        assert (row["budget"], row["status"], row["rows"]) == (result["asked"], result["status"], result["budget"])
        for name in ("accuracy_test", "latency_ms", "size_bytes") if row["best"] else ():
            assert row["best"][name] == result["best"][name]
        for at in [row["best"], *(point["facts"] for point in row["pareto"])] if row["best"] else ():
            assert (swept.out / at["artifact"]).stat().st_size == at["size_bytes"]
    assert found["budgets"][2]["best"] is None
    assert found["budgets"][2]["nearest_budget"].startswith("size<=")
    assert (swept.out / found["baseline"]["artifact"]).is_file()
    assert found["seconds"] >= sum(row["seconds"] for row in found["budgets"])


@pytest.mark.slow
def test_the_page_of_a_sweep_leads_to_each_report_and_shows_all_models(swept):
    page = (swept.out / "report.html").read_text()
    for number in (1, 2, 3):
        assert f'<a href="0{number}/report.html">' in page
    figures = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    assert set(figures) == {"plot-latency", "plot-size"}
    for figure in figures.values():
        assert [label["text"] for label in figure["labels"]] == ["original", "01", "02"]
    assert "<script src=" not in page
    assert ac.report(swept.out, swept.out.parent / "again.html").read_text() == page


@pytest.mark.slow
def test_a_finished_sweep_stands_unless_it_is_asked_for_more(swept):
    calls = Counter()
    with counted(calls):
        assert sweep_briefly(swept.out, resume=True) == swept.sweep
    assert calls == {}
    with pytest.raises(OutputError, match="a resumed run keeps what it was asked for; sweep was"):
        sweep_briefly(swept.out, BUDGETS[:2], resume=True)


# Without a run


@pytest.mark.parametrize(
    ("budgets", "match"),
    [
        (["size<=50%", "size<=50%"], "each budget of a sweep is given once, got size<=50% twice; leave one of them"),
        (["size<=50%,latency<=1ms", "latency<=1ms, size<=50%"], "is given once"),
        (["size<=50%", "latncy<=5ms"], "near: latency"),
        (["size<=50%", "energy<=3mJ"], "energy cannot be limited"),
        ([], "a sweep takes at least one budget, got none"),
    ],
)
def test_budgets_that_cannot_be_are_refused_and_nothing_written(tmp_path, budgets, match):
    with pytest.raises(BudgetError, match=match):
        sweep_briefly(tmp_path / "run", budgets)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_of_one_budget():
    config = RunConfig(model=NET, data=TASK, budget="", sweep=("size<=50%", "size<=25%"))
    with pytest.raises(BudgetError, match="plan looks at one budget, got 2; name one of them by --budget"):
        planning.plan(config, observer=Silence())


def test_a_part_of_a_clock_saves_the_whole(tmp_path):
    whole = Clock(100.0)
    whole.keep_at(tmp_path / "whole.json")
    Clock(10.0, tmp_path / "part.json", whole).save()
    assert json.loads((tmp_path / "whole.json").read_text())["elapsed_s"] >= 0


def sample_sweep(*statuses: Status) -> Sweep:
    results = [sample_result(status) for status in statuses]
    rows = [sweeping._row(result.asked, f"0{at}", result) for at, result in enumerate(results, 1)]
    met = sum(status is Status.MET for status in statuses)
    return Sweep(
        status=Status.MET if met == len(rows) else Status.INFEASIBLE,
        verdict=sweeping._verdict(met, rows),
        budgets=tuple(rows),
        **{name: getattr(results[0], name) for name in ("baseline", "model", "data", "samples", "target", "machine")},
        seconds=1.0,
        stage_seconds={"baseline": 0.5},
        seed=0,
        versions=package_versions(),
    )


def test_a_page_is_drawn_where_nothing_was_found():
    page = render_page(sample_sweep(Status.INFEASIBLE))
    assert "✗ not met" in page
    assert "can be met:" in page


COMMAND = ["compress", "resnet18", "--data", "digits", "--out", "runs/x"]
TWO = ["--budget", "size<=50%", "--budget", "latency<=5ms"]


@pytest.fixture
def asked(monkeypatch):
    """What sweeps and runs were asked for; a sweep ends as its last argument says."""
    calls = []

    def sweeps(config, out, **rest):
        calls.append((config, rest))
        statuses = (Status.MET, Status.MET if config.seed == 0 else Status.INFEASIBLE)
        return sample_sweep(*statuses)

    def runs(config, out, **rest):
        calls.append((config, rest))
        return sample_result()

    monkeypatch.setattr(sweeping, "run", sweeps)
    monkeypatch.setattr(compressing, "run", runs)
    return calls


def test_a_budget_given_more_than_once_is_a_sweep(asked, capfd):
    assert run([*COMMAND, *TWO, "--time", "20m"]) == 0
    config, rest = asked[0]
    assert (config.budget, config.sweep, config.time_s) == ("", ("size<=50%", "latency<=5ms"), 1200.0)
    assert (rest["resume"], rest["overwrite"]) == (False, False)
    shown = " ".join(capfd.readouterr().out.split())
    assert "Met: all of 2 budgets." in shown
    assert "runs/x/01" in shown
    assert "verify autocompress verify runs/x/01" in shown


def test_a_sweep_in_which_a_budget_is_missed_ends_with_its_own_code(asked, capfd):
    assert run([*COMMAND, *TWO, "--seed", "1", "--json"]) == 3
    assert Sweep.from_json(capfd.readouterr().out) == sample_sweep(Status.MET, Status.INFEASIBLE)


def test_a_budget_given_once_is_a_run(asked, capfd):
    assert run([*COMMAND, "--budget", "size<=50%"]) == 0
    assert (asked[0][0].budget, asked[0][0].sweep) == ("size<=50%", ())


def test_the_configuration_of_a_sweep_is_the_same_sweep_again(asked, capfd, tmp_path):
    run([*COMMAND, *TWO])
    file = tmp_path / "config.yaml"
    file.write_text(asked[0][0].to_yaml())
    assert run(["compress", "--config", str(file), "--out", "runs/again"]) == 0
    assert asked[1][0] == asked[0][0]
    assert run(["compress", "--config", str(file), "--out", "runs/again", "--budget", "size<=1MB"]) == 0
    assert (asked[2][0].budget, asked[2][0].sweep) == ("size<=1MB", ())


def test_the_same_budget_twice_is_refused_by_the_command(asked, capfd):
    assert run([*COMMAND, *TWO[:2], *TWO[:2]]) == 2
    assert "each budget of a sweep is given once" in capfd.readouterr().err
    assert asked == []


@pytest.mark.parametrize(
    ("statuses", "folder"),
    [
        ((Status.INFEASIBLE, Status.MET), "x/02"),
        ((Status.MET, Status.INFEASIBLE), "x/01"),
        ((Status.INFEASIBLE, Status.INFEASIBLE), None),
    ],
)
def test_to_verify_is_suggested_the_first_model_that_there_is(statuses, folder):
    sweep = sample_sweep(*statuses)
    rows = [row if row.status is Status.MET else row.model_copy(update={"best": None}) for row in sweep.budgets]
    console = Console(file=StringIO(), width=200)
    show_sweep(console, sweep.model_copy(update={"budgets": tuple(rows)}), Path("x"))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert [line[-1] for line in lines if line[:1] == ["verify"]] == ([] if folder is None else [folder])


def test_notes_on_what_budgets_have_in_common_are_those_of_each(tmp_path, monkeypatch):
    @dataclass
    class Loaded:
        config: RunConfig

    monkeypatch.setattr(sweeping, "Pipeline", SimpleNamespace)
    config = RunConfig(model=NET, data=TASK, budget="", sweep=("size<=50%", "size<=25%"))
    work = SimpleNamespace(prepared=Loaded(config), launcher=None)
    sweep = sweeping._Sweeping(config=config, out=tmp_path, work=work, observer=Silence())
    for budget in config.sweep:
        one = sweep._pipeline(budget, tmp_path, Clock(1.0), told=("common",))
        one.observer.note(budget)
        assert one.observer.notes == ("common", budget)
