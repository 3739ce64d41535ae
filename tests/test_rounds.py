import numpy as np
import pytest

from autocompress.hardware.rounds import (
    Timed,
    calm_rounds,
    disturbances,
    half_width_ratio,
    median_interval,
    summarize,
)


def readings(n_rounds: int, **changes: list[float]):
    quiet = {
        "reference_ms": [5.0] * (n_rounds + 1),
        "reference_cpu_ms": [5.0] * (n_rounds + 1),
        "round_ms": [100.0] * n_rounds,
        "waited_ms": [0.0] * n_rounds,
        "stolen_ms": [0.0] * n_rounds,
        "others_ms": [0.0] * n_rounds,
        "unrest": [0.4] * n_rounds,
    }
    return disturbances(**(quiet | changes))


def test_a_slow_reference_disturbs_the_rounds_on_both_sides():
    np.testing.assert_allclose(readings(4, reference_ms=[5, 5, 5.5, 5, 5]), [0, 0.1, 0.1, 0], atol=1e-12)


def test_waiting_and_stolen_time_disturb_their_own_round():
    found = readings(3, waited_ms=[0, 20, 0], stolen_ms=[30, 0, 0])
    np.testing.assert_allclose(found, [0.3, 0.2, 0])


def test_a_load_that_lasts_all_along_is_seen():
    """Wall time of the reference is doubled in every round; its processor time tells."""
    np.testing.assert_allclose(readings(3, reference_ms=[10.0] * 4), [1, 1, 1])


def test_a_neighbour_on_another_core_disturbs_by_a_share_of_what_it_uses():
    np.testing.assert_allclose(readings(3, others_ms=[0, 100, 9]), [0, 1 / 3, 0.03])


def test_unrest_disturbs_by_what_calm_moments_do_not_explain():
    np.testing.assert_allclose(readings(3, unrest=[1.0, 1.6, 0.0]), [0, 0.6, 0], atol=1e-12)


def test_calm_rounds_are_all_below_the_limit_or_the_calmer_half():
    assert calm_rounds(np.array([0.01, 0.2, 0.04, 0.03])).tolist() == [0, 2, 3]
    assert calm_rounds(np.array([0.5, 0.3, 0.2, 0.4, 0.6])).tolist() == [1, 2, 3]


def test_the_summary_ignores_disturbed_rounds():
    rounds = [[1000.0, 1010.0, 1020.0]] * 5 + [[9000.0] * 3]
    latency = summarize(
        Timed(load_ms=7, rounds_us=rounds), np.array([0, 0, 0, 0, 0, 1.0]), [0.1] * 6, threads=2, seed=0
    )
    assert latency.median_ms == pytest.approx(1.01)
    assert latency.p95_ms == pytest.approx(1.02)
    assert latency.interval_ms == pytest.approx((1.01, 1.01))
    assert (latency.rounds, latency.rejected_rounds, latency.runs) == (5, 1, 15)
    assert (latency.threads, latency.load_ms, latency.noisy) == (2, 7, False)


def test_a_summary_is_noisy_when_rounds_disagree_are_few_or_none_was_calm():
    steady, wild = [[1000.0]] * 6, [[1000.0], [1300.0]] * 3
    calm = np.zeros(6)
    assert not summarize(Timed(load_ms=0, rounds_us=steady), calm, [0.1] * 6, threads=1, seed=0).noisy
    assert summarize(Timed(load_ms=0, rounds_us=wild), calm, [0.1] * 6, threads=1, seed=0).noisy
    assert summarize(Timed(load_ms=0, rounds_us=steady[:2]), calm[:2], [0.1] * 2, threads=1, seed=0).noisy
    assert summarize(Timed(load_ms=0, rounds_us=steady), calm + 0.2, [0.1] * 6, threads=1, seed=0).noisy


def test_shares_are_of_the_same_round_whatever_the_machine_does_between_rounds():
    pace, share = [1.0, 9.0, 1.4, 0.8, 1.2, 1.1, 0.9], [0.40, 9.0, 0.41, 0.42, 0.43, 0.44, 0.45]
    first = [[1000.0 * each] for each in pace]
    other = [[1000.0 * each * part] for each, part in zip(pace, share, strict=True)]
    disturbance = np.array([0, 1.0, 0, 0, 0, 0, 0])
    beside = Timed(load_ms=0, rounds_us=first)
    latency = summarize(Timed(load_ms=0, rounds_us=other), disturbance, [0.1] * 7, threads=1, seed=0, beside=beside)
    low, high = latency.share_interval
    assert 0.40 <= low < 0.425 < high <= 0.45
    assert latency.interval_ms[1] > 1.2 * latency.interval_ms[0]


@pytest.mark.parametrize(("rounds", "beside"), [(6, False), (5, True)], ids=["alone", "few rounds"])
def test_there_is_no_interval_of_shares_of(rounds, beside):
    timed = Timed(load_ms=0, rounds_us=[[1000.0]] * rounds)
    calm = np.zeros(rounds)
    latency = summarize(timed, calm, [0.1] * rounds, threads=1, seed=0, beside=timed if beside else None)
    assert latency.share_interval is None


def test_the_interval_covers_the_true_median_about_19_times_in_20():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        low, high = median_interval(rng.normal(10, 1, 15), seed=seed)
        hits += low <= 10 <= high
    assert 0.88 <= hits / 200 <= 1.0


def test_the_interval_repeats_with_its_seed():
    values = np.arange(10.0)
    assert median_interval(values, seed=1) == median_interval(values, seed=1)


def test_half_width_is_relative_to_the_median():
    latency = summarize(Timed(load_ms=0, rounds_us=[[1000.0]] * 4), np.zeros(4), [0.1] * 4, threads=1, seed=0)
    wide = latency.model_copy(update={"interval_ms": (0.9, 1.3)})
    assert half_width_ratio(wide) == pytest.approx(0.2)
