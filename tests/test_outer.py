"""Few outer parameters become full recipes: the table's own allocation, and what turns it to and from techniques."""

import copy
from dataclasses import replace
from functools import cache
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_outer import UNIT_BYTES, WANTED, kept, lost, made_up_outer, setting_with

from autocompress.budget import Budget, Metric
from autocompress.commands import allocating
from autocompress.commands.allocating import limits_of, outer_under
from autocompress.events import Silence
from autocompress.measurement import ModelFacts
from autocompress.passes import Student
from autocompress.precision import Format
from autocompress.recipe import Base, Recipe, Recovery
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.allocation.choices import Choice, values_of
from autocompress.search.allocation.uniform_selections import at_random, uniforms
from autocompress.search.candidates.draw import Sizes, counted
from autocompress.search.goal import Goal
from autocompress.search.outer import PARTS, STAND_IN_AIMS, WIDE_AIM, parts_of
from autocompress.search.outer_start import enqueue_outer
from autocompress.search.setting import Costed
from autocompress.search.student_arms import DRAWS, StudentArms
from autocompress.students.family import Architecture


def outer_at(share: float, wanted: tuple[Choice, ...] = WANTED):
    whole = made_up_outer({}, wanted)
    units = len(whole.allocator.choices)
    return made_up_outer({Metric.SIZE: share * units * UNIT_BYTES * 1.02}, wanted)


def chosen(outer, picks) -> list[Choice]:
    return [row[at] for row, at in zip(outer.allocator.choices, picks, strict=True)]


def size_of(outer, picks) -> float:
    return sum(UNIT_BYTES * kept(choice) for choice in chosen(outer, picks))


def test_there_are_at_most_twenty_parameters():
    assert 3 <= len(made_up_outer({Metric.SIZE: 1.0, Metric.LATENCY: 1.0, Metric.MACS: 1.0}).knobs()) <= 20


def test_neutral_parameters_give_the_selection_that_loses_least_by_the_table():
    outer = outer_at(0.5)
    found = outer.allocation(outer.neutral())
    assert size_of(outer, found.picks) <= outer.limits[Metric.SIZE]
    loss = sum(map(lost, chosen(outer, found.picks)))
    every = product(*(range(len(row)) for row in outer.allocator.choices))
    fitting = [picks for picks in every if size_of(outer, picks) <= outer.limits[Metric.SIZE]]
    assert loss == pytest.approx(min(sum(map(lost, chosen(outer, picks))) for picks in fitting))


def test_a_dear_technique_is_used_less():
    outer = outer_at(0.7, tuple(choice for choice in WANTED if choice.precision is not Format.INT8))
    neutral = outer.neutral()

    def dropped(weight: float) -> int:
        found = outer.allocation({**neutral, "part.drop_blocks": weight})
        return sum(choice.drop for choice in chosen(outer, found.picks))

    assert dropped(1.0) < dropped(-1.0)


def test_a_smaller_aim_leaves_more_of_the_limit():
    outer = outer_at(0.6)
    sizes = [
        size_of(outer, outer.allocation({**outer.neutral(), "aim.size": aim}).picks) / outer.limits[Metric.SIZE]
        for aim in (1.0, 0.8)
    ]
    assert sizes[1] <= 0.8 < sizes[0]


def test_parameters_that_mean_a_recipe_again_get_one_beside_it():
    outer = outer_at(0.3)
    recipes = [outer.recipe(outer.neutral()) for _ in range(3)]
    assert len({recipe.structure_digest() for recipe in recipes}) > 1


def test_what_cannot_be_met_gives_no_recipe():
    outer = made_up_outer({Metric.SIZE: 1e-6})
    assert outer.recipe(outer.neutral()) is None
    assert at_random(outer.allocator, outer.limits, 0) is None
    assert uniforms(outer.allocator, outer.limits, 3) == []


def test_blocks_share_weights_where_the_space_has_that_and_what_it_spares_is_spent():
    whole = made_up_outer({}, name="deep residual")
    outer = made_up_outer({Metric.SIZE: 0.3 * len(whole.allocator.choices) * UNIT_BYTES}, name="deep residual")
    (knob,) = [knob for knob in outer.knobs() if knob.name == "tie"]
    assert outer.neutral()["tie"] == knob.choices[0] == "none"
    recipe = outer.recipe(outer.neutral() | {"tie": "2"})
    assert recipe.settings_of("share_layers")["groups"]
    chosen_size, limit = size_of(outer, outer.known(recipe)[0]), outer.limits[Metric.SIZE]
    assert chosen_size > size_of(outer, outer.allocation(outer.neutral()).picks)
    shared = outer.builder.steps(values_of(dict(enumerate(chosen(outer, outer.known(recipe)[0])))) | {"tie": "2"})
    assert chosen_size * (1 - shared.tied_share) <= limit < chosen_size
    picks = np.array([outer.known(recipe)[0]])
    before = outer.allocator.model.costs(picks)
    outer.learn_costs([(recipe, made(outer, recipe, 0.1))])
    np.testing.assert_array_equal(outer.allocator.model.costs(picks), before)


def test_uniform_selections_fit_and_come_by_their_loss():
    outer = outer_at(0.5)
    found = uniforms(outer.allocator, outer.limits, 4)
    losses = [sum(map(lost, chosen(outer, picks))) for picks in found]
    assert found
    assert losses == sorted(losses)
    assert all(size_of(outer, picks) <= outer.limits[Metric.SIZE] for picks in found)


def test_a_forbidden_part_is_in_no_choice():
    outer = outer_at(0.6)
    found = outer.allocation(outer.neutral(), without="prune_channels")
    assert all(choice.prune == 0 for choice in chosen(outer, found.picks))


def test_files_that_are_larger_than_calculated_make_later_recipes_smaller():
    outer = outer_at(0.5)
    before = size_of(outer, outer.allocation(outer.neutral()).picks)
    recipes = outer.samples(4)
    outer.learn_costs([(recipe, made(outer, recipe, 1.5)) for recipe in recipes])
    assert size_of(outer, outer.allocation(outer.neutral()).picks) < 0.8 * before


def test_what_is_only_predicted_corrects_no_costs():
    outer = outer_at(0.5)
    recipe = outer.samples(1)[0]
    picks = np.array([outer.known(recipe)[0]])
    before = outer.allocator.model.costs(picks)[0, 0]
    facts = (
        made(outer, recipe, 1.0).model_copy(update={"latency_ms": None}).with_prediction(before, (0.5 * before, 9.0))
    )
    outer.learn_costs([(recipe, facts)])
    assert outer.allocator.model.costs(picks)[0, 0] == before


def test_a_search_that_goes_on_knows_what_the_files_of_the_session_before_took():
    before, after = outer_at(0.5), outer_at(0.5)
    records = tuple(record_of(before, recipe) for recipe in before.samples(4))

    after.learn([TrialRecord.from_json(record.to_json()) for record in records])

    wanted = after.neutral()
    assert size_of(after, after.allocation(wanted).picks) < 0.8 * size_of(before, before.allocation(wanted).picks)
    assert after.known(records[0].recipe)[0] == records[0].picks
    nowhere = records[0].model_copy(update={"picks": (99,) * len(records[0].picks)})
    elsewhere = records[0].model_copy(update={"picks": records[-1].picks})
    assert elsewhere.picks != records[0].picks
    for unknown in (nowhere, elsewhere):  # of a session whose units had other choices
        other = outer_at(0.5)
        other.learn([unknown])
        assert other.known(unknown.recipe) is None


def record_of(outer, recipe) -> TrialRecord:
    """Of a file that takes half as much again as was calculated."""
    return TrialRecord(
        number=0, kind=TrialKind.SEARCH, state=TrialState.COMPLETE, summary="", recipe=recipe,
        facts=made(outer, recipe, 1.5), picks=outer.known(recipe)[0],
    )  # fmt: skip


def made(outer, recipe, off: float) -> ModelFacts:
    picks, _ = outer.known(recipe)
    size = off * size_of(outer, picks)
    return ModelFacts(size_bytes=round(size), macs=1, params=1, latency_ms=size / 1000)


def test_parts_are_the_passes_and_few_bits():
    assert parts_of(Choice(prune=0.5, precision=Format.INT4)) == {"prune_channels", "few_bits"}
    assert parts_of(Choice(drop=True)) == {"drop_blocks"}
    assert parts_of(Choice(precision=Format.INT8)) == frozenset()
    assert parts_of(Choice(codebook=2, rank=0.5)) <= set(PARTS)


# Students


SIZES = Sizes(shape=(6,), n_outputs=3, channel_block=8)


@cache
def drawn_arms() -> StudentArms:
    students = StudentArms(
        families=("mlp",), sizes=SIZES, base=Base(model="m"), recovery=Recovery(steps=5), seed=0,
        precision=Format.INT8, ms_a_rough=1.0,
    )  # fmt: skip
    students.members("mlp")
    return students


def arms() -> StudentArms:
    """With the members that are drawn once, and nothing learned."""
    return copy.deepcopy(drawn_arms())


def test_students_are_the_largest_that_should_meet_the_limits():
    students = arms()
    all_ = sorted(each.params for each in students.members("mlp"))
    limit = all_[len(all_) // 2]
    found = [students.recipe("mlp", int(draw), {Metric.PARAMS: limit}) for draw in DRAWS]
    params = [counted(Architecture.model_validate(recipe.settings_of(Student.name)), SIZES).params for recipe in found]
    assert max(params) <= limit
    assert params[0] == max(each for each in all_ if each <= limit)
    assert [step.name for step in found[0].passes] == ["student", "quantize"]


def test_there_is_no_student_within_an_impossible_limit():
    assert arms().recipe("mlp", 0, {Metric.PARAMS: 1}) is None


def test_slow_students_make_later_ones_smaller():
    limits = {Metric.LATENCY: float(np.median([each.rough_ms for each in arms().members("mlp")]))}
    learned, first = arms(), arms().recipe("mlp", 0, limits)
    learned.learn([(first, ModelFacts(size_bytes=1, macs=1, params=1, latency_ms=100 * limits[Metric.LATENCY]))])
    second = learned.recipe("mlp", 0, limits)
    sizes = [
        0 if each is None else counted(Architecture.model_validate(each.settings_of(Student.name)), SIZES).params
        for each in (first, second)
    ]
    assert sizes[1] < sizes[0]


def test_a_student_that_is_only_predicted_counts_with_the_middle():
    students = arms()
    facts = ModelFacts(size_bytes=1, macs=1, params=1)
    measured, predicted = (students.recipe("mlp", draw, {}) for draw in (0, 1))
    students.learn([(measured, facts.model_copy(update={"latency_ms": 3.0}).with_prediction(5.0, (4.0, 6.0)))])
    students.learn([(predicted, facts.with_prediction(5.0, (1.0, 90.0)))])
    assert [ms for _, ms in students.known] == [3.0, 5.0]


@pytest.mark.parametrize("knob", ["student", "family", "draw"])
def test_students_bring_their_own_parameters(knob):
    outer = made_up_outer({Metric.SIZE: 1e9})
    assert knob not in {each.name for each in outer.knobs()}
    outer.students = arms()
    assert knob in {each.name for each in outer.knobs()}
    values = {**outer.neutral(), "student": 1.0}
    assert outer.recipe(values).settings_of(Student.name)["family"] == "mlp"


ORIGINAL = ModelFacts(size_bytes=1000, macs=50, params=40, latency_ms=10.0, peak_ram_bytes=4000, accuracy_val=0.9)


@pytest.mark.parametrize(
    ("budget", "limits"),
    [
        ("ram<=50%", {Metric.SIZE: 500}),
        ("ram<=1kB,latency<=5ms", {Metric.LATENCY: 5, Metric.SIZE: 250}),
        ("ram<=50%,size<=300B", {Metric.SIZE: 300}),
        ("ram<=5kB", {}),  # the original's
        ("accuracy>=0.8", {Metric.SIZE: 1000}),
    ],
)
def test_ram_is_steered_by_size(budget, limits):
    goal = Goal(budget=Budget.parse(budget), baseline=ORIGINAL, minimize=Metric.RAM)
    assert limits_of(goal) == limits


def test_a_size_that_stands_in_for_ram_may_go_far_below_its_limit_and_others_may_not(monkeypatch):
    monkeypatch.setattr(allocating, "_measure_first", lambda *_: None)
    outer = replace(made_up_outer({}), original_accuracy=0.9)
    notes = []
    setting = setting_with(outer, "latency<=90ms")
    baseline = setting.goal.baseline.model_copy(update={"peak_ram_bytes": 4 * 10**6})
    goal = Goal(budget=Budget.parse("latency<=90ms,ram<=50%"), baseline=baseline)
    watched = Silence()
    watched.note = notes.append
    found = outer_under(outer, replace(setting, goal=goal, observer=watched), limit_s=1.0, each_s=1.0)
    ranges = {knob.name: knob.range for knob in found.knobs() if knob.kind == "aim"}
    assert ranges["aim.size"] == WIDE_AIM
    assert ranges["aim.latency"].low > WIDE_AIM.low
    assert found.neutral()["aim.size"] == STAND_IN_AIMS[0]
    assert found.neutral()["aim.latency"] == 1.0
    assert [note for note in notes if "steers it by size" in note]


@pytest.mark.parametrize(
    ("limit_s", "expected_s", "takes_s", "built"),
    [
        (100.0, 1.0, 1.0, [4, 4]),
        (100.0, 25.0, 1.0, [4, 4]),
        (100.0, 40.0, 20.0, [2, 3]),
        (100.0, 40.0, 60.0, [2]),
        (100.0, 101.0, 1.0, []),
        (0.0, 1.0, 1.0, []),
    ],
)
def test_as_many_files_correct_the_costs_as_there_is_time_for(monkeypatch, limit_s, expected_s, takes_s, built):
    asked: list[int] = []
    notes: list[str] = []
    monkeypatch.setattr(allocating, "time", SimpleNamespace(monotonic=lambda: 7.0 + takes_s * sum(asked)))
    costs: list[tuple[Recipe, str]] = []
    recipes = [Recipe(recovery=Recovery(steps=steps)) for steps in range(4)]
    outer = SimpleNamespace(samples=lambda count: asked.append(count) or recipes[:count], learn_costs=costs.extend)
    setting = SimpleNamespace(
        cost=lambda these, *_, always: Costed(facts={key: "facts" for key in these if key in always})
    )
    setting.observer = SimpleNamespace(note=notes.append)
    allocating._measure_first(outer, setting, limit_s, expected_s)
    assert bool(notes) is (built == [])
    assert asked == built
    assert costs == [(recipe, "facts") for count in built for recipe in recipes[:count]]


@pytest.mark.parametrize(("stand_ins", "aims"), [({Metric.SIZE}, [*STAND_IN_AIMS[1:]]), (set(), [])])
def test_a_search_begins_with_the_tables_allocation_once_at_each_aim(stand_ins, aims):
    outer = replace(outer_at(0.6), stand_ins=frozenset(stand_ins))
    asked = []
    study = SimpleNamespace(enqueue=lambda values, control=None, recipe=None: asked.append((values, control, recipe)))
    enqueue_outer(study, outer, {}, [], seed=0)
    alone = [values["aim.size"] for values, control, recipe in asked if control is None and recipe is None]
    assert alone == aims


@pytest.mark.parametrize(("share", "tried"), [(0.0001, True), (0.5, False)])
def test_what_was_measured_to_fit_is_tried_where_no_allocation_does(share, tried):
    anchor, asked = Recipe(seed=77), []
    study = SimpleNamespace(enqueue=lambda _values, _name=None, recipe=None: asked.append(recipe))
    enqueue_outer(study, outer_at(share), {}, [anchor], seed=0)
    assert (anchor in asked) is tried
