import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from filelock import Timeout
from onnx import helper
from tiny_onnx import dense_file, external_file, floats, save

from autocompress.errors import MeasurementError
from autocompress.hardware import calm, child, latency, memory, runner
from autocompress.hardware.child import machine_lock, run_runner
from autocompress.hardware.latency import a_a_floor, measure_latency
from autocompress.hardware.memory import measure_peak_ram
from autocompress.measurement import Latency
from autocompress.target import Target

QUICK = {"rounds": 3, "window_ms": 2.0}


def big_file(path: Path, n_multiplications: int) -> Path:
    """Multiplies a 192 by 192 input by itself again and again."""
    names = ["x", *(f"h{i}" for i in range(n_multiplications - 1)), "y"]
    nodes = [helper.make_node("MatMul", [a, "x"], [b]) for a, b in pairwise(names)]
    return save(path, nodes, {"x": [192, 192]}, {})


def test_more_work_takes_longer_and_counts_every_run(tmp_path):
    files = [big_file(tmp_path / "one.onnx", 1), big_file(tmp_path / "ten.onnx", 10)]
    one, ten = measure_latency(files, Target(), rounds=3, window_ms=30.0)  # long against what else the machine does
    assert ten.median_ms > 3 * one.median_ms
    for measured in (one, ten):
        assert measured.interval_ms[0] <= measured.median_ms <= measured.interval_ms[1]
        assert measured.runs >= measured.rounds
        assert measured.rounds + measured.rejected_rounds >= 3
        assert measured.threads == 1


@pytest.mark.parametrize(("run_ms", "runs"), [(0.125, 48), (1.0, 6), (3.0, 5), (20.0, 2)])
def test_a_window_has_five_runs_or_more_unless_they_take_five_times_as_long(run_ms, runs):
    runs_us, unrest = subject(run_ms).window_us(10.0, runner.FEWEST_RUNS, senses(pulse=[0.4]))
    assert (len(runs_us), unrest) == (runs, 0.4)


def subject(run_ms: float, clock: list[float] | None = None) -> runner.Subject:
    """Whose runs take ``run_ms`` each, or after one another what ``clock`` says."""
    made = object.__new__(runner.Subject)
    made.run_us = lambda: 1e3 * (clock.pop(0) if clock else run_ms)
    return made


def senses(pulse: list[float], reach: list[float] | None = None, patience: bool = True) -> runner.Senses:
    """Whose readings come one after the other, and the last one for good."""
    made = runner.Senses()
    made._cores.clear()  # none to go to
    made.pulse, made.reach = one_by_one(pulse), one_by_one(reach or [0.2])
    made.has_patience = lambda: patience
    return made


def one_by_one(readings: list[float]):
    left = list(readings)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_runs_beside_a_slow_pulse_are_made_again():
    beside = [5.0, 4.0]  # the caches settle, then the pulse is slow after a run
    runs_us, unrest = subject(1.0, clock=beside).window_us(5.0, 3, senses([0.3, 0.3, 1.9, 1.3, 0.9, 0.3]))
    assert runs_us == [1e3, 1e3, 1e3]
    assert unrest == pytest.approx(0.3)


def test_the_first_runs_on_another_core_do_not_count():
    moving = senses([0.3, 1.9, 0.3])
    moving.await_pulse = iter([False, True]).__next__  # before the visit, and after the slow pulse
    beside = [5.0, 4.0, *[3.0] * runner.MOVING_RUNS]
    assert subject(1.0, clock=beside).window_us(5.0, 3, moving)[0] == [1e3, 1e3, 1e3]


def test_shares_are_of_the_first_file_where_they_are_asked_for(tmp_path):
    files = [dense_file(tmp_path / "one.onnx"), dense_file(tmp_path / "same.onnx")]
    first, second = measure_latency(files, Target(), rounds=12, window_ms=2.0, shares=True)
    assert first.share_interval is None
    low, high = second.share_interval
    assert 0.3 < low <= high < 3.0
    assert [each.share_interval for each in measure_latency(files, Target(), **QUICK)] == [None, None]


def test_a_visit_after_which_the_caches_are_taken_is_made_again():
    beside = [4.0, 6.0, 4.0, 5.0]  # settling and counting, twice
    runs_us, unrest = subject(1.0, clock=beside).window_us(10.0, 1, senses([0.3], reach=[0.2, 8.0, 0.2, 0.5]))
    assert runs_us == [5e3, 1e3]
    assert unrest == 0.5


def test_without_patience_the_calm_runs_count_if_there_are_enough_and_all_otherwise():
    pulse = [0.3, 0.3, 0.3, 2.5]
    assert len(subject(1.0).window_us(10.0, 2, senses(pulse, patience=False))[0]) == 2
    runs_us, unrest = subject(1.0).window_us(10.0, 3, senses(pulse, patience=False))
    assert (len(runs_us), unrest) == (6, 2.5)
    assert subject(1.0).window_us(10.0, 3, senses([0.3], reach=[8.0], patience=False))[1] == 8.0


def test_a_profile_beside_other_guests_is_made_again(tmp_path, monkeypatch):
    plan = {"rounds": 2, "window_ms": 1.0, "warm_up_ms": 0.0, "profile_ms": 1.0, "seed": 0, "threads": 1, "batch": 1}
    seen = [{"unrest": 3.0}, {"unrest": 2.0}, {"unrest": 0.4}, {"unrest": 0.3}]
    monkeypatch.setattr(runner, "profiled", lambda *_: seen.pop(0))
    assert runner.timed_kernels(str(dense_file(tmp_path / "a.onnx")), plan, senses([0.1]))["unrest"] == 0.4
    assert seen == [{"unrest": 0.3}]


def test_calm_readings_are_passed_on_until_they_are_old(tmp_path, monkeypatch):
    monkeypatch.setattr(calm.tempfile, "gettempdir", lambda: str(tmp_path))
    assert calm.known_calm() == {}
    for reading, fastest in ((8.0, 8.0), (9.0, 8.0), (7.0, 7.0)):
        calm.remember_calm({"pulse_us": reading, "reach_us": 20.0})
        assert calm.known_calm() == {"pulse_us": fastest, "reach_us": 20.0}
    (file,) = tmp_path.iterdir()
    kept = file.read_text()
    monkeypatch.setattr(calm.time, "time", lambda: 1e12)
    assert calm.known_calm() == {}
    monkeypatch.undo()
    monkeypatch.setattr(calm.tempfile, "gettempdir", lambda: str(tmp_path))
    for spoiled in (
        "[]",
        kept[:-5],
        kept.replace("7.0", "0").replace("20.0", "-1"),
        kept.replace('{"pulse_us": 7.0', '["pulse_us", {"a": 7.0').replace("}}", "}]}"),
    ):
        file.write_text(spoiled)
        assert calm.known_calm() == {}
    calm.remember_calm({"pulse_us": 9.0})
    assert calm.known_calm() == {"pulse_us": 9.0}


def test_whoever_measures_passes_on_what_it_saw(tmp_path, monkeypatch):
    monkeypatch.setattr(calm.tempfile, "gettempdir", lambda: str(tmp_path))
    assert measure_latency([dense_file(tmp_path / "a.onnx")], Target(), **QUICK)[0].unrest >= 0
    assert all(us > 0 for us in calm.known_calm().values())
    assert set(calm.known_calm()) == {"pulse_us", "reach_us"}


def test_a_file_is_as_fast_as_its_copy_with_external_data(tmp_path):
    assert 0 <= a_a_floor(external_file(tmp_path / "a.onnx"), Target()) < 0.5


def test_the_machine_belongs_to_one_measurement(tmp_path, monkeypatch):
    seen = []

    def locked_elsewhere(*_):
        with pytest.raises(Timeout):
            machine_lock().acquire(timeout=0)
        seen.append(True)
        return []

    monkeypatch.setattr(child, "_lines_of", locked_elsewhere)
    run_runner("latency", [dense_file(tmp_path / "a.onnx")], timeout_s=1)
    assert seen


def test_a_file_that_cannot_run_is_named_with_what_the_runtime_says(tmp_path):
    bad = save(tmp_path / "bad.onnx", [helper.make_node("Nonsense", ["x"], ["y"])], {"x": [1]}, {})
    good = dense_file(tmp_path / "good.onnx")
    with pytest.raises(MeasurementError, match=r"must load and run .*bad\.onnx; it says: .*Nonsense"):
        measure_latency([good, bad], Target(), **QUICK)
    with pytest.raises(MeasurementError, match=r"must load and run .*bad\.onnx; it says: .*Nonsense"):
        measure_peak_ram(bad, Target())


def test_shapes_beyond_the_batch_must_be_static(tmp_path):
    loose = dense_file(tmp_path / "a.onnx", batch="n")
    assert measure_latency([loose], Target(batch=2), **QUICK)[0].median_ms > 0
    looser = save(tmp_path / "b.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, "w"]}, {})
    with pytest.raises(MeasurementError, match=r"input 'x' must have a static shape, got \[1, 'w'\]; export it"):
        measure_latency([looser], Target(), **QUICK)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MeasurementError, match=r"a file to measure must exist, got .*none\.onnx"):
        measure_latency([tmp_path / "none.onnx"], Target())


def test_integer_inputs_get_integers(tmp_path):
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    file = save(tmp_path / "a.onnx", nodes, {"x": [1, 5]}, {"table": floats(2, 4)}, kind=7)
    assert measure_latency([file], Target(), **QUICK)[0].median_ms > 0


def script(monkeypatch, tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(text)
    monkeypatch.setattr(child, "RUNNER", path)


def test_a_process_that_dies_is_blamed_on_the_file_it_was_at(tmp_path, monkeypatch):
    lines = '{"kind": "stage", "file": 1}\\n{"kind": "sta'
    script(monkeypatch, tmp_path, f"import os\nprint('{lines}', end='', flush=True)\nos.kill(os.getpid(), 11)")
    files = [dense_file(tmp_path / "a.onnx"), dense_file(tmp_path / "b.onnx")]
    with pytest.raises(MeasurementError, match=r"must survive .*b\.onnx, it died with signal SIGSEGV"):
        run_runner("latency", files, timeout_s=100)


def test_a_process_that_fails_shows_its_last_words(tmp_path, monkeypatch):
    script(monkeypatch, tmp_path, "raise SystemExit('no onnxruntime here')")
    with pytest.raises(
        MeasurementError, match=r"must survive a\.onnx, it died with exit code 1; .*no onnxruntime here"
    ):
        run_runner("latency", [dense_file(tmp_path / "a.onnx")], timeout_s=100)


def test_a_process_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    script(monkeypatch, tmp_path, "import time\ntime.sleep(60)")
    started, children = child.started, []

    def noted(*arguments):
        children.append(started(*arguments))
        return children[-1]

    monkeypatch.setattr(child, "started", noted)
    with pytest.raises(MeasurementError, match=r"must end within 0.2 s, a\.onnx did not; raise the time limit"):
        run_runner("latency", [dense_file(tmp_path / "a.onnx")], timeout_s=0.2)
    assert [process.returncode for process in children] == [-signal.SIGKILL]


def test_an_interrupt_ends_the_measuring_process(tmp_path):
    (tmp_path / "sleeper.py").write_text(
        f"import os, time\nopen(r'{tmp_path}/pid', 'w').write(str(os.getpid()))\ntime.sleep(300)"
    )
    driver = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background ignores it
        "from pathlib import Path\nfrom autocompress.hardware import child\n"
        f"child.RUNNER = Path(r'{tmp_path}/sleeper.py')\n"
        "child.run_runner('latency', [], timeout_s=300)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", driver], stderr=subprocess.PIPE)
    pid_file = tmp_path / "pid"
    while not (pid_file.exists() and pid_file.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=60)[1]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def measured(median_ms: float, *, half_width: float = 0.0, rejected: int = 0, unrest: float = 0.1) -> Latency:
    return Latency(
        median_ms=median_ms,
        p95_ms=median_ms,
        interval_ms=(median_ms * (1 - half_width), median_ms * (1 + half_width)),
        rounds=12 - rejected,
        rejected_rounds=rejected,
        runs=60,
        load_ms=1,
        threads=1,
        noisy=half_width > 0.03,
        unrest=unrest,
    )


def scripted(monkeypatch, *answers):
    """Let measurements answer in turn; returns the calls that they get."""
    calls, left = [], list(answers)

    def answer(files, target, protocol):
        calls.append((list(files), protocol.rounds))
        return left.pop(0)

    monkeypatch.setattr(latency, "_measure_once", answer)
    return calls


def test_a_calm_measurement_is_not_repeated(monkeypatch):
    calls = scripted(monkeypatch, [measured(1.0)])
    assert measure_latency([Path("a")], Target()) == [measured(1.0)]
    assert calls == [([Path("a")], 12)]


@pytest.mark.parametrize("disturbed", [measured(2.0, half_width=0.05), measured(2.0, half_width=0.02, rejected=5)])
def test_a_disturbed_measurement_is_repeated_and_the_calmer_one_counts(monkeypatch, disturbed):
    calls = scripted(monkeypatch, [disturbed], [measured(1.0, half_width=0.01)])
    assert measure_latency([Path("a")], Target())[0].median_ms == 1.0
    assert [rounds for _, rounds in calls] == [12, 18]
    scripted(monkeypatch, [disturbed], [measured(1.0, half_width=0.2)])
    assert measure_latency([Path("a")], Target())[0].median_ms == 2.0


def test_what_was_slow_throughout_is_not_repeated(monkeypatch):
    """The runner has waited for a calm moment already, for a share of the time that it took."""
    slow = measured(2.0, half_width=0.05, rejected=6, unrest=2.0)
    calls = scripted(monkeypatch, [slow])
    assert measure_latency([Path("a")], Target()) == [slow]
    assert len(calls) == 1


def test_many_files_are_split_and_every_part_begins_with_the_first(monkeypatch):
    files = [Path(str(i)) for i in range(20)]
    parts = [[measured(1.0)] * 16, [measured(1.0), *[measured(2.0)] * 4]]
    calls = scripted(monkeypatch, *parts)
    found = measure_latency(files, Target())
    assert [len(part) for part, _ in calls] == [16, 5]
    assert calls[1][0] == [files[0], *files[16:]]
    assert [item.median_ms for item in found] == [1.0] * 16 + [2.0] * 4
    assert not any(item.noisy for item in found)


def test_a_part_in_which_the_first_file_moved_is_noisy(monkeypatch):
    scripted(monkeypatch, [measured(1.0)] * 16, [measured(1.2), *[measured(2.0)] * 4])
    found = measure_latency([Path(str(i)) for i in range(20)], Target())
    assert [item.noisy for item in found] == [False] * 16 + [True] * 4


def test_no_files_take_no_time():
    assert measure_latency([], Target()) == []


def test_peak_ram_is_the_highest_of_several_processes(monkeypatch):
    growths = iter([5, 9, 7, 6, 5])
    monkeypatch.setattr(memory, "_growth_bytes", lambda *_: next(growths))
    assert measure_peak_ram(Path("a"), Target()) == 9


def test_peak_ram_grows_with_what_the_file_holds(tmp_path):
    small = measure_peak_ram(dense_file(tmp_path / "small.onnx"), Target(), processes=1)
    file = dense_file(tmp_path / "large.onnx", width=2048, n_outputs=2048)
    large = measure_peak_ram(file, Target(), processes=1)
    assert large - small > 2048 * 2048 * 4
