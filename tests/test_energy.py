"""Energy: the estimate, the fit, and the meter on a made-up folder."""

import itertools

import numpy as np
import pytest

from autocompress.errors import MeasurementError
from autocompress.hardware import rapl
from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.predictor.energy import (
    EnergyCoefficients,
    EnergySource,
    Work,
    estimate_energy,
    fit_energy,
    work_in,
)
from autocompress.hardware.rapl import Meter, find_meter, metered_mj

TRUTH = EnergyCoefficients(static_watts=3.0, float_mac_pj=8.0, integer_mac_pj=1.5, byte_pj=20.0)
NAMES = ("static_watts", "float_mac_pj", "integer_mac_pj", "byte_pj")


def drawn_work(rng: np.random.Generator) -> Work:
    """Of a network that does not exist."""
    macs = rng.uniform(1e6, 1e9, 2)
    return Work(float_macs=macs[0], integer_macs=macs[1], moved_bytes=float(rng.uniform(1e6, 1e8)))


def test_energy_is_watts_by_time_and_picojoules_by_work():
    work = Work(float_macs=1e9, integer_macs=2e9, moved_bytes=1e8)

    assert estimate_energy(work, 10.0, TRUTH) == pytest.approx(3 * 10 + 8 + 2 * 1.5 + 0.1 * 20)


def test_work_adds_up_by_the_kind_of_arithmetic():
    products = [
        Kernel("MatMul", (Tensor(kind, (2, 3)), Tensor(kind, (3, 5), stored=True)), (Tensor(kind, (2, 5)),))
        for kind in ("float", "float", "int8")
    ]

    moved = 6 + 15 + 10
    assert work_in(products) == Work(float_macs=2 * 30, integer_macs=30, moved_bytes=2 * 4 * moved + moved)


def test_integers_take_less_than_floats_and_the_defaults_say_that_they_are_estimates():
    typical = EnergyCoefficients()

    assert typical.integer_mac_pj < typical.float_mac_pj
    assert typical.source is EnergySource.ESTIMATED
    assert EnergyCoefficients.from_yaml(typical.to_yaml()) == typical


def test_fitting_finds_the_coefficients_that_made_the_data():
    rng = np.random.default_rng(0)
    drawn = [(drawn_work(rng), float(rng.uniform(0.5, 20))) for _ in range(20)]

    fitted = fit_energy([(work, ms, estimate_energy(work, ms, TRUTH)) for work, ms in drawn])

    assert [getattr(fitted, name) for name in NAMES] == pytest.approx([getattr(TRUTH, name) for name in NAMES])
    assert fitted.source is EnergySource.METERED


def test_no_coefficient_falls_below_zero():
    rng = np.random.default_rng(0)
    drawn = [(drawn_work(rng), float(rng.uniform(0.5, 20))) for _ in range(8)]

    fitted = fit_energy([(work, ms, float(rng.uniform(1, 100))) for work, ms in drawn])

    assert min(getattr(fitted, name) for name in NAMES) >= 0


@pytest.mark.parametrize(("energies", "found"), [([1.0] * 3, "3 files"), ([1, 2, 3, 0.0], "an energy of 0 mJ")])
def test_fitting_needs_enough_files(energies, found):
    metered = [(Work(), 1.0, energy) for energy in energies]

    with pytest.raises(MeasurementError, match=f"at least 4 files with more than 0 mJ each, got {found}; meter more"):
        fit_energy(metered)


def package(folder, name, energy_uj, range_uj=1000):
    """One package as the kernel shows it."""
    place = folder / name
    place.mkdir()
    (place / "energy_uj").write_text(f"{energy_uj}\n")
    (place / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return place


def test_packages_count_and_their_parts_do_not(tmp_path):
    for name in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"):
        package(tmp_path, name, 5)

    meter = find_meter(tmp_path)

    assert meter is not None
    assert [counter.parent.name for counter in meter.counters] == ["intel-rapl:0", "intel-rapl:1"]
    assert meter.read_uj() == (5, 5)


def test_no_meter_where_there_is_none_or_it_cannot_be_read(tmp_path):
    assert find_meter(tmp_path / "absent") is None

    place = package(tmp_path, "intel-rapl:0", 5)
    (place / "energy_uj").unlink()

    assert find_meter(tmp_path) is None


def test_a_counter_that_starts_again_is_followed_around():
    meter = Meter(counters=(), ranges_uj=(1000, 1000))

    assert meter.spent_mj((900, 100), (50, 400)) == pytest.approx((150 + 300) / 1e3)


def test_what_the_idle_machine_takes_is_subtracted(monkeypatch, tmp_path):
    """10 W at rest; a run lasts 0.25 s and takes 2 J more."""
    counter = package(tmp_path, "intel-rapl:0", 0, range_uj=10**12) / "energy_uj"
    now = itertools.count()
    state = {"s": 0.0, "uj": 0.0}

    def spend(seconds, extra_uj=0.0):
        state["s"] += seconds
        state["uj"] += seconds * 10e6 + extra_uj
        counter.write_text(str(int(state["uj"])))
        next(now)

    monkeypatch.setattr(rapl.time, "sleep", spend)
    monkeypatch.setattr(rapl.time, "monotonic", lambda: state["s"])
    meter = find_meter(tmp_path)
    assert meter is not None

    assert metered_mj(meter, lambda: spend(0.25, 2e6)) == pytest.approx(2000)
    assert next(now) == 5  # one rest and four runs


def test_a_short_window_is_refused():
    with pytest.raises(MeasurementError, match=r"metered over at least 1 s, got 0\.1 s; raise the window"):
        metered_mj(Meter(counters=(), ranges_uj=()), lambda: None, window_s=0.1)
