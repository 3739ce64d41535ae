"""Finalists are measured until nothing disturbs them."""

from types import SimpleNamespace

import pytest
from made_up_facts import latency

from autocompress.clock import Clock
from autocompress.events import Silence
from autocompress.search import calm_latency
from autocompress.search.calm_latency import MEASURE_ATTEMPTS, CalmLatency


@pytest.mark.parametrize(
    ("noise", "time_s", "measured"),
    [([False], 600.0, 1), ([True, False], 600.0, 2), ([True] * 9, 600.0, MEASURE_ATTEMPTS), ([True] * 9, 1.0, 1)],
    ids=["calm", "calm at the second time", "never calm", "never calm and time is up"],
)
def test_finalists_are_measured_until_nothing_disturbs_them(monkeypatch, noise, time_s, measured):
    calls, notes, pending = [], [], iter(noise)

    def measure_files(baseline, files, target, **protocol):
        calls.append(baseline)
        return latency(noisy=False), {0: latency(noisy=next(pending))}

    monkeypatch.setattr(calm_latency, "measure_files", measure_files)
    monkeypatch.setattr(calm_latency, "PAUSE_S", 0.0)
    observer = SimpleNamespace(note=notes.append)
    latencies = CalmLatency(baseline_file=b"", target=None, observer=observer, clock=Clock(time_s))

    _, found = latencies.of({0: b""}, {})

    assert len(calls) == measured
    is_never_calm = noise[measured - 1]
    assert len(notes) == measured - 1 + is_never_calm
    assert ("no measurement of the finalists was calm" in "".join(notes)) is is_never_calm
    assert found[0].noisy is noise[measured - 1]


@pytest.mark.parametrize(
    ("share_interval", "by_share", "measured"),
    [((0.49, 0.51), True, 1), ((0.47, 0.53), True, 2), (None, True, 2), ((0.49, 0.51), False, 2)],
    ids=["shares agree", "they do not", "none were measured", "they do not count"],
)
def test_where_shares_are_what_counts_a_machine_that_is_slow_for_all_does_not_matter(
    monkeypatch, share_interval, by_share, measured
):
    noisy = [latency(noisy=True).model_copy(update={"share_interval": share_interval}), latency(noisy=False)]
    pending = iter(noisy)

    def measure_files(*_, **__):
        return latency(noisy=by_share), {0: next(pending)}

    monkeypatch.setattr(calm_latency, "measure_files", measure_files)
    monkeypatch.setattr(calm_latency, "PAUSE_S", 0.0)
    latencies = CalmLatency(baseline_file=b"", target=None, observer=Silence(), clock=Clock(600.0), by_share=by_share)

    latencies.of({0: b""}, {})

    assert len(noisy) - len(list(pending)) == measured


@pytest.mark.parametrize(
    ("medians", "kept"),
    [([0.5], 0.5), ([1.0, 0.5], 0.5), ([1.0, 0.9, 0.8], 0.9), ([-0.4, 0.9, 1.0], 1.0), ([-0.4, 0.5], 0.5)],
    ids=["as before", "slow at first", "always another share: the middle one", "a noisy one does not count", "calm"],
)
def test_finalists_that_take_another_share_than_their_trials_are_measured_again(monkeypatch, medians, kept):
    """Those below zero are noisy."""
    pending = iter(medians)

    def measure_files(baseline, files, target, **protocol):
        ms = next(pending)
        return latency(noisy=False), {0: latency(noisy=ms < 0).model_copy(update={"median_ms": abs(ms)})}

    monkeypatch.setattr(calm_latency, "measure_files", measure_files)
    monkeypatch.setattr(calm_latency, "PAUSE_S", 0.0)
    latencies = CalmLatency(baseline_file=b"", target=None, observer=Silence(), clock=Clock(600.0))

    _, found = latencies.of({0: b""}, {0: 0.48})

    assert found[0].median_ms == kept
    assert next(pending, None) is None
