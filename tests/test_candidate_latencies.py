"""What is measured of candidates while something else disturbs it."""

from types import SimpleNamespace

from learned_profile import bytes_of_dense, predictor

from autocompress.measurement import Latency
from autocompress.search.candidates.latencies import ByProfile, calmer, with_strays_again
from autocompress.search.forecast import Forecast
from autocompress.target import Target


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


def test_calm_measurements_have_the_say_among_the_three():
    calm = iter([[latency(1.1)], [latency(1.2)]])
    (found,) = with_strays_again([latency(3.0, noisy=True)], [said(1.0)], lambda _: next(calm))
    assert found.median_ms == 1.1
    noisy = iter([[latency(1.1)], [latency(2.0, noisy=True)]])
    (found,) = with_strays_again([latency(3.0, noisy=True)], [said(1.0)], lambda _: next(noisy))
    assert found.median_ms == 1.1


def test_the_calmer_of_two_is_no_noisy_one_and_else_the_narrower():
    wide = latency(1.0, noisy=True).model_copy(update={"interval_ms": (0.5, 1.5)})
    assert calmer(latency(1.0, noisy=True), latency(2.0)) == latency(2.0)
    assert calmer(wide, latency(2.0, noisy=True)) == latency(2.0, noisy=True)


def test_disturbed_measurements_teach_nothing():
    foreteller = ByProfile(predictor(), Target())
    filed = SimpleNamespace(file=bytes_of_dense(200), key="one", is_draft=False)
    (before,) = foreteller.say([filed])
    foreteller.learn([(filed, latency(3 * before.ms, noisy=True))])
    assert foreteller.say([filed]) == [before]
    foreteller.learn([(filed, latency(3 * before.ms))])
    assert foreteller.say([filed])[0].ms > 2 * before.ms


def test_what_is_as_it_was_said_is_measured_once():
    assert with_strays_again([latency(1.0)], [said(1.09)], lambda _: []) == [latency(1.0)]
