"""A kit runs where only numpy and onnxruntime are, goes on where it was, and comes back as a profile of that device."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest
from made_up_profile import HERE
from stand_in_predictor import install
from tiny_onnx import dense_file

from autocompress.cli.app import run
from autocompress.commands import profile as profiling
from autocompress.errors import OutputError, ProfileError, RunError
from autocompress.events import Silence
from autocompress.hardware import runner
from autocompress.hardware.drawn.draw import draw
from autocompress.hardware.drawn.space import profile_space
from autocompress.hardware.machine import this_machine
from autocompress.hardware.predictor import kit as kits
from autocompress.hardware.predictor.kit_results import read_kit_results
from autocompress.hardware.predictor.measuring import Protocol
from autocompress.hardware.predictor.profile import read_facts, read_observations

QUICK = Protocol(rounds=2, window_ms=1.0, warm_up_ms=1.0, profile_ms=1.0, silence_s=30.0)
TINY = profile_space().model_copy(update={"kinds": {"perceptron": 1.0}, "int8": 0.0})
# What numpy and onnxruntime import of others.
NEEDED = ("numpy", "numpy.libs", "onnxruntime", "google", "flatbuffers", "packaging")
FORBIDDEN = ("onnx", "torch", "autocompress", "yaml", "pydantic", "filelock")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(kits, "draw", lambda seed, machine: draw(seed, machine, TINY))
    return install(monkeypatch)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> str:
    """A Python that has numpy and onnxruntime and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    installed = Path(importlib.util.find_spec("numpy").origin).parents[1]
    for name in NEEDED:
        if (installed / name).exists():
            (site / name).symlink_to(installed / name)
    return str(folder / "bin" / "python")


@pytest.fixture
def kit(tmp_path) -> Path:
    """Three small models for two threads, unpacked elsewhere."""
    made = profiling.export_kit(tmp_path / "kit.zip", threads=2, models=3, protocol=QUICK)
    assert (made.models, made.threads) == (3, 2)
    assert made.size_bytes == (tmp_path / "kit.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        archive.extractall(tmp_path / "device")
    return tmp_path / "device"


def run_kit(python: str, kit: Path) -> list[dict]:
    """The runner's lines on standard output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [python, "runner.py", "plan.json"]
    done = subprocess.run(command, cwd=kit, env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def results(kit: Path) -> list[dict]:
    return [json.loads(line) for line in (kit / "results.jsonl").read_text().splitlines()]


def plan(kit: Path, **changes) -> dict:
    """The plan, after it was changed."""
    content = {**json.loads((kit / "plan.json").read_text()), **changes}
    (kit / "plan.json").write_text(json.dumps(content))
    return content


def test_a_kit_has_a_runner_of_one_file_and_a_readme_with_two_commands(kit):
    assert sorted(path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file()) == [
        *("README.txt", "models/0000.onnx", "models/0001.onnx", "models/0002.onnx"),
        *("plan.json", "runner.py"),
    ]
    readme = (kit / "README.txt").read_text()
    assert "    pip install numpy onnxruntime\n" in readme
    assert "    python runner.py plan.json\n" in readme
    assert plan(kit)["threads"] == 2


def test_it_runs_with_numpy_and_onnxruntime_alone_and_becomes_a_profile(kit, bare_python, tmp_path):
    check = f"import importlib.util as u; print([n for n in {FORBIDDEN} if u.find_spec(n)])"
    assert subprocess.run([bare_python, "-I", "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"
    said = run_kit(bare_python, kit)
    assert [line["kind"] for line in said] == ["runtime", "done", "done", "done", "finished"]
    device, *models = results(kit)
    assert device["kind"] == "device"
    assert [line["kind"] for line in models] == ["kernels"] * 3

    found = profiling.import_results(kit / "results.jsonl", out=tmp_path / "profile")
    assert found.circumstances.threads == 2
    assert found.circumstances.cpu == this_machine().cpu
    assert found.circumstances.isa == this_machine().isa
    assert (found.files, found.new_files, found.failed) == (3, 3, 0)
    observations, _ = read_observations(tmp_path / "profile")
    assert [each.name for each in observations] == ["drawn-0", "drawn-1", "drawn-2"]
    assert {each.source for each in observations} == {"import"}
    facts = read_facts(tmp_path / "profile")
    assert (facts.ram, facts.energy) == (None, None)  # what this machine takes says nothing of the device
    again = profiling.import_results(kit / "results.jsonl", out=tmp_path / "profile")
    assert (again.files, again.new_files) == (3, 0)


def test_killed_in_the_middle_it_goes_on_behind_what_is_written(kit, bare_python):
    plan(kit, window_ms=400.0)
    process = subprocess.Popen([bare_python, "runner.py", "plan.json"], cwd=kit, stdout=subprocess.DEVNULL)
    ends = time.monotonic() + 200
    while not (kit / "results.jsonl").exists() or (kit / "results.jsonl").read_bytes().count(b"\n") < 2:
        assert time.monotonic() < ends
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = (kit / "results.jsonl").read_bytes()
    first = json.loads(written.splitlines()[1])
    (kit / "results.jsonl").write_bytes(written + b'{"kind": "kernels", "na')  # cut off by the kill
    plan(kit, window_ms=1.0)
    done = [line["model"] for line in run_kit(bare_python, kit) if line["kind"] == "done"]
    assert first["name"] not in done
    assert results(kit)[1] == first
    assert sorted(line["name"] for line in results(kit)[1:]) == ["drawn-0", "drawn-1", "drawn-2"]
    assert run_kit(bare_python, kit)[-1]["kind"] == "finished"
    assert len(results(kit)) == 4


def test_a_model_that_is_refused_or_hangs_costs_itself_only(kit, bare_python):
    """A model hangs where its process does not answer in time: here at a pipe that nobody writes to.

    The others have time enough, however slow the machine is.
    """
    limit = 'timeout=plan["timeout_s"]'
    runner = (kit / "runner.py").read_text()
    assert limit in runner
    (kit / "runner.py").write_text(runner.replace(limit, f'{limit} if "0001" in plan["files"][0] else 100'))
    (kit / "models/0000.onnx").write_bytes(b"no model")
    (kit / "models/0001.onnx").unlink()
    os.mkfifo(kit / "models/0001.onnx")
    plan(kit, timeout_s=1.0)
    run_kit(bare_python, kit)
    refused, hung, fine = results(kit)[1:]
    assert (refused["kind"], hung["kind"], fine["kind"]) == ("error", "error", "kernels")
    assert hung["message"] == "took longer than 1 s"
    found = read_kit_results(kit / "results.jsonl")
    assert [each.name for each in found.failures] == ["drawn-0", "drawn-1"]
    assert [each.name for each in found.observations] == ["drawn-2"]


def test_a_model_that_kills_its_process_costs_itself_only(kit, bare_python):
    runner = (kit / "runner.py").read_text()
    harmed = runner.replace(
        "def timed_kernels(file: str, plan: dict[str, Any], senses: Senses) -> dict[str, Any]:\n",
        "def timed_kernels(file: str, plan: dict[str, Any], senses: Senses) -> dict[str, Any]:\n"
        '    if file.endswith("0001.onnx"):\n        os.kill(os.getpid(), 11)\n',
    )
    assert harmed != runner
    (kit / "runner.py").write_text(harmed)
    run_kit(bare_python, kit)
    assert [line["kind"] for line in results(kit)[1:]] == ["kernels", "error", "kernels"]
    assert results(kit)[2]["message"] == "the process died with code -11"


def test_a_process_that_dies_within_its_line_costs_its_model_only(kit, bare_python):
    runner = (kit / "runner.py").read_text()
    harmed = runner.replace(
        "def time_kernels(plan: dict[str, Any], emit: Emit) -> None:\n",
        "def time_kernels(plan: dict[str, Any], emit: Emit) -> None:\n"
        '    if plan["files"][0].endswith("0001.onnx"):\n'
        """        os.write(results.fileno(), b'{"kind": "kernels", "na')\n"""
        "        os.kill(os.getpid(), 9)\n",
    )
    assert harmed != runner
    (kit / "runner.py").write_text(harmed)
    run_kit(bare_python, kit)
    assert [line["kind"] for line in results(kit)[1:]] == ["kernels", "error", "kernels"]
    assert results(kit)[2]["message"] == "the process died with code -9"


@pytest.mark.parametrize("line", [b'{"kind": "ker\n', b"3\n", b'{"kind": "kernels"}\n', b"\xff\n", b"\n"])
def test_a_result_that_was_edited_is_named_with_its_line(tmp_path, line):
    file = tmp_path / "results.jsonl"
    device = {"cpuinfo": "c", "architecture": "a", "onnxruntime": "1", "threads": 1}
    first = b'{"kind": "error", "name": "m", "message": "refused"}\n'
    file.write_bytes(json.dumps({"kind": "device", **device}).encode() + b"\n" + first)
    assert runner._begun_results(file, device) == {"m"}
    file.write_bytes(file.read_bytes() + line + first)
    with pytest.raises(SystemExit, match=r"results.jsonl, line 3: must be as this script wrote it, got .* begin anew"):
        runner._begun_results(file, device)


def test_it_stops_when_its_time_is_over_and_says_what_is_left(kit, bare_python):
    plan(kit, time_s=0.0)
    said = run_kit(bare_python, kit)[-1]
    assert (said["kind"], said["models_left"]) == ("stopped", 3)


def test_results_of_another_device_are_not_continued(kit, bare_python):
    (kit / "results.jsonl").write_text('{"kind": "device", "cpuinfo": "another"}\n')
    done = subprocess.run([bare_python, "runner.py", "plan.json"], cwd=kit, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "must be of this device, runtime and threads; move it away to begin anew" in done.stderr


DEVICE = {
    "kind": "device", "cpuinfo": "model name\t: Cortex-A76\nFeatures\t: asimd asimddp", "architecture": "aarch64",
    "cores": 4, "ram_bytes": 10**9, "os": "Linux 6", "onnxruntime": "1.22.0", "threads": 4,
}  # fmt: skip


def test_the_profile_is_of_the_device_whatever_machine_this_is(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(DEVICE) + "\n" + json.dumps({"kind": "error", "name": "m", "message": "refused"}) + "\n")
    found = profiling.import_results(file, out=tmp_path / "p")
    there = read_facts(tmp_path / "p").circumstances
    assert there == found.circumstances != HERE
    assert (there.cpu, there.isa, there.onnxruntime, there.threads) == ("Cortex-A76", ("neon", "dotprod"), "1.22.0", 4)
    assert "1 networks could not be measured; m: refused" in found.notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: must state the device, the file is empty; send the file"),
        ('{"kind": "kernels"}\n', r"line 1: must state the device, it is of kind 'kernels'"),
        ('{"kind": "device"}\n', r"line 1: must state the device, but KeyError: 'cpuinfo'"),
        (json.dumps(DEVICE) + "\n{]\n", r"line 2, column 2: must be JSON"),
        (json.dumps(DEVICE) + "\n3\n", r"line 2: must be a JSON object, got '3'"),
        (
            json.dumps(DEVICE) + '\n{"kind": "kernels", "name": "m"}\n',
            r"line 2: must be one measured model, but KeyErr",
        ),
    ],
)
def test_results_that_were_edited_are_named_with_the_line(tmp_path, content, message):
    file = tmp_path / "results.jsonl"
    file.write_text(content)
    with pytest.raises(ProfileError, match=message):
        read_kit_results(file)


def test_results_that_are_missing_are_said(tmp_path, capfd):
    assert run(["profile", "--import", str(tmp_path / "r.jsonl")]) == 2
    assert "--import takes the results.jsonl of a kit" in capfd.readouterr().err


def test_a_cut_off_last_result_is_left_out_with_a_note(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(DEVICE) + '\n{"kind": "ker')
    assert "line 2 was cut off in the middle" in read_kit_results(file).notes[0]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    dense_file(tmp_path / "file")
    with pytest.raises(OutputError, match="--export-kit names a file that can be written"):
        profiling.export_kit(tmp_path / "file" / "kit.zip", models=1)


class Notes(Silence):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_network_that_cannot_be_drawn_is_replaced_and_said(tmp_path, monkeypatch):
    def draw_or_fail(seed, machine):
        if seed in {1, 2}:
            raise ValueError("no such width")
        return draw(seed, machine, TINY)

    monkeypatch.setattr(kits, "draw", draw_or_fail)
    notes = Notes()
    made = profiling.export_kit(tmp_path / "kit.zip", models=3, protocol=QUICK, observer=notes)
    assert made.models == 3
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        models = json.loads(archive.read("plan.json"))["models"]
    assert [each["name"] for each in models] == ["drawn-0", "drawn-3", "drawn-4"]
    assert notes.said == ["others stand in for 2 networks that could not be drawn; drawn-1: no such width"]


def test_where_none_can_be_drawn_it_gives_up_and_leaves_no_kit(tmp_path, monkeypatch):
    def fail(seed, machine):
        raise ValueError("no such width")

    monkeypatch.setattr(kits, "draw", fail)
    monkeypatch.setattr(kits, "draw_student", fail)
    with pytest.raises(RunError, match=r"20 in a row could not be, .* because: no such width; autocompress doctor"):
        profiling.export_kit(tmp_path / "kit.zip", models=3, protocol=QUICK)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_to_do_with_the_kit(tmp_path, capfd):
    words = ["--export-kit", str(tmp_path / "kit.zip"), "--kit-time", "2s", "--threads", "2"]
    assert run(["profile", *words]) == 0
    text = capfd.readouterr().out
    assert "2 models" in text
    assert "pip install numpy onnxruntime; python runner.py plan.json" in text
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        assert json.loads(archive.read("plan.json"))["threads"] == 2


def test_the_runner_imports_nothing_else():
    code = f"import sys, runner; print([n for n in {FORBIDDEN} if n in sys.modules])"
    folder = Path(kits.RUNNER).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
