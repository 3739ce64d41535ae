"""Exit codes, errors, and what standard output is kept for."""

import json
import os
import signal
import sys

import pytest
from sample_result import sample_result

from autocompress import errors
from autocompress.cli.app import run
from autocompress.commands import compress as compressing
from autocompress.result import Status

ARGUMENTS = ["resnet18", "--data", "digits", "--budget", "latency<=5ms"]


def compress(tmp_path, *flags: str) -> int:
    return run(["compress", *ARGUMENTS, "--out", str(tmp_path / "my run"), *flags])


def raising(error: BaseException):
    def stop(*_, **__):
        raise error

    return stop


@pytest.mark.parametrize(("status", "code"), [(Status.MET, 0), (Status.INFEASIBLE, 3)])
def test_a_run_that_ends_properly_says_whether_the_budget_is_met(tmp_path, capfd, monkeypatch, status, code):
    monkeypatch.setattr(compressing, "run", lambda *_, **__: sample_result(status))
    assert compress(tmp_path) == code
    assert compress(tmp_path, "--json") == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BudgetError("a rule"), 2),
        (errors.DataError("a rule"), 2),
        (errors.CheckpointError("a rule"), 2),
        (errors.OutputError("a rule"), 2),
        (errors.RunError("a rule"), 1),
        (errors.MeasurementError("a rule"), 1),
        (errors.MissingDependencyError("a rule"), 1),
        (ZeroDivisionError("a rule"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_kind_of_end_has_its_code_and_its_json(tmp_path, capfd, monkeypatch, error, code):
    monkeypatch.setattr(compressing, "run", raising(error))
    assert compress(tmp_path, "--json") == code
    out, err = capfd.readouterr()
    found = json.loads(out)["error"]
    assert found["kind"] == ("Interrupted" if code == 130 else type(error).__name__)
    assert found["message"].splitlines()[0] in err
    assert "Traceback" not in err


def test_an_expected_error_is_one_line_on_standard_error(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(compressing, "run", raising(errors.RunError("ratio must lie in [0, 0.95], got [bold]1.5[/]")))
    assert compress(tmp_path) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "error: ratio must lie in [0, 0.95], got [bold]1.5[/]\n"


def test_an_unexpected_error_is_short_and_names_debug(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(compressing, "run", raising(ZeroDivisionError("by nothing")))
    assert compress(tmp_path) == 1
    err = capfd.readouterr().err
    assert err == "error: ZeroDivisionError: by nothing; this should not happen: --debug shows where\n"


@pytest.mark.parametrize(("flags", "variable"), [(["--debug"], "0"), ([], "1")])
def test_the_traceback_is_shown_when_asked_for(tmp_path, capfd, monkeypatch, flags, variable):
    monkeypatch.setattr(compressing, "run", raising(errors.RunError("a rule")))
    monkeypatch.setenv("AUTOCOMPRESS_DEBUG", variable)
    assert compress(tmp_path, *flags) == 1
    assert "Traceback (most recent call last)" in capfd.readouterr().err


def test_an_interrupted_run_names_the_command_that_goes_on(tmp_path, capfd, monkeypatch):
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "config.yaml").touch()
    monkeypatch.setattr(compressing, "run", raising(KeyboardInterrupt()))
    assert compress(tmp_path, "--overwrite") == 130
    assert capfd.readouterr().err == (
        "stopped by Ctrl-C\ngo on with: autocompress compress resnet18 --data digits --budget 'latency<=5ms' "
        f"--out '{tmp_path}/my run' --resume\n"
    )


def test_a_run_that_is_interrupted_before_it_wrote_anything_says_so(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(compressing, "run", raising(KeyboardInterrupt()))
    assert compress(tmp_path) == 130
    assert capfd.readouterr().err == "stopped by Ctrl-C\nnothing had been written yet\n"


def test_sigterm_unwinds_a_run_like_ctrl_c(tmp_path, capfd, monkeypatch):
    cleaned_up = []

    def killed(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned_up.append(True)

    monkeypatch.setattr(compressing, "run", killed)
    before = signal.getsignal(signal.SIGTERM)
    assert compress(tmp_path) == 143
    assert cleaned_up == [True]
    assert "stopped by SIGTERM" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_standard_output_holds_nothing_but_the_answer(tmp_path, capfd, monkeypatch):
    """Whoever writes to it meanwhile: Python, the descriptor itself (a native library), or a child process."""

    def noisy(*_, **__):
        print("from python")
        os.write(1, b"from a library\n")
        os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", "print('from a child')"])
        return sample_result()

    monkeypatch.setattr(compressing, "run", noisy)
    assert compress(tmp_path, "--json") == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["status"] == "met"
    assert all(f"from {who}" in err for who in ("python", "a library", "a child"))


@pytest.mark.parametrize("words", [["--frob"], [], ["--out", "x", "--trials", "few"]])
def test_bad_usage_with_json_is_an_object_too(capfd, words):
    assert run(["compress", *words, "--json"]) == 2
    out, err = capfd.readouterr()
    assert json.loads(out)["error"]["kind"] == "UsageError"
    assert "autocompress compress --help shows the flags and an example" in err or "autocompress --help" in err


def test_an_unknown_command_is_bad_usage(capfd):
    assert run(["compres"]) == 2
    assert "No such command 'compres'" in capfd.readouterr().err
