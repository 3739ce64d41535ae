import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_search import made_up_setting

from autocompress.budget import Budget, Metric
from autocompress.errors import RunError
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.recipe import Recipe
from autocompress.search import ladder
from autocompress.search.goal import Goal
from autocompress.search.ladder import HALF, MARGIN, RATIOS, Ladder, Rung, climb
from autocompress.search.setting import Setting

BASELINE = ModelFacts(size_bytes=1000, macs=1000, params=1000, latency_ms=10.0)


def rung(ratio: float, latency: float, precision: Format = Format.INT8, size: int = 500, *, whole: bool = True) -> Rung:
    facts = ModelFacts(size_bytes=size, macs=1, params=1, latency_ms=latency)
    values = {"ratio": ratio, "precision": precision.value}
    return Rung(values=values, ratio=ratio, precision=precision, recipe=Recipe(), facts=facts, only_pruned=whole)


def ladder_of(*rungs: Rung) -> Ladder:
    return Ladder(rungs=rungs, seconds=1.0)


def goal_of(budget: str) -> Goal:
    return Goal(budget=Budget.parse(budget), baseline=BASELINE)


STEPS = ladder_of(
    rung(0.0, 8.0), rung(0.5, 4.0), rung(0.75, 2.0), rung(0.5, 0.1, Format.FP32), rung(0.0, 0.1, whole=False)
)


@pytest.mark.parametrize(
    ("limit_ms", "ratio"),
    [
        (9.0, 0.0),  # the mildest rung fits already
        (8.0, 0.0),
        (6.0, 0.265),  # 8 - 8 r = 0.98 * 6
        (5.0, 0.3875),
        (3.0, 0.6325),  # 4 - 8 (r - 0.5) = 0.98 * 3
        (2.0, 0.75),  # met by the last rung, though not by the margin
        (1.9, None),
    ],
)
def test_the_feasible_ratio_lies_on_the_line_between_rungs_a_little_under_the_limit(limit_ms, ratio):
    found = STEPS.feasible_ratio(goal_of(f"latency<={limit_ms}ms"), Format.INT8)
    assert found == (None if ratio is None else pytest.approx(ratio))
    assert MARGIN == 0.98


def test_other_precisions_and_reduced_ranks_are_no_rungs_of_this_line():
    assert STEPS.feasible_ratio(goal_of("latency<=0.1ms"), Format.FP32) == 0.5
    assert STEPS.feasible_ratio(goal_of("latency<=0.1ms"), Format.INT8) is None
    assert ladder_of().feasible_ratio(goal_of("latency<=0.1ms"), Format.INT8) is None


def test_the_limit_that_is_hardest_to_meet_decides():
    found = ladder_of(rung(0.0, 8.0, size=800), rung(1.0, 2.0, size=400))
    assert found.feasible_ratio(goal_of("latency<=9ms,size<=600B"), Format.INT8) == pytest.approx((800 - 588) / 400)


def test_without_cost_limits_nothing_need_be_pruned():
    assert STEPS.feasible_ratio(goal_of("accuracy>=0.9"), Format.INT8) == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 0.95), st.floats(0.1, 20)), min_size=1, max_size=6, unique_by=lambda pair: pair[0]),
    st.floats(0.1, 20),
)
def test_the_feasible_ratio_lies_within_the_ladder_and_exists_where_a_rung_fits(pairs, limit_ms):
    """Whatever noise has made of the measured times."""
    found = ladder_of(*(rung(ratio, latency) for ratio, latency in pairs))
    goal = goal_of(f"latency<={limit_ms}ms")
    ratio = found.feasible_ratio(goal, Format.INT8)
    fits = any(goal.within_costs(each.facts) for each in found.rungs)
    assert (ratio is not None) is fits
    if ratio is not None:
        ratios = [pair[0] for pair in pairs]
        assert min(ratios) <= ratio <= max(ratios)


def test_int8_pays_where_it_is_faster_than_fp32_unpruned_and_whole():
    assert ladder_of(rung(0.0, 2.0), rung(0.0, 3.0, Format.FP32)).int8_pays() is True
    assert ladder_of(rung(0.0, 3.0), rung(0.0, 2.0, Format.FP32)).int8_pays() is False
    assert ladder_of(rung(0.0, 3.0), rung(0.5, 2.0, Format.FP32)).int8_pays() is None
    assert ladder_of(rung(0.0, 2.0), rung(0.0, 3.0, Format.FP32, whole=False)).int8_pays() is None


def test_reachable_is_the_least_over_all_rungs():
    assert STEPS.reachable(Metric.LATENCY) == 0.1
    assert STEPS.reachable(Metric.SIZE) == 500
    assert STEPS.reachable(Metric.RAM) is None


def test_the_nearest_rung_misses_its_worst_limit_by_least():
    slow, large = rung(0.0, 8.0, size=100), rung(0.5, 1.0, size=900)
    found = ladder_of(slow, large)
    assert found.nearest(goal_of("latency<=2ms,size<=500B")) is large
    assert found.nearest(goal_of("latency<=6ms,size<=50B")) is slow


def test_anchors_are_the_mildest_fitting_rung_of_each_kind():
    mild, strong, floats = rung(0.25, 4.0), rung(0.5, 1.0), rung(0.5, 4.5, Format.FP32)
    thin = rung(0.0, 3.0, whole=False)
    found = ladder_of(rung(0.0, 8.0), strong, mild, floats, thin)
    anchors = found.anchors(goal_of("latency<=5ms"))
    assert [id(each) for each in anchors] == [id(mild), id(floats), id(thin)]
    assert found.anchors(goal_of("latency<=1us")) == []


def test_climbing_measures_distinct_uniform_recipes_from_mildest_to_strongest():
    setting = made_up_setting("latency<=5ms")
    ladder = climb(setting)
    digests = [each.recipe.structure_digest() for each in ladder.rungs]
    assert len(set(digests)) == len(digests)
    whole = [each for each in ladder.rungs if each.only_pruned]
    ratios = {each.ratio for each in whole if each.precision is Format.INT8}
    assert ratios == {min(ratio, 0.85) for ratio in RATIOS}
    assert {each.ratio for each in whole if each.precision is Format.FP32} == {0.0, 0.85}
    assert {each.ratio for each in ladder.rungs if not each.only_pruned} == {0.0, 0.85}
    for each in ladder.rungs:
        assert each.recipe == setting.builder.recipe(each.values)
        assert each.facts.latency_ms is not None


def test_short_of_time_the_mildest_and_the_strongest_are_climbed(monkeypatch):
    setting, whole = made_up_setting("latency<=5ms"), climb(made_up_setting("latency<=5ms")).rungs
    seconds, notes = [0.0], []
    monkeypatch.setattr(ladder.time, "monotonic", lambda: seconds[0])
    cost = Setting.cost

    def slow(self, recipes, what, always=()):
        seconds[0] += 5.0 * len(recipes)
        return cost(self, recipes, what, always)

    monkeypatch.setattr(Setting, "cost", slow)
    monkeypatch.setattr(setting.observer, "note", notes.append, raising=False)
    few = climb(setting, limit_s=9.0).rungs
    assert [each.recipe for each in few] == [whole[0].recipe, whole[-2].recipe]
    assert whole[-2].ratio == max(each.ratio for each in whole)
    assert notes == [f"2 of {len(whole)} uniform recipes were built; for more, give more --time"]
    assert len(climb(setting, limit_s=26.0).rungs) == 5
    assert [each.recipe for each in climb(setting, limit_s=1e3).rungs] == [each.recipe for each in whole]


def test_the_strongest_of_every_other_technique_is_measured_alone_and_with_pruning():
    rungs = climb(made_up_setting("size<=5%", space="everything")).rungs
    for ratio in (0.0, 0.85):
        names = {step.name for each in rungs if each.ratio == ratio for step in each.recipe.passes}
        assert {"drop_blocks", "prune_weights", "share_weights"} <= names
    assert not any(each.recipe.settings_of("share_weights") for each in rungs if each.only_pruned)


@pytest.mark.parametrize("technique", ["drop_blocks", "prune_weights", "share_weights"])
def test_a_space_of_one_technique_reaches_as_far_as_that_goes(technique):
    rungs = climb(made_up_setting("size<=5%", space="everything", techniques=(technique,))).rungs
    assert [[step.name for step in each.recipe.passes] for each in rungs] == [[], [technique]]


def test_a_recipe_that_cannot_be_exported_is_no_rung():
    setting = made_up_setting("latency<=5ms", fails=lambda recipe: bool(recipe.settings_of("prune_channels")))
    assert {each.ratio for each in climb(setting).rungs} == {0.0}


def test_where_nothing_can_be_exported_the_first_cause_is_given():
    setting = made_up_setting("latency<=5ms", fails=lambda _: True)
    with pytest.raises(RunError, match="no recipe could be exported; the first cause: made to fail"):
        climb(setting)


def test_where_no_cost_is_limited_half_of_the_channels_is_where_to_look():
    setting = made_up_setting("accuracy>=0.5")
    starts = climb(setting).starts(setting.goal, setting.builder)
    assert starts == [setting.builder.uniform(HALF, precision) for precision in (Format.INT8, Format.FP32)]


def test_starts_are_the_mildest_uniform_recipes_that_should_fit():
    setting = made_up_setting("size<=50%")
    ladder = climb(setting)
    starts = ladder.starts(setting.goal, setting.builder)
    formats = (Format.INT8, Format.FP32)
    expected = [ladder.feasible_ratio(setting.goal, precision) for precision in formats]
    assert None not in expected
    assert starts == [
        setting.builder.uniform(ratio, precision) for ratio, precision in zip(expected, formats, strict=True)
    ]
