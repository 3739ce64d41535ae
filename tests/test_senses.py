"""What of a moment tells whether it is calm."""

import os

import pytest

from autocompress.hardware import runner


def test_patience_is_a_share_of_the_time_that_passes(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(runner.time, "perf_counter", lambda: seconds[0])
    monkeypatch.setattr(runner.time, "sleep", lambda s: seconds.__setitem__(0, seconds[0] + s))
    found = runner.Senses({"pulse_us": 1e-3}, patience=0.5)  # no moment is so calm again
    found.await_calm()
    assert seconds[0] == pytest.approx(runner.GRACE_S / 0.5, abs=2 * runner.POLL_S)


def test_unrest_is_how_far_a_reading_is_beyond_the_fastest():
    found = runner.Senses()
    for read, name in ((found.pulse, "pulse_us"), (found.reach, "reach_us")):
        assert read() == 0
        found.fastest[name] /= 10  # as if an earlier process had seen a calmer moment
        assert min(read() for _ in range(50)) > 1


def test_with_more_threads_the_least_calm_core_counts(monkeypatch):
    cores = os.sched_getaffinity(0)
    found = runner.Senses({"pulse_us": 5.0}, threads=2)
    assert [each.submit(os.sched_getaffinity, 0).result() for each in found._listeners] == [{core} for core in cores]
    assert os.sched_getaffinity(0) == cores, "the runtime's threads inherit what the main thread is bound to"
    loops_us = iter([20.0, *[5.0] * len(cores)])
    monkeypatch.setattr(runner, "_loop_us", lambda: next(loops_us))
    assert found.pulse() == pytest.approx((20.0 / 5.0 - 1) / runner.CALM_PULSE)


def test_picking_goes_on_until_the_cache_holds_the_numbers(monkeypatch):
    """A network that ran before has pushed them out; a neighbour keeps them out."""
    found, nanoseconds, left = runner.Senses({"reach_us": 1.0}), [0], {"cold": 0, "picks": 0}
    monkeypatch.setattr(runner.time, "perf_counter_ns", lambda: nanoseconds[0])

    def pick(*_, **__):
        left["picks"] += 1
        nanoseconds[0] += 9000 if left["picks"] <= left["cold"] else 1000

    monkeypatch.setattr(runner.np, "take", pick)
    for cold, calm_after in ((0, 3), (7, 9), (100, None)):
        left.update(cold=cold, picks=0)
        unrest = found.reach()
        assert left["picks"] == (calm_after or runner.MOST_PICKS)
        assert (unrest <= 1) is (calm_after is not None)
