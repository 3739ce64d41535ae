"""What is measured once: where it lies, and for whom it holds."""

from pathlib import Path

import pytest
from sample_result import machine

from autocompress.hardware import kept
from autocompress.hardware.kept import FOLDER, Record, cache_folder, circumstances_of, keep, recall


class Noted(Record):
    value: float


def noted(value: float = 1.5, threads: int = 1) -> Noted:
    return Noted(
        circumstances=circumstances_of(machine(), threads), measured_at="2026-01-01T00:00:00+00:00", value=value
    )


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


def test_a_record_comes_back_and_the_later_one_counts(folder):
    assert recall(Noted, noted().circumstances) is None
    keep(noted(1.5))
    file = keep(noted(2.5))
    assert file.parent == folder
    assert recall(Noted, noted().circumstances) == noted(2.5)


@pytest.mark.parametrize("change", [{"cpu": "another"}, {"isa": ()}, {"onnxruntime": "0.1.0"}, {"threads": 2}])
def test_a_record_holds_for_its_own_circumstances_only(change):
    keep(noted())
    assert recall(Noted, noted().circumstances.model_copy(update=change)) is None


def test_circumstances_are_those_of_the_processor_and_the_installed_runtime():
    found = circumstances_of(machine(), threads=3)
    assert (found.cpu, found.isa, found.threads) == (machine().cpu, machine().isa, 3)
    assert found.onnxruntime == kept.package_versions()["onnxruntime"]


@pytest.mark.parametrize("content", ["", "{}", '{"value": 1'])
def test_a_record_that_cannot_be_read_counts_as_none(content):
    keep(noted()).write_text(content)
    assert recall(Noted, noted().circumstances) is None


def test_a_record_under_the_name_of_another_does_not_count():
    other = keep(noted(threads=2))
    other.rename(keep(noted()))
    assert recall(Noted, noted().circumstances) is None


@pytest.mark.parametrize(
    ("variables", "platform", "expected"),
    [
        ({FOLDER: "/own", "XDG_CACHE_HOME": "/x"}, "linux", "/own"),
        ({"XDG_CACHE_HOME": "/x"}, "linux", "/x/autocompress"),
        ({"XDG_CACHE_HOME": "/x"}, "darwin", "/x/autocompress"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "/home/me/.cache/autocompress"),
        ({}, "linux", "/home/me/.cache/autocompress"),
        ({}, "darwin", "/home/me/Library/Caches/autocompress"),
    ],
)
def test_the_folder_is_the_users_for_caches(monkeypatch, variables, platform, expected):
    for name in (FOLDER, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(kept.sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
