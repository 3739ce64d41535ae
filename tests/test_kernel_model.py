"""Times of kernels from their amounts of work, and from trees where those do not suffice."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from autocompress.hardware.kernels.features import TERMS, Placed
from autocompress.hardware.predictor import kernel_model
from autocompress.hardware.predictor.kernel_model import (
    LEAST_FOR_RATES,
    LEAST_US,
    UNRELATED_SPREAD,
    UNSEEN_SPREAD,
    KernelModel,
    Timed,
    ancestors,
    fit_kernels,
    fit_rates,
)

RATES = np.array([2.0, 0.0, 0.01])  # microseconds a start, a unused unit, a unit of work


def timed(n: int, *, rates: np.ndarray = RATES, step: float = 1.0, seed: int = 0) -> Timed:
    """Kernels that follow ``rates``, ``step`` times slower where their only feature is above one half."""
    rng = np.random.default_rng(seed)
    terms = np.column_stack([np.ones(n), rng.uniform(0, 100, n), 10 ** rng.uniform(1, 4, n)])
    features = rng.uniform(size=(n, 1))
    us = terms @ rates * np.where(features[:, 0] > 0.5, step, 1.0)
    return Timed(file=np.arange(n), terms=terms, features=features, us=us)


def placed(path: str, kernels: Timed, first: int = 0) -> dict[str, Placed]:
    places = list(range(first, first + len(kernels.us)))
    return {path: Placed(places=places, terms=kernels.terms, features=kernels.features)}


def error(model: KernelModel, path: str, kernels: Timed) -> float:
    us, _ = model.predict(placed(path, kernels))
    return float(np.abs(us / kernels.us - 1).max())


def test_rates_recover_the_law_that_made_the_times():
    kernels = timed(50)
    np.testing.assert_allclose(fit_rates(kernels.terms, kernels.us), RATES, rtol=1e-9, atol=1e-12)


def test_work_that_no_kernel_has_takes_no_time(monkeypatch):
    """Its column is empty, where a solver may leave any trifle."""

    def with_trifles(*args, **settings):
        return SimpleNamespace(x=lsq_linear(*args, **settings).x + 1e-15)

    monkeypatch.setattr(kernel_model, "lsq_linear", with_trifles)
    kernels = timed(30)
    assert fit_rates(np.column_stack([kernels.terms, np.zeros((30, 2))]), kernels.us)[3:].tolist() == [0, 0]


def test_rates_are_never_negative():
    kernels = timed(50)
    assert fit_rates(kernels.terms, kernels.terms @ [50.0, -0.4, 0.01]).min() >= 0


def test_few_kernels_cannot_claim_that_bytes_from_far_away_take_long():
    rng = np.random.default_rng(0)

    def with_far(n: int, rate: float) -> Timed:
        terms = np.zeros((n, TERMS + 1))
        terms[:, 0], terms[:, 1], terms[:, TERMS] = 1.0, rng.uniform(1, 100, n), rng.uniform(1e4, 1e6, n)
        us = 2 * terms[:, 0] + 0.5 * terms[:, 1] + rate * terms[:, TERMS]
        return Timed(file=np.arange(n), terms=terms, features=rng.uniform(size=(n, 1)), us=us)

    many, few = with_far(400, 1e-4), with_far(LEAST_FOR_RATES, 5e-3)
    model = fit_kernels({"conv_plain_dense": many, "conv_int8_odd_grouped": few})
    assert model.paths["conv_plain_dense"].rates[TERMS] == pytest.approx(1e-4, rel=1e-3)
    assert model.paths["conv_int8_odd_grouped"].rates[TERMS] < 1e-3


def test_few_kernels_are_learned_by_rates_alone():
    model = fit_kernels({"conv_plain_dense": timed(LEAST_FOR_RATES)})
    assert model.paths["conv_plain_dense"].forest is None
    assert error(model, "conv_plain_dense", timed(20, seed=1)) < 1e-6


def test_trees_learn_a_step_that_rates_cannot():
    model = fit_kernels({"conv_plain_dense": timed(400, step=2.0)})
    new = timed(50, step=2.0, seed=1)
    clear = np.abs(new.features[:, 0] - 0.5) > 0.05  # where the step lies is known as well as kernels are dense
    us, _ = model.predict(placed("conv_plain_dense", new))
    rates_alone = np.maximum(new.terms @ model.paths["conv_plain_dense"].rates, LEAST_US)
    assert np.abs(us / new.us - 1)[clear].max() < 0.15
    assert np.abs(rates_alone / new.us - 1)[clear].max() > 0.25


def test_trees_that_disagree_widen_the_spread():
    model = fit_kernels({"conv_plain_dense": timed(400, step=4.0)})
    one = timed(1)
    both = replace(one, terms=np.repeat(one.terms, 2, axis=0), features=np.array([[0.5], [0.9]]), us=np.ones(2))
    _, spread = model.predict(placed("conv_plain_dense", both))  # at the step, and away from it
    assert spread[0] > 2 * spread[1]


def test_a_path_never_seen_takes_the_rates_of_its_family_with_a_wide_spread():
    others = {"conv_plain_dense": timed(50, rates=RATES * 3), "move_Add": timed(50, seed=2)}
    model = fit_kernels({"conv_int8_dense": timed(50), **others})
    new = timed(5, seed=1)
    us, spread = model.predict(placed("conv_int8_grouped", new))
    np.testing.assert_allclose(us, new.us, rtol=1e-6)
    assert set(spread) == {UNSEEN_SPREAD}


def test_one_way_of_an_operator_stands_in_for_itself_alone():
    slow = timed(LEAST_FOR_RATES - 1, rates=RATES * 30)
    model = fit_kernels({"move_Softmax_outer": slow, "move_Add_same": timed(50, seed=2), "move_Mul_same": timed(50)})
    new = timed(5, seed=1)
    others, _ = model.predict(placed("move_Softmax_inner", new))
    np.testing.assert_allclose(model.predict(placed("move_Softmax_outer", new))[0], 30 * new.us, rtol=1e-6)
    assert (others < 3 * new.us).all()


@pytest.mark.parametrize("terms", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1e9, 1e12)])
def test_what_belongs_to_no_family_takes_more_than_no_time(terms):
    odd = Placed(places=[0], terms=np.array([terms]), features=np.zeros((1, 1)))
    us, spread = fit_kernels({"conv_int8_dense": timed(50)}).predict({"odd": odd})
    assert np.isfinite(us[0])
    assert us[0] >= LEAST_US
    assert spread[0] >= UNSEEN_SPREAD


def test_what_belongs_to_no_family_is_not_asked_what_each_kind_counts_in_its_own_way():
    """What was timed takes 1 us for each of an amount that only its kind counts; the other path has a million."""
    known, rng = timed(50), np.random.default_rng(0)
    terms = np.zeros((50, TERMS))
    terms[:, 0], terms[:, 2] = 1.0, rng.uniform(1e5, 1e7, 50)
    terms[:, 8] = rng.uniform(10, 100, 50)
    us = 1.0 + 1e-5 * terms[:, 2] + terms[:, 8]
    model = fit_kernels({"conv_plain_dense": replace(known, terms=terms, us=us)})
    odd = np.zeros((1, TERMS))
    odd[0, [0, 2, 8]] = 1.0, 1e6, 1e6
    said, spread = model.predict({"odd": Placed(places=[0], terms=odd, features=np.zeros((1, 1)))})
    assert 5 < said[0] < 200
    assert spread[0] == UNRELATED_SPREAD


def test_families_are_asked_from_the_closest_on():
    assert ancestors("conv_int8_odd_grouped") == ("conv_int8_odd", "conv_int8", "conv")
    assert ancestors("odd") == ()


def test_spreads_that_were_found_later_count():
    model = fit_kernels({"conv_plain_dense": timed(10), "move_Add": timed(10)}).with_spreads({"move_Add": 0.3})
    _, spread = model.predict(placed("move_Add", timed(1)) | placed("conv_plain_dense", timed(1), first=1))
    assert spread.tolist() == [0.3, 0.0]


def test_a_model_comes_back_from_json_and_says_the_same():
    model = fit_kernels({"conv_plain_dense": timed(60, step=2.0), "move_Add": timed(9)}, trees=3)
    back = KernelModel.from_data(json.loads(json.dumps(model.to_data())))
    new = timed(20, seed=1)
    for path in ("conv_plain_dense", "move_Add", "move_Mul"):
        for said, expected in zip(back.predict(placed(path, new)), model.predict(placed(path, new)), strict=True):
            np.testing.assert_array_equal(said, expected)
