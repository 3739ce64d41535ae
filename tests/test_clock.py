import json

import pytest

from autocompress import clock as module
from autocompress.clock import CERTIFY_SHARE, FINISH_SHARE, Clock


@pytest.fixture
def time_is(monkeypatch):
    """Sets the monotonic time in seconds."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(module.time, "monotonic", lambda: 1000.0 + seconds)

    set_to(0.0)
    return set_to


def test_time_passes_until_the_limit_and_beyond(time_is):
    clock = Clock(100.0)
    time_is(30.0)
    assert (clock.elapsed_s, clock.left_s) == (30.0, 70.0)
    time_is(130.0)
    assert clock.left_s == -30.0


def test_search_leaves_time_to_finish_and_certify_and_finish_leaves_time_to_certify(time_is):
    clock = Clock(100.0)
    time_is(40.0)
    assert clock.search_left_s == pytest.approx(60.0 - 100 * (FINISH_SHARE + CERTIFY_SHARE))
    assert clock.finish_left_s == pytest.approx(60.0 - 100 * CERTIFY_SHARE)


def test_the_time_of_earlier_sessions_counts_and_the_time_between_them_does_not(tmp_path, time_is):
    path = tmp_path / "work" / "clock.json"
    first = Clock(100.0)
    first.keep_at(path)
    time_is(30.0)
    first.save()
    time_is(5000.0)
    second = Clock(100.0, path)
    time_is(5010.0)
    assert second.elapsed_s == 40.0
    second.save()
    assert Clock(50.0, path).left_s == 10.0


def test_a_killed_session_counts_until_it_last_saved(tmp_path, time_is):
    path = tmp_path / "clock.json"
    clock = Clock(100.0, path)
    time_is(20.0)
    clock.save()
    time_is(35.0)
    assert Clock(100.0, path).elapsed_s == 20.0
    assert json.loads(path.read_text()) == {"elapsed_s": 20.0}


def test_nothing_is_written_before_there_is_a_place_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Clock(10.0).save()
    assert list(tmp_path.iterdir()) == []


def test_a_new_run_begins_at_zero_where_no_count_is_kept(tmp_path, time_is):
    assert Clock(100.0, tmp_path / "clock.json").elapsed_s == 0.0


def test_seconds_of_a_stage_add_up():
    clock = Clock(10.0)
    clock.book("measure", 1.5)
    clock.book("search", 2.0)
    clock.book("measure", 0.5)
    assert clock.stages == {"measure": 2.0, "search": 2.0}
