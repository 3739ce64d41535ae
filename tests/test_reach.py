"""Before a budget is given up: the smallest structures are tried, and the search begins with those that fit."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_outer import UNIT_BYTES, made_up_outer, setting_with

from autocompress.budget import Metric
from autocompress.commands import allocating, reach
from autocompress.commands.reach import fitting_extremes, with_extremes
from autocompress.commands.survey import Extreme, Survey
from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.recipe import Recipe, Recovery
from autocompress.search.ladder import Ladder, Rung
from autocompress.search.setting import Costed
from autocompress.search.space import load_space

SMALLEST = 300  # bytes of the made-up file of the smallest selection


def facts(size: int) -> ModelFacts:
    return ModelFacts(size_bytes=size, macs=1, params=1, latency_ms=1.0)


def surveyed(limit: int, uniform: int) -> tuple[Survey, object]:
    """A network whose uniform recipes take ``uniform`` bytes, and its setting; files of selections are made up."""
    outer = made_up_outer({Metric.SIZE: float(limit)})
    plain = setting_with(outer, f"size<={limit}B")

    class Made(type(plain)):
        def cost(self, recipes, what, always=()):  # noqa: ARG002  # as the real one has it
            built.append(recipes)
            return Costed(facts=dict.fromkeys(recipes, facts(SMALLEST)))

    built: list[dict[int, Recipe]] = []
    setting = Made(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
    anatomy = anatomy_of(setting.bench.base, example_input(setting.bench.task.preprocess.shape), blocks=True)
    rung = Rung(values={}, ratio=0.5, precision=Format.INT8, recipe=Recipe(), facts=facts(uniform))
    ladder = Ladder(rungs=(rung,), seconds=0.0)
    builder = replace(setting.builder, anatomy=anatomy)
    found = Survey(
        bench=setting.bench, anatomy=anatomy, forecaster=None, goal=setting.goal, baseline_file=b"", ladder=ladder
    )
    return found, (replace(setting, builder=builder), built, outer)


@pytest.fixture
def by_formula(monkeypatch):
    """No file is made for the cost model."""
    model = made_up_outer({}).allocator.model

    def cost_model(bench, builder, choices, *_, **__):
        return replace(model, raw=_Fewest(), n_choices=[len(row) for row in choices], _met={})

    monkeypatch.setattr(reach, "cost_model", cost_model)
    monkeypatch.setattr(reach, "students_of", lambda *_: None)


class _Fewest:
    """The later a choice, the fewer its bytes."""

    def __call__(self, picks):
        size = UNIT_BYTES / (1.0 + picks).sum(axis=1)
        return np.stack([size, size, size, size], axis=1)


@pytest.mark.usefixtures("by_formula")
def test_where_a_uniform_recipe_fits_nothing_more_is_built():
    found, (setting, built, _) = surveyed(limit=400, uniform=350)
    assert with_extremes(found, setting) is found
    assert built == []


@pytest.mark.usefixtures("by_formula")
@pytest.mark.parametrize(("limit", "hopeless"), [(400, False), (200, True)])
def test_a_budget_is_given_up_only_when_the_smallest_selection_does_not_fit_either(limit, hopeless):
    found, (setting, built, _) = surveyed(limit, uniform=500)
    assert found.is_hopeless
    after = with_extremes(found, setting)
    assert after.is_hopeless is hopeless
    assert [each.facts.size_bytes for each in after.extremes] == [SMALLEST]
    assert len(built) == 1
    assert set(after.least.alone) == {Metric.SIZE}


def test_a_search_begins_with_the_smallest_structures_that_fit():
    outer = made_up_outer({Metric.SIZE: 400.0})
    found, (setting, *_) = surveyed(limit=400, uniform=500)
    picks = tuple(len(row) - 1 for row in outer.allocator.choices)
    found = replace(found, extremes=extremes_of(picks))
    (recipe,) = fitting_extremes(found, replace(setting, outer=outer))
    assert outer.known(recipe)[0] == picks


def test_a_short_search_begins_with_their_recipes_recovered_as_its_own_are():
    found, (setting, *_) = surveyed(limit=400, uniform=500)
    found = replace(found, extremes=extremes_of((0,)))
    builder = replace(setting.builder, recovery=Recovery(steps=7))
    (recipe,) = fitting_extremes(found, replace(setting, builder=builder, outer=None))
    assert recipe == Recipe(seed=1, recovery=Recovery(steps=7))


def extremes_of(picks: tuple[int, ...]) -> tuple[Extreme, ...]:
    """One that fits 400 bytes, one that does not, one that could not be built."""
    each = [Extreme(recipe=Recipe(seed=seed), picks=picks) for seed in (1, 2, 3)]
    return (replace(each[0], facts=facts(300)), replace(each[1], facts=facts(500)), each[2])


def unpruned(int8_ms: float, fp32_ms: float) -> Ladder:
    """The network in int8 and in fp32."""
    rungs = tuple(
        Rung(
            values={},
            ratio=0.0,
            precision=form,
            recipe=Recipe(),
            facts=facts(100).model_copy(update={"latency_ms": ms}),
        )
        for form, ms in ((Format.INT8, int8_ms), (Format.FP32, fp32_ms))
    )
    return Ladder(rungs=rungs, seconds=0.0)


@pytest.mark.parametrize(("int8_ms", "computes"), [(2.0, Format.INT8), (0.5, Format.INT8), (3.0, Format.FP32)])
def test_where_int8_is_slower_codebooks_and_students_are_computed_in_float(int8_ms, computes):
    found, (setting, _, _) = surveyed(limit=5_000, uniform=100)
    found = replace(found, ladder=unpruned(int8_ms, 2.5))
    builder = replace(setting.builder, space=load_space("default"))
    assert allocating.with_codebooks(builder, found.ladder).codebooks is computes
    students = allocating.students_of(replace(setting, builder=builder), found)
    assert students.precision is computes


def test_what_codebooks_compute_in_is_decided_once(tmp_path):
    _, (setting, _, _) = surveyed(limit=5_000, uniform=100)
    builder = replace(setting.builder, space=load_space("default"))
    for int8_ms in (3.0, 2.0):
        decided = allocating.with_codebooks(builder, unpruned(int8_ms, 2.5), tmp_path / "kept")
        assert decided.codebooks is Format.FP32
    assert allocating.with_codebooks(builder, unpruned(2.0, 2.5)).codebooks is Format.INT8
