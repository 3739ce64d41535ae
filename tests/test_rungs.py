"""A recovery cut into rungs."""

import pytest
import torch
from tiny_runs import tiny_bench

from autocompress import trial
from autocompress.errors import RunError
from autocompress.recipe import Distill, PassStep, Recipe, Recovery
from autocompress.rungs import LEAST_STEPS, keep_state, run_rung, rungs_of
from autocompress.trial import Bench, make_model, run_trial

RECIPE = Recipe(
    passes=(
        PassStep(name="prune_channels", settings={"ratios": {"down": 0.5}}),
        PassStep(name="prune_weights", settings={"layers": {"block.conv1": {"sparsity": 0.5}}}),
        PassStep(name="quantize"),
    ),
    recovery=Recovery(steps=90, batch=8),
)
FIRST, SECOND, LAST = rungs_of(90)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return tiny_bench()


def weights_of(state) -> list[torch.Tensor]:
    return [value.clone() for value in state.composed.model.state_dict().values()]


def test_rungs_follow_each_other_and_each_is_three_times_as_far_as_the_one_before():
    assert [(rung.number, rung.first, rung.last) for rung in (FIRST, SECOND, LAST)] == [
        (1, 0, 10), (2, 10, 30), (3, 30, 90),
    ]  # fmt: skip
    assert [rung.is_final for rung in (FIRST, SECOND, LAST)] == [False, False, True]


@pytest.mark.parametrize("steps", [0, 1, 9, 29, 31, 89, 90, 1000])
def test_rungs_cover_all_steps_and_none_is_too_short_to_say_anything(steps):
    rungs = rungs_of(steps)
    assert [rung.first for rung in rungs] == [0, *(rung.last for rung in rungs[:-1])]
    assert rungs[-1].last == steps
    assert all(rung.last >= LEAST_STEPS for rung in rungs[:-1])


def test_a_recovery_of_one_rung_is_the_recovery_without_any(bench):
    recipe = RECIPE.with_steps(5)
    made, _ = run_rung(bench, recipe, None, rungs_of(5)[0], threads=1)
    whole = run_trial(bench, recipe, threads=1)
    assert (made.file, made.facts, made.steps) == (whole.file, whole.facts, 5)


def test_a_rung_goes_on_in_the_stream_where_the_one_before_ended(bench, monkeypatch):
    visited, recover = [], trial.recover

    def watched(*given, first, **others):
        visited.append((first, given[2].steps))
        return recover(*given, first=first, **others)

    monkeypatch.setattr(trial, "recover", watched)
    _, state = run_rung(bench, RECIPE, None, FIRST, threads=1)
    run_rung(bench, RECIPE, state, SECOND, threads=1)
    assert visited == [(0, 10), (10, 20)]


def test_constraints_hold_through_rungs_and_accuracy_is_that_of_the_file(bench):
    _, state = run_rung(bench, RECIPE, None, FIRST, threads=1)
    before = weights_of(state)
    made, after = run_rung(bench, RECIPE, state, SECOND, threads=1)
    weight = after.composed.model.get_parameter("block.conv1.weight")
    assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert any(not torch.equal(one, other) for one, other in zip(before, weights_of(after), strict=True))
    assert made.facts.accuracy_val is not None
    assert made.facts.size_bytes == len(made.file)


def test_a_state_that_was_kept_goes_on_as_if_it_had_not_left(bench, tmp_path):
    path = tmp_path / "1-1.safetensors"
    _, state = run_rung(bench, RECIPE, None, FIRST, threads=1)
    keep_state(state, path)
    kept, _ = run_rung(bench, RECIPE, path, SECOND, threads=1)
    carried, _ = run_rung(bench, RECIPE, state, SECOND, threads=1)
    assert kept.file == carried.file
    assert kept.steps == 30


def test_a_kept_state_of_another_network_is_refused(bench, tmp_path):
    path = tmp_path / "1-1.safetensors"
    _, state = run_rung(bench, RECIPE, None, FIRST, threads=1)
    keep_state(state, path)
    with pytest.raises(RunError, match=r"a kept rung must hold the weights of its recipe's network, .*1-1.* does not"):
        run_rung(bench, Recipe(recovery=RECIPE.recovery), path, SECOND, threads=1)


def test_a_rung_whose_time_is_up_ends_its_schedule_and_says_how_far_it_came(bench):
    labels = Recovery(steps=10**6, batch=8, distill=Distill(logits=0))
    (rung,) = rungs_of(labels.steps, units=(1,))
    made, state = run_rung(bench, Recipe(recovery=labels), None, rung, threads=1, limit_s=0.1)
    assert 0 < made.steps < 10**5
    assert state.steps == made.steps


def test_time_that_is_not_up_changes_nothing(bench):
    recipe = RECIPE.with_steps(4)
    assert make_model(bench, recipe, threads=1, limit_s=1e6).file == make_model(bench, recipe, threads=1).file
