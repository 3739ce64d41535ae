"""Only candidates whose forecast leaves open whether they meet the budget are measured."""

import pytest
from made_up_forecasts import forecast
from made_up_search import BASELINE

from autocompress.budget import Budget, Metric
from autocompress.measurement import Latency, ModelFacts
from autocompress.search import costing
from autocompress.search.costing import Costing
from autocompress.search.forecast import Forecast
from autocompress.search.goal import Goal
from autocompress.target import Target

LIMIT_MS = 5.0
FACTS = ModelFacts(size_bytes=1, macs=1, params=1)
FITS, MISSES, OPEN = forecast(4.0), forecast(6.0), forecast(5.0)
BASELINE_NOW_MS = 20.0  # twice what it was at the beginning of the run


def latency(ms: float, *, noisy: bool = False) -> Latency:
    return Latency(
        median_ms=ms, p95_ms=ms, interval_ms=(ms, ms), rounds=5, runs=50, load_ms=1.0, threads=1, noisy=noisy
    )


class Forecasts:
    """Forecasts by the content of files; ``learned`` is what it was told was measured."""

    def __init__(self, **by_file: Forecast) -> None:
        self.by_file = by_file
        self.learned: dict[int, float] = {}

    def of_files(self, files):
        return {key: self.by_file[file.decode()] for key, file in files.items() if file.decode() in self.by_file}

    def learn(self, files, measured_ms):
        assert measured_ms.keys() <= files.keys()
        self.learned |= measured_ms


@pytest.fixture
def measured(monkeypatch) -> list[bytes]:
    """The files that were measured, in their order; ``noisy`` ones are noisy."""
    found: list[bytes] = []

    def measure_files(baseline, files, target):
        found.extend(files.values())
        return latency(BASELINE_NOW_MS), {key: latency(9.0, noisy=b"noisy" in file) for key, file in files.items()}

    monkeypatch.setattr(costing, "measure_files", measure_files)
    return found


def costs(forecaster: Forecasts | None, budget: str = "latency<=5ms") -> Costing:
    goal = Goal(budget=Budget.parse(budget), baseline=BASELINE)
    return Costing(b"baseline", goal, Target(), forecaster)


def candidates(*names: str) -> dict[int, tuple[bytes, ModelFacts]]:
    return {number: (name.encode(), FACTS) for number, name in enumerate(names)}


def test_without_forecasts_every_candidate_is_measured(measured):
    found = costs(None).measure(candidates("a", "b"))
    assert measured == [b"a", b"b"]
    assert [facts.latency_ms for facts in found.values()] == [4.5, 4.5]  # at the speed of the run's beginning


def test_only_open_ones_and_those_without_a_forecast_are_measured(measured):
    forecaster = Forecasts(fits=FITS, misses=MISSES, open=OPEN)
    found = costs(forecaster).measure(candidates("fits", "misses", "open", "unknown"))
    assert measured == [b"open", b"unknown"]
    assert [facts.latency_ms for facts in found.values()] == [None, None, 4.5, 4.5]
    assert [facts.latency_predicted_ms for facts in found.values()] == [4.0, 6.0, 5.0, None]
    assert found[0].latency_predicted_interval_ms == (FITS.low_ms, FITS.high_ms)


def test_those_that_are_always_measured_are_so_however_sure_the_forecast(measured):
    costs(Forecasts(fits=FITS, misses=MISSES)).measure(candidates("fits", "misses"), always=[1])
    assert measured == [b"misses"]


def test_where_latency_is_not_limited_nothing_is_open(measured):
    found = costs(Forecasts(fits=FITS), "size<=50%").measure(candidates("fits"))
    assert measured == []
    assert found[0].latency_predicted_ms == FITS.ms


def test_forecasts_learn_from_calm_measurements_alone(measured):
    forecaster = Forecasts(open=OPEN, noisy=OPEN)
    costs(forecaster).measure(candidates("open", "noisy"))
    assert measured == [b"open", b"noisy"]
    assert forecaster.learned == {0: 4.5}


@pytest.mark.parametrize(
    ("found", "sure", "beyond"),
    [(FITS, True, False), (MISSES, True, True), (OPEN, False, False), (forecast(5.4), False, False)],
)
def test_a_forecast_is_sure_where_its_whole_interval_lies_on_one_side(found, sure, beyond):
    assert (costs(None).is_sure(found), costs(None).is_beyond(found)) == (sure, beyond)


def test_a_relative_limit_is_one_of_the_baseline(measured):
    by_share = costs(None, "latency<=50%")
    assert by_share.violation(MISSES) == pytest.approx({Metric.LATENCY: 0.2})
    assert by_share.is_beyond(MISSES)
    assert costs(None, "size<=50%").violation(MISSES) == {}


def test_ram_is_measured_where_it_is_limited_even_if_latency_is_not(measured, monkeypatch):
    monkeypatch.setattr(costing, "measure_ram", lambda *_: 77)
    goal = Goal(budget=Budget.parse("ram<=1MB,latency<=5ms"), baseline=BASELINE)
    both = Costing(b"", goal, Target(), Forecasts(fits=FITS))
    found = both.measure(candidates("fits"))
    assert (found[0].peak_ram_bytes, measured) == (77, [])


@pytest.mark.parametrize(("minimize", "ram"), [(Metric.RAM, 77), (Metric.SIZE, None)])
def test_ram_is_measured_where_it_is_what_is_minimized(measured, monkeypatch, minimize, ram):
    monkeypatch.setattr(costing, "measure_ram", lambda *_: 77)
    goal = Goal(budget=Budget.parse("accuracy>=0.9"), baseline=BASELINE, minimize=minimize)
    found = Costing(b"", goal, Target()).measure(candidates("a"))[0]
    assert found.peak_ram_bytes == ram
    if ram is not None:
        assert goal.objective(found) == ram
