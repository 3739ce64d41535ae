"""A run forecasts by this machine's latency profile where there is one that can be used, and says so where not."""

import pytest
from learned_profile import bytes_of_dense, learned_profile, observations
from sample_result import machine
from tiny_runs import tiny_net

from autocompress.commands.forecasting import forecaster_for
from autocompress.events import Silence
from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.hardware.kept import FOLDER, circumstances_of
from autocompress.hardware.predictor.observation_log import LOG, read_log
from autocompress.hardware.predictor.profile import FACTS, place_of
from autocompress.hardware.predictor.searched import LAST, SEARCHED
from autocompress.target import Target


class Notes(Silence):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return place_of(circumstances_of(machine()))


def forecaster(notes: Notes):
    anatomy = anatomy_of(tiny_net(), example_input((1, 12, 12)))
    return forecaster_for(machine(), Target(), anatomy, notes)


def test_without_a_profile_candidates_are_measured_and_that_is_said(folder):
    notes = Notes()
    assert forecaster(notes) is None
    (said,) = notes.said
    assert said == "no latency profile of this machine: every candidate is measured; `autocompress profile` makes one"


def test_a_profile_from_before_an_upgrade_is_named(folder):
    here = circumstances_of(machine())
    before = learned_profile(folder.with_name("old"), here.model_copy(update={"onnxruntime": "0.1"}))
    notes = Notes()
    assert forecaster(notes) is None
    (said,) = notes.said
    assert f"; the one in {before} differs: onnxruntime: the profile's 0.1, here {here.onnxruntime}" in said


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        (SEARCHED, "{broken\n", f"{SEARCHED}, line 1, column 2"),
        (LOG, "{broken\n", f"{LOG}, line {len(observations()) + 1}, column 2"),
        (FACTS, "circumstances: [\n", f"{FACTS}, line "),
    ],
)
def test_a_broken_profile_is_not_used_and_the_line_is_named(folder, file, content, place):
    learned_profile(folder, circumstances_of(machine()))
    with (folder / file).open("a") as broken:
        broken.write(content)
    notes = Notes()
    assert forecaster(notes) is None
    (said,) = notes.said
    assert said.startswith("every candidate is measured, as the latency profile cannot be used: ")
    assert place in said


def test_what_a_run_measures_lands_in_the_profile_and_drift_is_said_by_the_next(folder):
    learned_profile(folder, circumstances_of(machine()))
    notes = Notes()
    found = forecaster(notes)
    assert notes.said == []
    file = {0: bytes_of_dense(200)}
    ms = found.of_files(file)[0].ms
    for _ in range(LAST):
        found.learn(file, {0: 2 * ms})
    assert [each.median_us for each in read_log(folder / SEARCHED)[0]] == pytest.approx([2e3 * ms] * LAST)
    assert forecaster(notes) is not None
    assert "100% longer than predicted" in notes.said[0]


def test_a_profile_that_cannot_be_written_to_still_forecasts(folder):
    learned_profile(folder, circumstances_of(machine()))
    notes = Notes()
    found = forecaster(notes)
    (folder / SEARCHED).mkdir()  # no file can be opened in its place, whoever runs the test
    file = {0: bytes_of_dense(200)}
    before = found.of_files(file)[0].ms
    found.learn(file, {0: 2 * before})
    assert found.of_files(file)[0].ms > before
    assert notes.said[0].startswith("what this run measures is not added to the latency profile: ")
