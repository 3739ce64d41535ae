"""Where a run's jobs are done."""

import pytest

from autocompress.commands import compress
from autocompress.commands.compress import WORTH_WORKERS_S, launcher_for
from autocompress.commands.config import RunConfig
from autocompress.events import Remembering, Silence
from autocompress.search.launcher import SerialLauncher


@pytest.mark.parametrize(
    ("given", "is_serial", "said"),
    [
        ({"time_s": WORTH_WORKERS_S}, False, False),
        ({"time_s": WORTH_WORKERS_S - 1}, True, False),
        ({"time_s": WORTH_WORKERS_S - 1, "workers": 1}, True, False),
        ({"time_s": WORTH_WORKERS_S - 1, "workers": 2}, True, True),
        ({"time_s": 1, "ray_address": "auto"}, False, False),
    ],
)
def test_workers_are_started_where_there_is_time_for_them(monkeypatch, given, is_serial, said):
    monkeypatch.setattr(compress, "ray_launcher", lambda *_: None)
    observer = Remembering(Silence())
    found = launcher_for(RunConfig(model="m", data="d", budget="size<=50%", **given), 2, observer)
    assert isinstance(found, SerialLauncher) == is_serial
    assert [note.startswith("--workers 2 has no effect") for note in observer.notes] == [True] * said
