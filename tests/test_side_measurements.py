"""What is measured beside latency: RAM and energy of a few networks become coefficients of the profile."""

from types import SimpleNamespace

import pytest
from made_up_profile import HERE, made_profile, observation

from autocompress.errors import MeasurementError
from autocompress.hardware import rapl
from autocompress.hardware.drawn.draw import draw
from autocompress.hardware.drawn.space import profile_space
from autocompress.hardware.machine import this_machine
from autocompress.hardware.predictor import side_measurements
from autocompress.hardware.predictor.energy import EnergyCoefficients, EnergySource
from autocompress.hardware.predictor.memory import TYPICAL, RamCoefficients
from autocompress.hardware.predictor.profile import read_facts, update_facts
from autocompress.hardware.predictor.side_measurements import SHARE, measure_beside, share_beside
from autocompress.hardware.predictor.training import Session
from autocompress.hardware.rapl import Meter, find_meter
from autocompress.target import Target

TINY = profile_space().model_copy(update={"kinds": {"perceptron": 1.0}, "int8": 0.0})
MEGABYTE = 1_000_000


@pytest.fixture
def folder(tmp_path):
    return made_profile(tmp_path / "profile", circumstances=HERE)


@pytest.fixture
def peaks(monkeypatch):
    """Every file peaks at 30 MB; how many processes were asked for, by file."""
    asked = []

    def measured(file, target, *, processes):
        asked.append(processes)
        return 30 * MEGABYTE

    monkeypatch.setattr(side_measurements, "measure_peak_ram", measured)
    return asked


def session_of(count: int) -> Session:
    some = [draw(seed, this_machine(), TINY) for seed in range(count)]
    return Session(observations=[observation(seed) for seed in range(count)], some=some)


def beside(folder, count=5, *, seconds=1e4, meter=None):
    measure_beside(folder, session_of(count), Target(), seconds=seconds, meter=meter)
    return read_facts(folder)


def test_ram_is_fitted_to_one_process_of_each_network(folder, peaks):
    ram = beside(folder).ram
    assert peaks == [1] * 5
    assert ram.files == 5
    assert ram.base > 1.2 * TYPICAL.base
    assert ram.blocked == pytest.approx(TYPICAL.blocked)  # of which perceptrons have none


def test_another_session_goes_on_from_the_coefficients_that_are_kept(folder, peaks):
    update_facts(folder, ram=RamCoefficients(blocked=9.0))
    ram = beside(folder).ram
    assert ram.blocked == pytest.approx(9.0)
    assert ram.files == 5


@pytest.mark.parametrize("kept", [None, RamCoefficients(blocked=9.0)])
def test_too_few_networks_leave_ram_as_it_was(folder, peaks, kept):
    update_facts(folder, ram=kept)
    assert beside(folder, 3).ram == kept
    assert len(peaks) == 3


def test_a_network_that_cannot_be_measured_is_left_out(folder, monkeypatch):
    answers = iter([MeasurementError("died"), OSError("no processes"), 0, *[30 * MEGABYTE] * 4])

    def measured(*_, **__):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(side_measurements, "measure_peak_ram", measured)
    assert beside(folder, 7).ram.files == 4


def test_a_network_without_a_latency_is_not_run_again(folder, peaks):
    session = session_of(6)
    session.observations.pop()
    measure_beside(folder, session, Target(), seconds=1e4, meter=None)
    assert read_facts(folder).ram.files == len(peaks) == 5


@pytest.mark.parametrize(("seconds", "count"), [(100.0, 1), (199.0, 1), (1e3, 10)])
def test_no_network_is_begun_that_would_go_beyond_the_share(folder, monkeypatch, seconds, count):
    """A network takes five seconds."""
    now, begun = [0.0], []

    def measured(*_, **__):
        begun.append(now[0])
        now[0] += 5.0
        return 30 * MEGABYTE

    monkeypatch.setattr(side_measurements, "clock", lambda: now[0])
    monkeypatch.setattr(side_measurements, "measure_peak_ram", measured)
    beside(folder, 20, seconds=seconds)
    assert len(begun) == count
    assert now[0] <= SHARE * seconds


def test_without_a_meter_the_profile_states_the_estimates_and_keeps_edited_ones(folder, peaks):
    assert beside(folder).energy == EnergyCoefficients()
    edited = EnergyCoefficients(static_watts=7.0)
    update_facts(folder, energy=edited)
    assert beside(folder).energy == edited


@pytest.fixture
def meter(tmp_path, monkeypatch) -> Meter:
    """10 W at rest, 30 W at work, on a clock that advances by 0.3 s at every look."""
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("1000000000000")
    state = {"s": 0.0, "uj": 0.0}

    def spend(seconds, watts):
        state["s"] += seconds
        state["uj"] += seconds * watts * 1e6
        (package / "energy_uj").write_text(str(int(state["uj"])))
        return state["s"]

    spend(0, 0)
    looks = SimpleNamespace(sleep=lambda seconds: spend(seconds, 10), monotonic=lambda: spend(0.3, 30))
    monkeypatch.setattr(rapl, "time", looks)
    found = find_meter(tmp_path)
    assert found is not None
    return found


def test_with_a_meter_energy_is_fitted(folder, peaks, meter):
    energy = beside(folder, meter=meter).energy
    assert energy.source is EnergySource.METERED
    assert energy != EnergyCoefficients(source=EnergySource.METERED)


@pytest.mark.parametrize(("count", "seconds"), [(3, 1e4), (5, 150.0)])
def test_too_few_networks_or_too_little_time_leave_energy_as_it_was(folder, peaks, meter, count, seconds):
    kept = EnergyCoefficients(static_watts=7.0, source=EnergySource.METERED)
    update_facts(folder, energy=kept)
    assert beside(folder, count, seconds=seconds, meter=meter).energy == kept


def test_too_little_time_meters_nothing(folder, peaks, meter):
    before = meter.read_uj()
    beside(folder, seconds=150.0, meter=meter)
    assert meter.read_uj() == before


def test_a_meter_takes_a_share_of_its_own(meter):
    assert share_beside(None) == SHARE
    assert share_beside(meter) == 2 * SHARE
