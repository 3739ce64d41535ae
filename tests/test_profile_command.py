"""``autocompress profile``: measures into a folder, goes on where it was, judges itself, loses nothing when stopped."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from joblib import parallel_config
from made_up_profile import HERE, made_profile, observation
from onnx import helper
from stand_in_predictor import fit_stand_in, install, judged
from tiny_onnx import dense_file, save

import autocompress
from autocompress.cli.app import run
from autocompress.commands import profile as profiling
from autocompress.errors import InputError, MeasurementError, ModelError, OutputError, ProfileError
from autocompress.events import Silence
from autocompress.hardware import each_file
from autocompress.hardware.drawn.draw import Drawn, draw
from autocompress.hardware.drawn.space import profile_space
from autocompress.hardware.each_file import measured_each
from autocompress.hardware.kept import circumstances_of
from autocompress.hardware.machine import this_machine
from autocompress.hardware.predictor import cross_validation, kept_fit, measuring, side_measurements, training
from autocompress.hardware.predictor.baselines import fit_baselines
from autocompress.hardware.predictor.cross_validation import card_of
from autocompress.hardware.predictor.energy import EnergyCoefficients
from autocompress.hardware.predictor.measuring import Failure, Protocol, observe_drawn
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.profile import append, read_facts, read_observations
from autocompress.hardware.predictor.training import Session, a_a_floor_of, measure_for
from autocompress.hardware.rapl import Meter
from autocompress.target import Target

QUICK = Protocol(rounds=2, window_ms=1.0, warm_up_ms=1.0, profile_ms=1.0, silence_s=30.0)
PLAN = QUICK.plan(Target())
TINY = profile_space().model_copy(update={"kinds": {"perceptron": 1.0}, "int8": 0.0})


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Small perceptrons, and none of timm's models."""
    with made_tiny(monkeypatch) as installed:
        yield installed


@contextmanager
def made_tiny(monkeypatch):
    monkeypatch.setattr(training, "draw", lambda seed, machine: draw(seed, machine, TINY))
    monkeypatch.setattr(profiling, "with_measured_activations", lambda machine, _: machine)
    with parallel_config(backend="sequential"):  # other processes would not know what is replaced here
        yield install(monkeypatch)


def made(folder, count=2, **settings):
    return profiling.profile(time=60, out=folder, protocol=QUICK, most_files=count, **settings)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> profiling.ProfileSummary:
    """A profile of two networks, for tests that read it or go on with a copy."""
    with pytest.MonkeyPatch.context() as patch, made_tiny(patch):
        return made(tmp_path_factory.mktemp("measured") / "p")


def copied(found: profiling.ProfileSummary, folder: Path) -> Path:
    return shutil.copytree(found.folder, folder)


def names(folder):
    return [each.name for each in read_observations(folder)[0]]


def test_networks_are_measured_with_their_kernels(measured):
    assert (measured.files, measured.new_files, measured.failed) == (2, 2, 0)
    first = read_observations(Path(measured.folder))[0][0]
    assert isinstance(first, Observation)
    assert (first.name, first.family, first.precision, first.source) == ("drawn-0", "perceptron", "fp32", "profile")
    assert len(first.rounds_us) == QUICK.rounds
    assert first.reference_ms > 0
    assert all(us > 0 for _, us in first.parsed())
    assert {kernel.operator for kernel, _ in first.parsed()} & {"Gemm", "FusedGemm"}


def test_run_again_it_goes_on_with_other_networks(measured, tmp_path):
    folder = copied(measured, tmp_path / "p")
    seconds = read_facts(folder).measured_s
    found = made(folder, 1)
    assert (found.files, found.new_files) == (3, 1)
    assert names(folder) == ["drawn-0", "drawn-1", "drawn-2"]
    assert read_facts(folder).measured_s > seconds > 0


def test_anew_it_begins_again_and_keeps_the_old_one_beside(measured, tmp_path, monkeypatch):
    copied(measured, tmp_path / "p")
    told: list[str] = []
    monkeypatch.setattr(Silence, "note", lambda _, text: told.append(text))
    found = made(tmp_path / "p", 1, anew=True)
    assert (found.files, found.new_files) == (1, 1)
    assert len(names(tmp_path / "p.before")) == 2
    assert told == [f"the profile that was there lies in {tmp_path / 'p.before'}"]


def test_a_profile_alone_is_extended_and_beside_out_it_is_taken_over(measured, tmp_path):
    copied(measured, tmp_path / "a")
    profiling.profile(time=60, profiles=[tmp_path / "a"], protocol=QUICK, most_files=1)
    assert len(names(tmp_path / "a")) == 3
    found = made(tmp_path / "b", 1, profiles=[tmp_path / "a"])
    assert (found.files, found.new_files) == (4, 1)
    assert names(tmp_path / "b")[-1] == "drawn-3"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_what_was_measured_before_a_stop_is_kept(tmp_path, monkeypatch, stop):
    keep = training.append

    def keep_one_and_stop(folder, observations):
        keep(folder, observations)
        raise stop

    monkeypatch.setattr(training, "append", keep_one_and_stop)
    with pytest.raises(stop):
        made(tmp_path)
    monkeypatch.setattr(training, "append", keep)
    assert names(tmp_path) == ["drawn-0"]
    assert made(tmp_path, 1).files == 2
    assert names(tmp_path) == ["drawn-0", "drawn-1"]


def test_ram_is_measured_of_some_networks_and_energy_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(profiling, "find_meter", lambda: None)
    profiling.profile(time=1200, out=tmp_path, protocol=QUICK, most_files=4)
    facts = read_facts(tmp_path)
    assert facts.ram is not None
    assert facts.ram.files == 4
    assert facts.energy == EnergyCoefficients()


def test_networks_for_it_are_few_and_of_all_places_in_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "FILES_AT_ONCE", 3)
    monkeypatch.setattr(training, "SOME_FILES", 2)
    monkeypatch.setattr(training, "observe_drawn", lambda batch, *_: [observation(name=each.name) for each in batch])
    session = Session()
    machine, target = this_machine(), Target()
    measure_for(60.0, session, tmp_path, machine=machine, target=target, observer=Silence(), most_files=9)
    assert [each.name for each in session.some] == ["drawn-0", "drawn-4"]


def test_a_stop_while_ram_is_measured_loses_no_network(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(side_measurements, "measure_peak_ram", stop)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path)
    assert names(tmp_path) == ["drawn-0", "drawn-1"]
    assert read_facts(tmp_path).measured_s > 0
    assert read_facts(tmp_path).ram is None


@pytest.mark.parametrize(("meter", "left_s"), [(None, 48.0), (Meter(counters=(), ranges_uj=()), 45.0)])
def test_what_is_measured_beside_has_its_time_taken_off(tmp_path, monkeypatch, meter, left_s):
    given = []
    monkeypatch.setattr(profiling, "clock", lambda: 0.0)
    monkeypatch.setattr(profiling, "find_meter", lambda: meter)
    monkeypatch.setattr(profiling, "measure_for", lambda seconds, *_, **__: given.append(seconds))
    made(tmp_path)
    assert given == [pytest.approx(left_s)]


def test_ctrl_c_says_that_nothing_is_lost(tmp_path, monkeypatch, capfd):
    def stopped(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(profiling, "profile", stopped)
    assert run(["profile", "--out", str(tmp_path)]) == 130
    assert "what was measured is kept; the same command goes on" in capfd.readouterr().err


def test_a_network_that_cannot_be_drawn_is_left_out_and_said(tmp_path, monkeypatch):
    def draw_or_fail(seed, machine):
        if seed == 0:
            raise RuntimeError("no such width")
        return draw(seed, machine, TINY)

    monkeypatch.setattr(training, "draw", draw_or_fail)
    found = made(tmp_path)
    assert names(tmp_path) == ["drawn-1", "drawn-2"]
    assert "1 networks could not be measured; drawn-0: drawing failed: no such width" in found.notes


@pytest.mark.parametrize(
    ("field", "values", "said"),
    [
        ("disturbed", [0.01, 0.02, 0.9], None),
        ("disturbed", [0.3, 0.5, 0.01], "other programs used 30% of a processor while networks were measured"),
        ("unrest", [0.2, 0.4, 1.2, 0.9], None),
        (
            "unrest",
            [0.2, 1.2, 4.0, 0.9],
            "other guests of this machine took caches or half of the core beside 50% of the",
        ),
    ],
)
def test_what_disturbs_many_networks_is_said(tmp_path, monkeypatch, field, values, said):
    def disturbed(*_, **__):
        session = _[1]
        session.observations += [observation(n).model_copy(update={field: value}) for n, value in enumerate(values)]

    monkeypatch.setattr(profiling, "measure_for", disturbed)
    found = [
        note for note in made(tmp_path).notes if note.endswith("while nothing else runs, adds calmer measurements")
    ]
    assert [note.startswith(said or "-") for note in found] == [True] * (said is not None)


def test_every_trouble_is_said_and_not_the_first_alone():
    restless = [observation(n).model_copy(update={"disturbed": 0.5, "unrest": 3.0}) for n in range(3)]
    (said,) = profiling._unrest(Session(observations=restless), 0.2)
    assert "other programs used 50%" in said
    assert "other guests of this machine took" in said
    assert "measured twice differs by 20%" in said


def test_measuring_which_activations_are_fast_counts_into_the_time(tmp_path, monkeypatch):
    now, given = [100.0], []

    def slow(machine, _):
        now[0] += 20.0
        return machine

    monkeypatch.setattr(profiling, "clock", lambda: now[0])
    monkeypatch.setattr(profiling, "find_meter", lambda: None)
    monkeypatch.setattr(profiling, "with_measured_activations", slow)
    monkeypatch.setattr(profiling, "measure_for", lambda seconds, *_, **__: given.append(seconds))
    profiling.profile(time=100, out=tmp_path)
    assert given == [pytest.approx(100 * (1 - profiling.ENDING_SHARE - profiling.share_beside(None)) - 20)]


def test_how_many_networks_the_fit_leaves_out_is_said(tmp_path, monkeypatch):
    def calm_alone(observations, circumstances):
        calm = [each for each in observations if each.unrest <= 1]
        fitted = fit_stand_in(calm, circumstances)
        return fitted, [judged(fitted, each) for each in calm]

    monkeypatch.setattr(kept_fit, "fit_and_judge", calm_alone)
    made_profile(tmp_path, 30)
    quiet = profiling.finish(tmp_path, started=0.0)
    assert not any("left out" in note for note in quiet.notes)
    append(tmp_path, [observation(n).model_copy(update={"unrest": 3.0}) for n in range(30, 34)])
    found = profiling.finish(tmp_path, started=0.0)
    assert (found.files, found.card.files) == (34, 30)
    assert any(note.startswith("4 of 34 networks are left out of the fit and of the acc") for note in found.notes)


def test_a_profile_to_adapt_that_is_not_needed_is_said(tmp_path):
    made_profile(tmp_path / "enough", 30)
    (said,) = profiling._adapted(tmp_path / "enough", tmp_path / "base")
    assert said == f"{tmp_path / 'base'} is not used: 30 networks measured there make a profile of their own"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(OutputError, match=r"--out must be a new or empty folder, or a profile to extend; .* neither"):
        made(tmp_path)


def test_a_place_that_cannot_be_written_to_is_bad_input(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    assert run(["profile", "--out", str(tmp_path / "file" / "p")]) == 2
    assert "must lie where files can be written" in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"time": "soon"}, r"--time: a duration looks like .*'soon'"),
        ({"threads": 0}, r"--threads must lie in \[1, 256\]"),
    ],
)
def test_flags_that_do_not_hold_are_refused(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        profiling.profile(**{"time": 1, "out": tmp_path, **given})


def test_a_profile_to_take_over_must_be_one(tmp_path):
    with pytest.raises(ProfileError, match="has none; `autocompress profile` makes one"):
        made(tmp_path / "new", profiles=[tmp_path / "nowhere"])
    assert not (tmp_path / "new").exists()


# What a bad file costs.


def files_with(tmp_path, bad):
    return [dense_file(tmp_path / "a.onnx"), bad, dense_file(tmp_path / "c.onnx", width=8)]


def test_a_file_that_the_runtime_refuses_costs_itself_only(tmp_path):
    bad = save(tmp_path / "b.onnx", [helper.make_node("Nonsense", ["x"], ["y"])], {"x": [1]}, {})
    lines = list(measured_each("kernels", files_with(tmp_path, bad), silence_s=30, **PLAN))
    assert [(line.kind, line.file) for line in lines] == [("kernels", 0), ("error", 1), ("kernels", 2)]
    assert "Nonsense" in lines[1].content["message"]


BROKEN_RUNNER = """
import os, sys, time
sys.path.insert(0, {folder!r})
import runner
timed = runner.timed_kernels
def broken(file, plan, senses):
    if file.endswith("b.onnx"):
        {harm}
    return timed(file, plan, senses)
runner.timed_kernels = broken
results = os.fdopen(os.dup(1), "w")
import json
runner.main(json.loads(open(sys.argv[1]).read()), runner.line_writer(results))
"""


class OnceItHangs(threading.Timer):
    """Time is over when the runner hangs, and not when it is slow."""

    def __init__(self, sign: Path, interval: float, function: Callable[[], None]) -> None:
        super().__init__(interval, function)
        self.sign = sign

    def run(self) -> None:
        while not self.finished.wait(0.02):
            if self.sign.exists():
                self.sign.unlink()
                self.function()
                return


@pytest.mark.parametrize(
    ("harm", "silence_s", "reason"),
    [
        ("os.kill(os.getpid(), 11)", 30, "the process died with signal SIGSEGV"),
        ("os._exit(3)", 30, "the process died with exit code 3"),
        ("open(sys.argv[0] + '.hangs', 'w').close(); time.sleep(60)", 2.5, "took longer than 2.5 s"),
    ],
)
def test_a_file_that_kills_or_hangs_its_process_costs_itself_only(tmp_path, monkeypatch, harm, silence_s, reason):
    script = tmp_path / "broken.py"
    script.write_text(BROKEN_RUNNER.format(folder=os.path.dirname(each_file.RUNNER), harm=harm))  # noqa: PTH120
    monkeypatch.setattr(each_file, "RUNNER", script)
    monkeypatch.setattr(each_file.threading, "Timer", partial(OnceItHangs, tmp_path / "broken.py.hangs"))
    files = files_with(tmp_path, dense_file(tmp_path / "b.onnx"))
    lines = list(measured_each("kernels", files, silence_s=silence_s, **PLAN))
    assert [(line.kind, line.file) for line in lines] == [("kernels", 0), ("error", 1), ("kernels", 2)]
    assert lines[1].content == {"message": reason}


def test_a_graph_that_cannot_be_read_back_is_a_failure(monkeypatch):
    def refuse(*_):
        raise MeasurementError("control flow")

    monkeypatch.setattr(measuring, "graph_of", refuse)
    (found,) = observe_drawn([draw(1, this_machine(), TINY)], Target(), QUICK)
    assert found == Failure(name="drawn-1", reason="control flow")


# How good it is.


def test_a_file_measured_again_gives_the_floor(monkeypatch):
    drawn = [draw(seed, this_machine(), TINY) for seed in (0, 1)]
    before = [observation(seed, us=100.0) for seed in (0, 1)]
    again = [observation(0, us=110.0), observation(1, us=90.0)]
    monkeypatch.setattr(training, "observe_drawn", lambda *_, **__: iter(again))
    assert a_a_floor_of(Session(observations=before, first=drawn), Target()) == pytest.approx(0.1)
    assert a_a_floor_of(Session(), Target()) is None


def made_up_clock(monkeypatch, sort):
    """Its time, on which a random network takes a second and a built one ten, and seeds and times of those of ``sort``.

    There are no others.
    """
    now, built = [0.0], []

    def observed(batch, *_):
        for each in batch:
            now[0] += 5.0 if each.name.startswith(sort) else 1.0
            yield observation(name=each.name)

    def draw_one(seed, machine, space):
        built.append((seed, now[0]))
        return [named(f"{sort}-{seed}-x-{kind}") for kind in ("fp32", "int8")]

    def refused(seed, machine, space):
        raise ModelError("none")

    def named(name):
        return Drawn(name=name, family="f", precision="any", proto=b"")

    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(training, "observe_drawn", observed)
    monkeypatch.setattr(training, "draw", lambda seed, _: named(f"drawn-{seed}"))
    for name in ("student", "timm"):
        monkeypatch.setattr(training, f"draw_{name}", draw_one if name == sort else refused)
    monkeypatch.setattr(training, "append", lambda *_: None)
    return now, built


@pytest.mark.parametrize("sort", ["student", "timm"])
def test_built_networks_take_at_most_their_share_of_the_time(tmp_path, monkeypatch, sort):
    now, built = made_up_clock(monkeypatch, sort)
    session = Session()
    measure_for(1000.0, session, tmp_path, machine=this_machine(), target=Target(), observer=Silence())
    share = getattr(profile_space(), f"{sort}s" if sort == "student" else sort).share
    assert share * 1000 - 40 <= 10 * len(built) <= share * 1000
    assert built[0][1] * share >= training.BUILT_AT_ONCE * training.BUILT_S
    assert [seed for seed, _ in built] == list(range(len(built)))
    assert 1000 <= now[0] <= 1030


@pytest.mark.parametrize("seconds", [420.0, 440.0, 620.0])
def test_the_last_built_networks_end_in_time(tmp_path, monkeypatch, seconds):
    """Once it is known what they take: at 400 and 600 seconds they are due by their share."""
    now, built = made_up_clock(monkeypatch, "student")
    measure_for(seconds, Session(), tmp_path, machine=this_machine(), target=Target(), observer=Silence())
    assert built
    assert now[0] <= seconds + 1


def many(count=40):
    return [
        observation(number, us=50.0 + number, family="plain" if number % 2 else "tokens") for number in range(count)
    ]


def test_the_card_has_every_group_and_baselines_that_did_not_see_what_they_judge(monkeypatch):
    seen = []

    def fitted(observations):
        seen.append({each.name for each in observations})
        return fit_baselines(observations)

    monkeypatch.setattr(cross_validation, "fit_baselines", fitted)
    stand_in = fit_stand_in(many(), HERE)
    card = card_of([judged(stand_in, each) for each in many()], 0.01)
    assert card.files == card.all.files == card.baselines["flops"].files == 40
    assert card.all.mape == pytest.approx(0.005, rel=0.1)  # half of the distance between the two rounds
    assert set(card.by_family) == {"plain", "tokens"}
    assert set(card.by_precision) == {"fp32"}
    assert set(card.baselines) == {"flops", "roofline", "table"}
    assert card.a_a_floor == 0.01
    names = {each.name for each in many()}
    assert sorted(name for each in seen for name in names - each) == sorted(names)


def test_too_few_files_get_no_card(tmp_path):
    found = made(tmp_path, 1)
    assert found.card is None
    assert "1 networks are too few to predict from, at least 20 are needed; measure longer" in found.notes


def test_the_card_is_kept_and_shown(tmp_path, monkeypatch, capfd):
    made_profile(tmp_path, 40, circumstances=circumstances_of(this_machine()))
    found = made(tmp_path, 1)
    assert found.card is not None
    assert read_facts(tmp_path).card == found.card
    monkeypatch.setattr(profiling, "profile", lambda **_: found)
    assert run(["profile"]) == 0
    text = capfd.readouterr().out
    assert "4 folds over 41 files" in text
    assert "baseline: roofline" in text
    assert "the same file measured twice differs by" in text
    assert f"autocompress predict FILE.onnx --profile {tmp_path}" in text.replace("'", "")


def test_json_is_the_record_that_python_returns(measured, monkeypatch, capfd):
    monkeypatch.setattr(profiling, "profile", lambda **_: measured)
    assert autocompress.profile is profiling.profile
    assert run(["profile", "--json"]) == 0
    answer = capfd.readouterr().out
    assert profiling.ProfileSummary.from_json(answer) == measured
    assert json.loads(answer)["files"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--export-kit", "k.zip", "--out", "d"], "--export-kit writes a zip file .* got --out as well"),
        (["--import", "r.jsonl", "--time", "5m"], "--import makes a profile .* got --time as well"),
        (["--import", "r.jsonl", "--anew"], "--import makes a profile .* got --anew as well"),
        (["--import", "r.jsonl", "--threads", "2"], "--import makes a profile .* got --threads as well"),
        (["--kit-time", "5m"], "--kit-time goes with --export-kit"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(words, message, capfd):
    import re  # noqa: PLC0415

    assert run(["profile", *words]) == 2
    assert re.search(message, " ".join(capfd.readouterr().err.split()))
