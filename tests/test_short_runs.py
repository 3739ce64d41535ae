"""A run without time to choose part by part treats parts alike, and does so again when it goes on."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from made_up_search import made_up_setting

from autocompress.commands import outcome, pipeline
from autocompress.commands import survey as surveying
from autocompress.commands.folder import JOURNAL, WORK
from autocompress.commands.pipeline import ALIKE, Pipeline
from autocompress.events import Remembering, Silence
from autocompress.recipe import Recipe
from autocompress.search.controls import UNIFORM_INT8
from autocompress.search.ladder import climb
from autocompress.search.launcher import SerialLauncher


def is_short(out, left_s: float) -> bool:
    clock = SimpleNamespace(limit_s=100.0, search_left_s=left_s)
    run = SimpleNamespace(out=out, outer=None, clock=clock)
    return Pipeline._is_short(run)


@pytest.mark.parametrize(("left_s", "short"), [(-5.0, True), (4.0, True), (6.0, False)])
def test_a_new_run_goes_by_the_time_that_is_left(tmp_path, left_s, short):
    assert is_short(tmp_path, left_s) is short


@pytest.mark.parametrize("left_s", [-5.0, 60.0])
def test_a_run_that_goes_on_does_as_before(tmp_path, left_s):
    (tmp_path / WORK).mkdir()
    (tmp_path / JOURNAL).touch()
    assert not is_short(tmp_path, left_s)
    (tmp_path / WORK / ALIKE).touch()
    assert is_short(tmp_path, left_s)


def test_nothing_is_measured_before_the_workers_have_started(monkeypatch):
    done: list[str] = []

    class Starting(SerialLauncher):
        def ready(self) -> None:
            done.append("ready")

    def measured(file, *_, **__):
        done.append(f"measured {file}")
        raise KeyboardInterrupt

    monkeypatch.setattr(surveying, "look", lambda *_: (None, None))
    monkeypatch.setattr(surveying, "search_space", lambda _: SimpleNamespace(passes=SimpleNamespace(names=tuple)))
    monkeypatch.setattr(surveying, "export_base", lambda _: done.append("exported") or "the file")
    monkeypatch.setattr(surveying, "measured_baseline", measured)
    with pytest.raises(KeyboardInterrupt):
        surveying.survey(SimpleNamespace(config=None), Starting(), Silence())
    assert done == ["exported", "ready", "measured the file"]


@pytest.mark.parametrize("extremes", [[Recipe(seed=9)], []])
def test_the_first_trial_without_an_outer_search_is_one_that_fits(monkeypatch, extremes):
    setting = made_up_setting("latency<=30%")
    found = SimpleNamespace(ladder=climb(setting))
    asked = []
    study = SimpleNamespace(enqueue=lambda values, control=None, recipe=None: asked.append((values, control, recipe)))
    run = SimpleNamespace(
        prepared=SimpleNamespace(config=SimpleNamespace(seed=0)),
        clock=SimpleNamespace(search_left_s=-1.0),
        _stage=lambda *_: nullcontext(),
    )
    monkeypatch.setattr(pipeline, "fitting_extremes", lambda *_: extremes)
    Pipeline._enqueue(run, study, setting, found)
    fitting = [rung.values for rung in found.ladder.anchors(setting.goal)]
    assert fitting
    values, _, recipe = asked[0]
    assert recipe == extremes[0] if extremes else values in fitting
    assert UNIFORM_INT8 in [control for _, control, _ in asked]


def test_what_a_run_told_of_itself_is_in_its_result_once(tmp_path):
    setting = made_up_setting("latency<=30%")
    run = SimpleNamespace(
        prepared=SimpleNamespace(task=SimpleNamespace(notes=("of the data",))),
        out=tmp_path,
        clock=None,
        observer=Remembering(Silence(), ["common to a sweep"]),
        _is_short=lambda: True,
    )
    ladder = SimpleNamespace(int8_pays=lambda: None)
    names = ("goal", "baseline_file", "structures", "least")
    found = SimpleNamespace(**dict.fromkeys(names), anatomy=SimpleNamespace(groups=(), blocks=()), ladder=ladder)
    for _ in range(2):
        Pipeline._with_outer(run, found, setting, None)
    run.observer.note("of the data")
    notes = outcome._notes(Pipeline._outcome(run, found, (), None), None)
    alike = "parts are treated alike: there was no time to choose for each; give more --time"
    assert notes == ("of the data", "common to a sweep", alike)
