"""Where a run's jobs are done."""

import pytest

from autocompress.commands import compress
from autocompress.commands.compress import FEW_WORKERS, WORTH_WORKERS_S, launcher_for
from autocompress.commands.config import RunConfig
from autocompress.events import Remembering, Silence
from autocompress.search.launcher import SerialLauncher


@pytest.mark.parametrize(
    ("given", "left_s", "is_serial", "said"),
    [
        ({}, WORTH_WORKERS_S, False, False),
        ({}, WORTH_WORKERS_S - 1, True, False),
        ({"workers": 1}, 9, True, False),
        ({"workers": 2}, 9, True, True),
        ({"workers": FEW_WORKERS + 1}, 9, False, False),
        ({"ray_address": "auto"}, 9, False, False),
    ],
)
def test_workers_are_started_where_there_is_time_for_them(monkeypatch, given, left_s, is_serial, said):
    monkeypatch.setattr(compress, "ray_launcher", lambda *_: None)
    observer = Remembering(Silence())
    found = launcher_for(RunConfig(model="m", data="d", budget="size<=50%", **given), left_s, 2, observer)
    assert isinstance(found, SerialLauncher) == is_serial
    assert [note.startswith("--workers 2 has no effect") for note in observer.notes] == [True] * said
