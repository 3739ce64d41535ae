from dataclasses import replace
from pathlib import Path

import pytest
from made_up_forecasts import ForecastingCosting, MadeUpForecaster
from made_up_search import MadeUpLauncher, facts_of, latency_ms, made_up_setting
from threadpoolctl import threadpool_info, threadpool_limits

from autocompress.budget import Metric
from autocompress.clock import Clock
from autocompress.errors import RunError
from autocompress.events import Silence
from autocompress.recipe import Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.ladder import climb
from autocompress.search.launcher import Work
from autocompress.search.loop import SEEDS, Search, first_guesses
from autocompress.search.session import BARREN_BUILDS
from autocompress.search.setting import Setting
from autocompress.search.study import POPULATION, Sampler, Study

TIGHT = "latency<=3ms,size<=20kB"


def search_in(
    folder: Path,
    setting: Setting,
    *,
    time_s: float = 600.0,
    trials: int | None = 6,
    sampler: Sampler = Sampler.SURROGATE,
) -> Search:
    study = Study(
        folder / "study.journal",
        setting.builder.knobs(),
        seed=0,
        minimize=setting.goal.minimizes_cost,
        startup=4,
        sampler=sampler,
    )
    return Search(setting=setting, study=study, clock=Clock(time_s), most_trials=trials)


def launcher_of(setting: Setting) -> MadeUpLauncher:
    assert isinstance(setting.launcher, MadeUpLauncher)
    return setting.launcher


def trained(setting: Setting) -> list[Recipe]:
    return [job.recipe for job in launcher_of(setting).jobs if job.work is Work.RUNG]


def ended(records: tuple[TrialRecord, ...], state: TrialState) -> list[TrialRecord]:
    return [record for record in records if record.state is state]


def test_small_matrices_take_one_thread_beside_the_workers(tmp_path):
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    class Watched(MadeUpLauncher):
        def submit(self, bench, job):
            seen.append(threads())
            super().submit(bench, job)

    seen: list[set[int]] = []
    setting = replace(made_up_setting("latency<=9ms"), launcher=Watched())
    with threadpool_limits(limits=2, user_api="blas"):
        search_in(tmp_path, setting, trials=1).run()
        assert threads() == {2}
    assert seen
    assert set().union(*seen) == {1}


def test_as_many_candidates_are_trained_as_were_asked_for_controls_apart(tmp_path):
    setting = made_up_setting("latency<=9ms")
    search = search_in(tmp_path, setting, trials=5)
    search.study.enqueue(setting.builder.uniform(0.0), "uniform int8")
    records = search.run()
    complete = ended(records, TrialState.COMPLETE)
    assert [record.kind for record in complete].count(TrialKind.SEARCH) == 5
    assert [record.control for record in complete].count("uniform int8") == 1


@pytest.mark.parametrize("sampler", Sampler)
def test_every_sampler_searches_beside_controls_and_what_breaks_the_costs(tmp_path, sampler):
    setting = made_up_setting("latency<=6ms,size<=50kB")
    search = search_in(tmp_path, setting, trials=2 * POPULATION, sampler=sampler)
    search.study.enqueue(setting.builder.uniform(0.0), "uniform int8")
    search.study.enqueue(setting.builder.uniform(0.5), recipe=setting.builder.recipe(setting.builder.uniform(0.5)))
    records = search.run()
    assert sum(record.kind is TrialKind.SEARCH for record in ended(records, TrialState.COMPLETE)) == 2 * POPULATION
    searched = [record for record in records if record.kind is TrialKind.SEARCH]
    assert len({record.recipe.structure_digest() for record in searched}) == len(searched)
    first, last = searched[:POPULATION], searched[-POPULATION:]
    if sampler is not Sampler.RANDOM:  # which takes no notice of what it is told
        assert sum(not record.within_budget for record in last) < sum(not record.within_budget for record in first)


def test_what_breaks_the_costs_is_told_as_pruned_and_never_trained(tmp_path):
    setting = made_up_setting(TIGHT)
    records = search_in(tmp_path, setting).run()
    pruned, complete = ended(records, TrialState.PRUNED), ended(records, TrialState.COMPLETE)
    assert pruned
    assert complete
    assert {record.within_budget for record in pruned} == {False}
    assert {record.within_budget for record in complete} == {True}
    assert [record.recipe for record in complete] == trained(setting)


def test_a_control_is_trained_even_where_it_breaks_the_costs(tmp_path):
    setting = made_up_setting(TIGHT)
    search = search_in(tmp_path, setting, trials=1)
    search.study.enqueue(setting.builder.uniform(0.0), "uniform int8")
    control = next(record for record in search.run() if record.control)
    assert (control.state, control.within_budget) == (TrialState.COMPLETE, False)
    assert control.facts.accuracy_val is not None


def test_records_hold_the_measured_costs_of_the_structure_and_the_accuracy_of_the_trained_file(tmp_path):
    for record in ended(search_in(tmp_path, made_up_setting(TIGHT)).run(), TrialState.COMPLETE):
        judged = facts_of(record.recipe, judged=True)
        assert record.facts == judged.model_copy(update={"latency_ms": latency_ms(record.recipe)})
        assert record.seconds == pytest.approx(0.5)  # a quarter for the structure, one for the training


def test_no_structure_is_tried_twice_and_a_space_that_is_used_up_ends_the_search(tmp_path):
    """Two stages in two precisions are four recipes; the sampler goes on asking for them."""
    records = search_in(tmp_path, made_up_setting("size<=100MB", techniques=("quantize",)), trials=9).run()
    assert len({record.recipe.structure_digest() for record in records}) == len(records) == 4


def test_a_failing_candidate_ends_alone_with_its_error(tmp_path):
    def fails(recipe: Recipe) -> bool:
        return bool(recipe.settings_of("factorize"))

    setting = made_up_setting("latency<=9ms", fails=fails)
    search = search_in(tmp_path, setting, trials=8)
    search.study.enqueue(setting.builder.uniform(0.5))
    records = search.run()
    failed = ended(records, TrialState.FAILED)
    assert {record.error for record in failed} == {"made to fail"}
    assert all(fails(record.recipe) for record in failed)
    assert not any(fails(record.recipe) for record in ended(records, TrialState.COMPLETE))


def test_when_every_trial_fails_the_run_ends_with_the_first_cause(tmp_path):
    setting = made_up_setting(TIGHT, fails=lambda _: True)
    with pytest.raises(RunError, match=r"every trial failed; the first cause:\nmade to fail"):
        search_in(tmp_path, setting, trials=3).run()


def test_when_all_that_fits_fails_in_training_the_run_does_not_pass_for_infeasible(tmp_path):
    setting = made_up_setting(TIGHT, fails=lambda _: True, fails_in=(Work.RUNG,))
    with pytest.raises(RunError, match="every trial failed; the first cause:\nmade to fail"):
        search_in(tmp_path, setting, trials=3).run()
    states = {record.state for record in search_in(tmp_path, setting).study.records()}
    assert states == {TrialState.FAILED, TrialState.PRUNED}


def test_where_costs_rule_out_all_that_can_be_built_the_search_ends_properly(tmp_path):
    setting = made_up_setting("latency<=1us", fails=lambda recipe: bool(recipe.settings_of("factorize")))
    search = search_in(tmp_path, setting, trials=None)
    search.study.enqueue(setting.builder.uniform(0.0))  # can be built; hardly any that is drawn can
    assert {record.state for record in search.run()} == {TrialState.FAILED, TrialState.PRUNED}


def test_a_budget_that_nothing_meets_ends_after_a_bounded_number_of_rounds_without_training(tmp_path):
    setting = made_up_setting("latency<=1us")
    records = search_in(tmp_path, setting, trials=None).run()
    assert ended(records, TrialState.PRUNED) == list(records)
    assert len(records) <= BARREN_BUILDS + 8
    assert trained(setting) == []


def test_at_least_one_round_is_done_however_little_time_there_is(tmp_path):
    assert search_in(tmp_path, made_up_setting("latency<=9ms"), time_s=1e-3, trials=None).run()


def test_the_search_ends_when_finishing_needs_the_rest_of_the_time(tmp_path):
    setting = made_up_setting("latency<=9ms")
    search = search_in(tmp_path, setting, time_s=1.0, trials=None)
    search.run()
    assert search.clock.search_left_s < 0.5
    assert search.clock.left_s > 0


def test_a_resumed_search_goes_on_from_the_records_of_the_first(tmp_path):
    first = search_in(tmp_path, made_up_setting(TIGHT), trials=3).run()
    setting = made_up_setting(TIGHT)
    both = search_in(tmp_path, setting, trials=6).run()
    assert {record.number: record for record in first}.items() <= {record.number: record for record in both}.items()
    assert len(trained(setting)) == 3
    digests = [record.recipe.structure_digest() for record in both]
    assert len(set(digests)) == len(digests)


def test_ctrl_c_in_the_middle_of_training_loses_no_finished_trial(tmp_path):
    """What was in work is asked for again by the next session."""
    setting = made_up_setting("latency<=9ms")
    launcher, trained_before = launcher_of(setting), []
    next_done = launcher.next_done

    def interrupted():
        trained_before.append(launcher.waiting[0].work is Work.RUNG)
        if sum(trained_before) > 2:
            raise KeyboardInterrupt
        return next_done()

    launcher.next_done = interrupted
    search = search_in(tmp_path, setting, trials=6)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    finished = search.study.records()
    assert len(finished) == 2
    both = search_in(tmp_path, made_up_setting("latency<=9ms"), trials=6).run()
    assert all(record in both for record in finished)
    in_work = [job.recipe for job in launcher.waiting if job.work is Work.RUNG]
    assert in_work
    assert {recipe.digest() for recipe in in_work} <= {record.recipe.digest() for record in both}


def test_a_search_that_has_its_trials_already_asks_for_nothing(tmp_path):
    first = search_in(tmp_path, made_up_setting(TIGHT), trials=3).run()
    setting = made_up_setting(TIGHT)
    again = search_in(tmp_path, setting, trials=3).run()
    assert sorted(record.number for record in again) == sorted(record.number for record in first)
    assert launcher_of(setting).jobs == []


def test_whoever_watches_is_told_of_every_trial(tmp_path):
    seen: list[TrialRecord] = []

    class Watcher(Silence):
        def trial(self, record: TrialRecord) -> None:
            seen.append(record)

    setting = replace(made_up_setting(TIGHT), observer=Watcher())
    assert search_in(tmp_path, setting).run() == tuple(seen)
    assert seen


def test_first_guesses_are_recipes_of_the_space_around_the_starts(tmp_path):
    setting = made_up_setting(TIGHT)
    builder = setting.builder
    starts = climb(setting).starts(setting.goal, builder)
    guesses = first_guesses(builder, starts, seed=1)
    assert len(guesses) == SEEDS
    assert guesses == first_guesses(builder, starts, seed=1)
    assert guesses != first_guesses(builder, starts, seed=2)
    for guess in guesses:
        assert set(guess) == {knob.name for knob in builder.knobs()}
        for knob in builder.knobs():
            value = guess[knob.name]
            assert knob.range.low <= value <= knob.range.high if knob.range else value in knob.choices
    assert first_guesses(builder, [], seed=0) == []


def forecasting_setting(budget: str, limit_ms: float, **forecasts) -> Setting:
    costing = ForecastingCosting(limit_ms=limit_ms, forecaster=MadeUpForecaster(**forecasts))
    return replace(made_up_setting(budget), costing=costing)


def test_what_a_forecast_rules_out_is_told_as_pruned_and_never_built(tmp_path):
    setting = forecasting_setting("latency<=3ms", 3.0)
    search = search_in(tmp_path, setting)
    told = {}

    def tell(ask, record, violation, value, tell=search.study.tell):
        told[record.number] = (violation, value)
        tell(ask, record, violation, value)

    search.study.tell = tell
    records = search.run()
    ruled_out = [record for record in records if record.forecast_ms is not None]
    assert ruled_out
    assert {(record.state, record.within_budget, record.facts) for record in ruled_out} == {
        (TrialState.PRUNED, False, None)
    }
    built = [job.recipe.digest() for job in launcher_of(setting).jobs]
    for record in ruled_out:
        assert record.recipe.digest() not in built
        assert told[record.number] == ({Metric.LATENCY: pytest.approx(record.forecast_ms / 3 - 1)}, None)
        assert record.forecast_ms > 3.0


def test_a_control_is_built_and_measured_whatever_its_forecast(tmp_path):
    setting = forecasting_setting(TIGHT, 3.0)
    search = search_in(tmp_path, setting, trials=1)
    search.study.enqueue(setting.builder.uniform(0.0), "uniform int8")
    control = next(record for record in search.run() if record.control)
    assert control.facts.latency_ms == latency_ms(control.recipe)
    assert setting.costing.measured == [control.recipe]


def test_files_that_are_built_are_shown_to_the_forecaster(tmp_path):
    setting = forecasting_setting("latency<=3ms", 3.0, before_built=False)
    search_in(tmp_path, setting).run()
    structures = [job.recipe for job in launcher_of(setting).jobs if job.work is Work.STRUCTURE]
    assert setting.costing.forecaster.seen == structures


def test_what_is_learned_later_of_a_trial_replaces_its_record_in_this_session(tmp_path):
    setting = made_up_setting("latency<=9ms")
    search = search_in(tmp_path, setting, trials=2)
    first, *others = search.run()
    search.study.amend([first.model_copy(update={"within_budget": False})])
    amended, *rest = search.study.records()
    assert amended.within_budget is False
    assert rest == others
