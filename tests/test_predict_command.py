"""``autocompress predict``: what is said of a file, and of files and profiles that cannot be used."""

import json
import re
from pathlib import Path

import pytest
from made_up_profile import made_profile
from onnx import helper
from stand_in_predictor import install
from tiny_onnx import dense_file, floats, save

import autocompress
from autocompress.cli.app import run
from autocompress.commands import predict as predicting
from autocompress.errors import InputError, MeasurementError, ProfileError
from autocompress.hardware.kept import FOLDER, circumstances_of
from autocompress.hardware.kernels.runtime_graph import runtime_graph
from autocompress.hardware.machine import this_machine
from autocompress.hardware.predictor import profile as profiles
from autocompress.hardware.predictor.energy import EnergyCoefficients, EnergySource
from autocompress.hardware.predictor.memory import RamCoefficients
from autocompress.hardware.predictor.observation import observation_of
from autocompress.target import Target

HERE = circumstances_of(this_machine())


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    install(monkeypatch)
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path) -> Path:
    return dense_file(tmp_path / "dense.onnx", width=8)


@pytest.fixture
def profile(tmp_path, file) -> Path:
    """One that knows the kernels of ``file``, at 500 µs each."""
    folder = made_profile(tmp_path / "profile", circumstances=HERE)
    graph = runtime_graph(file, Target())
    seen = observation_of(graph, (500.0,), name="dense", family="f", precision="fp32", at="now")
    timed = tuple((*kernel[:4], 500.0) for kernel in seen.kernels)
    profiles.append(folder, [seen.model_copy(update={"kernels": timed})])
    return folder


def shown(capfd, *words: str, code: int = 0) -> str:
    assert run(["predict", *words]) == code
    out, err = capfd.readouterr()
    return re.sub(r"[ \u00a0]+", " ", out if code == 0 else err)


def test_the_latency_comes_with_its_interval_and_the_share_that_was_measured(file, profile):
    found = predicting.predict(file, profile=profile)
    assert found.latency_ms == pytest.approx(0.5 * len(found.kernels))
    assert found.interval_ms[0] < found.latency_ms < found.interval_ms[1]
    assert found.measured_ratio == pytest.approx(1)
    assert {kernel.source for kernel in found.kernels} == {"measured"}
    assert found.peak_ram_interval_bytes[0] <= found.peak_ram_bytes <= found.peak_ram_interval_bytes[1]
    assert found.energy_mj > 0
    assert found.energy_source == "estimated"


def test_without_a_folder_the_one_of_this_machine_is_taken(file):
    made_profile(profiles.place_of(HERE), circumstances=HERE)
    assert predicting.predict(file).profile == str(profiles.place_of(HERE))


def test_without_a_profile_it_says_what_makes_one_and_what_that_costs(file):
    with pytest.raises(ProfileError, match=r"`autocompress profile` makes one, in 5 minutes"):
        predicting.predict(file)
    with pytest.raises(ProfileError, match=r"threads 2, .*`autocompress profile --threads 2` makes one"):
        predicting.predict(file, target=Target(threads=2))


def old(folder: Path, updated_at: str, **change: object) -> Path:
    """A profile of other circumstances in the cache folder, and when it was updated."""
    made_profile(folder, circumstances=HERE.model_copy(update=change))
    facts = profiles.read_facts(folder)
    (folder / profiles.FACTS).write_text(facts.model_copy(update={"updated_at": updated_at}).to_yaml())
    return folder


def test_a_profile_from_before_an_upgrade_is_named_and_can_be_used(file, cache):
    old(cache / "profiles" / "older", "2026-01-01T00:00:00+00:00", onnxruntime="0.1")
    latest = old(cache / "profiles" / "old", "2026-02-01T00:00:00+00:00", onnxruntime="0.2")
    unreadable = old(cache / "profiles" / "unreadable", "2026-03-01T00:00:00+00:00", onnxruntime="0.3")
    (unreadable / profiles.FACTS).write_text("nothing\n")
    named = (
        rf"--allow-mismatch predicts .* from the one in {latest}, which differs: onnxruntime: the profile's 0.2, here"
    )
    with pytest.raises(ProfileError, match=named):
        predicting.predict(file)
    found = predicting.predict(file, allow_mismatch=True)
    assert found.profile == str(latest)
    assert sum("intervals are wider: onnxruntime" in note for note in found.notes) == 1


def test_without_a_home_folder_it_says_how_to_name_the_place(file, monkeypatch, capfd):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(profiles, "cache_folder", homeless)
    said = rf"this user has no home folder .*; name the place with --out or --profile, or set {FOLDER}"
    with pytest.raises(ProfileError, match=said):
        predicting.predict(file)
    assert "no home folder" in shown(capfd, str(file), code=2)


def test_an_operator_that_was_never_measured_is_flagged_and_not_free(tmp_path, profile):
    odd = save(tmp_path / "odd.onnx", [helper.make_node("Erf", ["x"], ["y"])], {"x": [1, 64]}, {})
    found = predicting.predict(odd, profile=profile)
    assert found.latency_ms > 0
    assert found.measured_ratio == 0
    said = "of a kind that was measured never, or fewer than 8 times: Erf; "
    assert any(note.startswith(said) and note.endswith("a rough estimate with a wide interval") for note in found.notes)


def test_an_operator_that_the_runtime_does_not_have_is_named(tmp_path, profile):
    bad = save(tmp_path / "bad.onnx", [helper.make_node("Nonsense", ["x"], ["y"])], {"x": [1]}, {})
    with pytest.raises(MeasurementError, match=r"must load and run .*bad.onnx; it says: .*Nonsense"):
        predicting.predict(bad, profile=profile)


def test_a_missing_file_is_named_with_near_ones(file, profile):
    with pytest.raises(InputError, match=r"predict takes an ONNX file; there is no .*; near: dense.onnx"):
        predicting.predict(file.with_name("dens.onnx"), profile=profile)


def test_a_profile_of_another_machine_is_refused_or_used_with_wider_intervals(tmp_path, file, profile):
    here = predicting.predict(file, profile=profile)
    facts = profiles.read_facts(profile)
    other = facts.circumstances.model_copy(update={"cpu": "other", "onnxruntime": "1.0"})
    profiles.update_facts(profile, circumstances=other)
    with pytest.raises(ProfileError, match=r"processor: the profile's other, here .*onnxruntime: the profile's 1.0"):
        predicting.predict(file, profile=profile)
    there = predicting.predict(file, profile=profile, allow_mismatch=True)
    assert there.latency_ms == here.latency_ms
    low, high = there.interval_ms
    assert low == pytest.approx(there.latency_ms / 1.2**4)
    assert high == pytest.approx(there.latency_ms * 1.2**4)
    assert there.kernels[0].interval_us[1] > here.kernels[0].interval_us[1]
    assert sum("intervals are wider" in note for note in there.notes) == 2
    assert {kernel.source for kernel in there.kernels} == {"learned"}, "nothing was measured under these circumstances"
    assert there.measured_ratio == 0


def test_coefficients_of_the_profile_are_used(file, profile):
    before = predicting.predict(file, profile=profile)
    energy = EnergyCoefficients(static_watts=1e3, source=EnergySource.METERED)
    profiles.update_facts(profile, energy=energy, ram=RamCoefficients(base=1e9, low=0.5))
    after = predicting.predict(file, profile=profile)
    assert after.energy_mj > 100 * before.energy_mj
    assert (before.energy_source, after.energy_source) == ("estimated", "metered")
    assert before.peak_ram_bytes < 1e8
    assert after.peak_ram_bytes > 1e9
    assert after.peak_ram_interval_bytes[0] == pytest.approx(after.peak_ram_bytes / 2, abs=1)


def test_widths_that_cost_the_blocked_layout_are_noted(tmp_path, profile):
    if this_machine().channel_block <= 4:
        pytest.skip("no blocked layout here")
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="layer1.conv", pads=[1, 1, 1, 1])
    odd = save(tmp_path / "odd.onnx", [node], {"x": [1, 37, 8, 8]}, {"w": floats(16, 37, 3, 3)})
    notes = predicting.predict(odd, profile=profile).notes
    assert any(
        "plain layout: 1 float convolution" in note and "input channels 37, nearest 36" in note for note in notes
    )


def test_the_command_shows_costs_and_on_request_kernels(file, profile, capfd):
    text = shown(capfd, str(file), "--profile", str(profile))
    assert re.search(r"latency [\d.]+ [mµ]s \[.*\] in 9 of 10 cases", text)
    assert "from measured kernels 100% of it" in text
    assert "mJ, estimated" in text
    assert "Gemm" not in text
    assert re.search(
        r"Gemm 500\.0 416\.7 – 600\.0 measured", shown(capfd, str(file), "--profile", str(profile), "--verbose")
    )


def test_json_is_the_record_that_python_returns(file, profile, capfd):
    found = autocompress.predict(file, profile=profile)
    assert run(["predict", str(file), "--profile", str(profile), "--json"]) == 0
    answer = capfd.readouterr().out
    assert predicting.FilePrediction.from_json(answer) == found
    assert len(json.loads(answer)["kernels"]) == len(found.kernels)


def test_errors_are_bad_input(file, capfd):
    assert "`autocompress profile` makes one" in shown(capfd, str(file), code=2)
