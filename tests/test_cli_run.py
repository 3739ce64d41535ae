"""The command itself, in its own process, on a tiny network: a run from end to end, stopped and taken up again."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
from tiny_runs import BRIEF_COMMAND, BRIEF_COMMAND_ON_RAY, NET, TASK

COMMAND = "from autocompress.cli import main; main()"
SETTINGS = ["--workers", "1", "--time", "20s", "--techniques", "quantize"]


def started(*words: str, program: str = COMMAND) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(*words: str, program: str = COMMAND) -> tuple[int, dict, str]:
    """Exit code, the one JSON object on standard output, and standard error."""
    process = started(*words, "--json", program=program)
    out, err = process.communicate()
    return process.returncode, json.loads(out), err


def test_an_error_in_json_is_the_only_thing_on_standard_output():
    code, answer, err = ended("measure", "nowhere.onnx")
    assert code == 2
    assert answer["error"]["kind"] == "InputError"
    assert "error: measure takes an ONNX file; there is no nowhere.onnx" in err


def test_what_is_said_while_the_interpreter_ends_is_not_part_of_the_answer():
    code = (
        "import atexit, os, sys; atexit.register(lambda: os.write(1, b'goodbye')); "
        "from autocompress.cli import main; sys.argv[1:] = ['report', 'nowhere', '--json']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "InputError"
    assert done.stderr.endswith("goodbye")


def test_the_log_of_the_process_stays_its_owners():
    """Some of what is imported on the way would print its own lines beside ours."""
    code = (
        "import logging, autocompress.trial; from autocompress.export.linear_kernels import _quiet\n"
        "with _quiet(): import onnxruntime.quantization.matmul_nbits_quantizer\n"
        "print(logging.root.handlers, logging.root.level == logging.WARNING)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_stopped_by_sigterm_goes_on_with_the_command_that_it_names(tmp_path):
    """The budget is out of reach, which is found without training: whole runs that train are tested elsewhere."""
    out = tmp_path / "run"
    words = ["compress", NET, "--data", TASK, "--budget", "size<=100B", "--out", str(out), *SETTINGS]
    with started(*words, program=BRIEF_COMMAND_ON_RAY) as process:
        assert process.stderr is not None
        assert any("original: " in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGTERM)
        *_, before, last = process.stderr.read().splitlines()
    assert process.returncode == 143
    assert before == "stopped by SIGTERM"
    assert last == f"go on with: {shlex.join(['autocompress', *words, '--resume'])}"

    code, answer, err = ended(*words, "--resume", program=BRIEF_COMMAND)
    assert (code, answer["status"]) == (3, "infeasible"), err
    assert answer == json.loads((out / "result.json").read_text())
    assert "size<=100B binds" in err
