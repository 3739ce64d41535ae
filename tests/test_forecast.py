"""Candidates' latencies are predicted from their files, and corrected by those that were measured."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from learned_profile import bytes_of_dense, graph_of_dense, predictor, us_of_dense

from autocompress.recipe import Recipe, Recovery
from autocompress.search.forecast import NORMAL_90, PRIOR, Forecaster, Met, corrected
from autocompress.target import Target

RECIPE = Recipe(passes=(), recovery=Recovery(steps=1))


def met(measured_ms: float, *, raw_ms: float = 1.0, spread: float = 0.05) -> Met:
    return Met(graph=graph_of_dense(64), raw_ms=raw_ms, spread=spread, predicted_ms=raw_ms, measured_ms=measured_ms)


def test_a_file_is_forecast_by_its_kernels():
    found = Forecaster(predictor(), Target()).of_files({7: bytes_of_dense(200)})
    expected = us_of_dense(200) / 1e3
    assert found[7].ms == pytest.approx(expected, rel=0.25)
    assert found[7].low_ms < found[7].ms < found[7].high_ms


def test_a_file_that_the_runtime_cannot_read_has_no_forecast():
    found = Forecaster(predictor(), Target()).of_files({1: b"no model", 2: bytes_of_dense(64)})
    assert list(found) == [2]


def test_without_templates_a_recipe_has_no_forecast():
    forecaster = Forecaster(predictor(), Target())
    forecaster.see(RECIPE, bytes_of_dense(64))
    assert forecaster.of_recipes([RECIPE, RECIPE]) == [None, None]


def test_recipes_whose_kernels_are_known_are_forecast_and_others_are_not():
    kernels = [[placed.kernel for placed in graph_of_dense(width).kernels] for width in (64, 320)]
    other = RECIPE.with_steps(2)
    known = {RECIPE.digest(): kernels[0], other.digest(): None, RECIPE.with_steps(3).digest(): kernels[1]}
    templates = SimpleNamespace(kernels=lambda recipe: known[recipe.digest()])
    found = Forecaster(predictor(), Target(), templates).of_recipes([RECIPE, other, RECIPE.with_steps(3)])
    assert found[1] is None
    assert found[0].ms < found[2].ms


def believed(measured_ms: list[float], **about: float) -> float:
    """The share of 20 % that files take more, by their median, of which a correction makes use."""
    plain = replace(predictor(), quantile=NORMAL_90)
    shift = math.log(corrected(plain, [met(each) for each in measured_ms], **about).scale / plain.scale)
    return shift / math.log(1.2)


def test_the_correction_is_the_median_of_what_was_off_as_far_as_that_is_no_chance():
    """What is common with deviation s, seen as the median of n with deviation d, is expected at s²/(s² + π/2 d²/n)."""
    plain = predictor()
    assert corrected(plain, []) is plain
    assert believed([1.2]) == pytest.approx(0.08**2 / (0.08**2 + math.pi / 2 * 0.05**2))
    assert believed([1.2], common=0.05) == pytest.approx(1 / (1 + math.pi / 2))
    assert 0.99 < believed([1.2] * 9 + [5.0]) < 1, "the others agree"
    assert believed([1.2] * 3) > believed([1.15, 1.2, 1.25]) > believed([1.0, 1.2, 1.44])


def test_what_is_far_beyond_chance_is_believed():
    assert believed([2.0]) * math.log(1.2) == pytest.approx(math.log(2.0), rel=0.02)


def test_files_that_agree_narrow_the_interval_and_files_that_stray_widen_it():
    plain = predictor()
    agreeing = corrected(plain, [met(1.0)] * 20)
    straying = corrected(plain, [met(1.0 * math.exp(sign * 5)) for sign in (-1, 1)] * 10)
    assert agreeing.quantile == pytest.approx(plain.quantile * PRIOR / (PRIOR + 20))
    assert straying.quantile > plain.quantile


def test_what_is_measured_shifts_later_forecasts_and_is_kept():
    kept = []
    forecaster = Forecaster(predictor(), Target(), keep=kept.extend)
    files = {width: bytes_of_dense(width) for width in (64, 128, 200, 320)}
    before = forecaster.of_files(files)
    forecaster.learn(files, {width: 2 * before[width].ms for width in (64, 128, 320)})
    after = forecaster.of_files(files)
    assert after[200].ms == pytest.approx(2 * before[200].ms, rel=0.02), "files that agree are believed"
    assert [each.measured_ms for each in kept] == [2 * before[width].ms for width in (64, 128, 320)]
    assert [each.predicted_ms for each in kept] == pytest.approx([before[width].ms for width in (64, 128, 320)])


def test_a_second_correction_starts_from_the_fit_again():
    """Else the same files would shift it twice."""
    forecaster = Forecaster(predictor(), Target())
    files = {64: bytes_of_dense(64)}
    ms = 2 * forecaster.of_files(files)[64].ms
    for _ in range(30):
        forecaster.learn(files, {64: ms})
    assert forecaster.of_files(files)[64].ms == pytest.approx(ms, rel=0.05)


class _Broken:
    """Templates with a bug."""

    def learn(self, *_):
        raise KeyError("a layer")

    def kernels(self, *_):
        raise IndexError("a context")


@pytest.mark.parametrize("use", ["learn", "ask"])
def test_templates_that_break_are_done_without(use, caplog):
    forecaster = Forecaster(predictor(), Target(), templates=_Broken())
    if use == "learn":
        forecaster.see(Recipe(), b"")
    else:
        assert forecaster.of_recipes([Recipe(), Recipe()]) == [None, None]
    assert forecaster.templates is None
    assert "candidates are built before they are forecast" in caplog.text
