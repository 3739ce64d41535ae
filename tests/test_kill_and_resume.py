"""A driver that is killed in mid-search, and the process that goes on where it was."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tiny_runs import FILE, SMALL_SPACE, kept_weights

from autocompress.result import Result, Status, TrialKind, TrialRecord

DRIVER = """
import sys
sys.path.insert(0, {folder!r})
from own import brief_measuring
import autocompress as ac

with brief_measuring(first_rung=10):
    ac.compress("own.py:tiny_net", "own.py:tiny_task", "size<=90%", "run", checkpoint="weights.safetensors",
                space="small.yaml", workers=2, time=600, trials=int(sys.argv[1]), resume=sys.argv[2] == "resume")
"""
PATIENCE_S = 300.0
LINGER_S = 90.0

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture
def place(tmp_path) -> Path:
    """A user's folder: own code for network and data, weights, and a search space."""
    shutil.copyfile(FILE, tmp_path / "own.py")
    kept_weights(tmp_path / "weights.safetensors")
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    return tmp_path


def driver(place: Path, trials: int, how: str, mark: str) -> "subprocess.Popen[bytes]":
    """A process that runs the search on its own Ray; all that it starts carries ``mark`` in its environment."""
    with (place / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER.format(folder=str(place)), str(trials), how],
            cwd=place,
            env=os.environ | {"AUTOCOMPRESS_TEST_MARK": mark},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def trials_in(place: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(place / "run" / "study.journal")))
    return optuna.load_study(study_name="autocompress", storage=storage).trials


def records_in(place: Path) -> dict[int, TrialRecord]:
    """Finished trials as the journal holds them."""
    records = [trial.user_attrs["record"] for trial in trials_in(place) if "record" in trial.user_attrs]
    return {record.number: record for record in map(TrialRecord.from_json, records)}


def wait_for_search_trials(place: Path, process: "subprocess.Popen[bytes]", count: int) -> None:
    journal, deadline = place / "run" / "study.journal", time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        text = journal.read_text(errors="replace") if journal.is_file() else ""
        whole = text[: text.rfind("\n") + 1]  # the line that is being written may be cut off by the kill
        if whole.count(r"\"kind\":\"search\"") >= count:
            return
        assert process.poll() is None, (place / "driver.log").read_text()
        time.sleep(0.05)
    pytest.fail(f"no {count} search trials within {PATIENCE_S} s:\n{(place / 'driver.log').read_text()}")


def marked_processes(mark: str) -> list[str]:
    """Command lines of living processes that were started with ``mark``."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environ.read_bytes():
                found.append((environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # ended meanwhile, or not ours
            continue
    return [line for line in found if line]


def working_processes(mark: str) -> list[str]:
    """Those but for Ray's agents, which may wait idly for a minute for a server that is gone."""
    return [line for line in marked_processes(mark) if "Agent" not in line]


def end_all(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc")
def test_a_driver_killed_in_mid_search_leaves_no_processes_and_is_resumed_where_it_was(place):
    killed, goes_on = str(uuid4()), str(uuid4())
    process = driver(place, 50, "new", killed)
    try:
        wait_for_search_trials(place, process, 1)
        assert len(marked_processes(killed)) > 2  # the driver, Ray and its workers
        process.kill()
        process.wait()
    finally:
        end_all(process)
    assert not (place / "run" / "result.json").exists()
    before = records_in(place)
    searched = sum(record.kind is TrialKind.SEARCH for record in before.values())
    assert searched >= 1

    resumed = driver(place, searched + 1, "resume", goes_on)
    try:
        assert resumed.wait(PATIENCE_S) == 0, (place / "driver.log").read_text()
    finally:
        end_all(resumed)
    result = Result.from_json((place / "run" / "result.json").read_text())
    assert result.status is Status.MET
    after = {record.number: record for record in result.trial_log if record.kind is not TrialKind.FINALIST}
    assert before.items() <= after.items()
    assert len(after) > len(before)
    assert records_in(place) == after
    assert {trial.state.name for trial in trials_in(place)} <= {"COMPLETE", "PRUNED", "FAIL", "WAITING"}

    deadline = time.monotonic() + LINGER_S
    while (left := working_processes(killed)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []
