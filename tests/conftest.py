"""What every test stands on: one thread, one seed."""

import os
import shutil
import tempfile

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
# Properties are tried on the same examples in every run, however slow the machine is at the moment.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the home folder


def pytest_configure(config):
    """What is measured once and kept stays out of the user's own folder, also in child processes and workers."""
    if not hasattr(config, "workerinput"):
        os.environ["AUTOCOMPRESS_CACHE"] = tempfile.mkdtemp(prefix="autocompress-tests-")


def pytest_unconfigure(config):
    """Nothing stays behind."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["AUTOCOMPRESS_CACHE"], ignore_errors=True)


def pytest_ignore_collect(collection_path, config):
    """Of quiet tests, look into the files alone that have any: collecting all takes longer than most of them."""
    if config.getoption("markexpr") == "quiet" and collection_path.match("test_*.py"):
        text = collection_path.read_text()
        return None if "pytest.mark.quiet" in text or "finished_run" in text else True
    return None


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Tests of the finished run need quiet: it is certified with times that must be found again.

    Tests on Ray come first: beside the other tests one process gets them all, and one cluster runs at a time.
    """
    for item in items:
        if "finished_run" in item.fixturenames:
            item.add_marker("quiet")
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


@pytest.fixture(autouse=True)
def _seeded():
    """One thread and one seed, whatever the test before has set."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The folder of one whole run on the tiny task, for all tests that only read it."""
    from tiny_runs import finish_a_run  # noqa: PLC0415  # the search's imports are slow, and few tests need them

    return finish_a_run(tmp_path_factory.mktemp("finished") / "run")
