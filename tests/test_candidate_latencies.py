"""What is measured of candidates while something else disturbs it."""

from autocompress.measurement import Latency
from autocompress.search.candidates.latencies import with_strays_again
from autocompress.search.forecast import Forecast


def latency(ms: float, *, noisy: bool = False) -> Latency:
    return Latency(
        median_ms=ms, p95_ms=ms, interval_ms=(ms, ms), rounds=3, runs=9, load_ms=1, threads=1, noisy=noisy
    )  # fmt: skip


def said(ms: float) -> Forecast:
    return Forecast(ms=ms, low_ms=0.8 * ms, high_ms=1.2 * ms)


def test_what_strays_from_its_forecast_or_is_noisy_is_the_middle_of_three():
    asked = []

    def measure(places):
        asked.append(places)
        return [latency(1.02 * len(asked)) for _ in places]

    found = [latency(1.05), latency(1.3), latency(1.0, noisy=True), latency(9.0)]
    again = with_strays_again(found, [said(1.0)] * 4, measure)
    assert asked == [[1, 2, 3]] * 2
    assert [each.median_ms for each in again] == [1.05, 1.3, 1.02, 2.04]


def test_what_is_as_it_was_said_is_measured_once():
    assert with_strays_again([latency(1.0)], [said(1.09)], lambda _: []) == [latency(1.0)]
