"""What of a moment tells whether it is calm."""

import os

import pytest

from autocompress.hardware import runner


class Clock:
    """Seconds that pass when somebody sleeps, and a little whenever somebody looks."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(runner.time, "perf_counter", self.look)
        monkeypatch.setattr(runner.time, "sleep", self.sleep)

    def look(self):
        self.now += 1e-5
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def bound(monkeypatch, cores=(0, 1)):
    """The core that the thread under test runs on, one of ``cores``."""
    here = [cores[0]]
    monkeypatch.setattr(runner, "cores", lambda: list(cores))
    monkeypatch.setattr(runner.os, "sched_setaffinity", lambda _, core: here.__setitem__(0, *core), raising=False)
    return here


@pytest.mark.parametrize("restless", ["pulse", "reach"])
def test_patience_is_a_share_of_the_time_that_passes(monkeypatch, restless):
    clock = Clock(monkeypatch)
    bound(monkeypatch)
    found = runner.Senses(patience=0.5)
    found.pulse, found.reach = (lambda: 3.0 if restless == "pulse" else 0.1), lambda: 3.0  # it never gets calm
    found.await_calm()
    assert clock.now == pytest.approx(runner.GRACE_S / 0.5, abs=2 * runner.POLL_S)


def test_a_thread_goes_to_the_core_that_other_guests_leave_alone(monkeypatch):
    """Later than a guest of milliseconds would have gone; and stays there."""
    clock, here = Clock(monkeypatch), bound(monkeypatch)
    monkeypatch.setattr(runner, "_loop_us", lambda: 20.0 if here[0] == 0 else 10.0)
    found = runner.Senses({"pulse_us": 10.0})
    assert found.await_pulse()
    assert here == [1]
    assert runner.LINGER_S < clock.now < 2 * runner.LINGER_S
    assert not found.await_pulse()
    assert here == [1]


def test_a_guest_of_milliseconds_is_waited_for(monkeypatch):
    clock, here = Clock(monkeypatch), bound(monkeypatch)
    monkeypatch.setattr(runner, "_loop_us", lambda: 20.0 if clock.now < runner.LINGER_S / 2 else 10.0)
    found = runner.Senses({"pulse_us": 10.0})
    assert not found.await_pulse()
    assert here == [0]


def test_several_threads_are_not_moved(monkeypatch):
    Clock(monkeypatch)
    here = bound(monkeypatch)
    found = runner.Senses({"pulse_us": 1e-3}, threads=2)
    found._listeners = []
    assert not found.await_pulse()
    assert here == [0]


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


def test_one_visit_does_not_use_up_the_patience_of_all(monkeypatch):
    clock = Clock(monkeypatch)
    bound(monkeypatch, cores=(0,))
    found = runner.Senses(patience=0.9)
    found.pulse, clock.now = lambda: 3.0, 1000.0
    for _ in range(2):
        before = clock.now
        found.renew()
        found.await_calm()
        assert clock.now - before == pytest.approx(runner.MOST_LOST_S, rel=0.01)


def test_the_reference_is_taken_between_calm_pulses(monkeypatch):
    """Products beside a restless pulse take three times as long here, and do not count."""
    clock = Clock(monkeypatch)
    found = runner.Senses(patience=0.9)
    pulses = [0.1, *[0.1, 3.0] * 40]
    found.pulse = lambda: pulses.pop(0) if pulses else 0.1
    found.await_pulse = lambda: False

    def product(*_):
        clock.now += 3e-3 if pulses and pulses[0] > 1 else 1e-3

    monkeypatch.setattr(runner.np, "matmul", product)
    assert runner.reference_ms(runner.reference_matrix(0), found)["reference_ms"] == pytest.approx(1.0, rel=0.05)
