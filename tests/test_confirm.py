"""The best candidates are measured before they are recovered in full."""

from dataclasses import replace

import pytest
from made_up_forecasts import ForecastingCosting, MadeUpForecaster, forecast
from made_up_search import facts_of, latency_ms, made_up_setting
from test_loop import search_in

from autocompress.events import Silence
from autocompress.recipe import Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.confirm import confirmed, search_and_confirm
from autocompress.search.setting import Setting

LIMIT = "latency<=5ms"
FITTING, MISSING = (0.6, 0.7, 0.8, 0.9), (0.1, 0.2)  # of the channels pruned, all in float
RATIOS = MISSING + FITTING


class Notes(Silence):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def setting_of(limit: str = LIMIT, **forecasts) -> Setting:
    costing = ForecastingCosting(limit_ms=5.0, forecaster=MadeUpForecaster(**forecasts))
    return replace(made_up_setting(limit, techniques=("prune_channels",)), costing=costing, observer=Notes())


def records_of(setting: Setting, predicted_ms: float = 1.0) -> list[TrialRecord]:
    """Every ratio as a trial that was predicted to fit, the least pruned and so the most accurate first."""
    return [_record(setting, number, ratio, predicted_ms) for number, ratio in enumerate(RATIOS)]


def _record(setting: Setting, number: int, ratio: float, ms: float) -> TrialRecord:
    recipe = setting.builder.recipe(setting.builder.uniform(ratio))
    return TrialRecord(
        number=number,
        kind=TrialKind.SEARCH,
        state=TrialState.COMPLETE,
        summary=f"pruned {ratio}",
        recipe=recipe,
        facts=forecast(ms).filled_in(facts_of(recipe, judged=True)),
        within_budget=True,
    )


def fits(recipe: Recipe) -> bool:
    return latency_ms(recipe) <= 5.0


def best_of(records) -> list[TrialRecord]:
    fitting = [each for each in records if each.within_budget]
    return sorted(fitting, key=lambda each: -each.facts.accuracy_val)


def test_the_best_are_measured_and_those_that_miss_make_way_for_the_next():
    setting = setting_of()
    records = records_of(setting)
    misses = [each for each in records if not fits(each.recipe)]
    assert misses
    found = confirmed(setting, records, 2)
    best = best_of(found)
    assert [each.facts.latency_ms for each in best[:2]] == [latency_ms(each.recipe) for each in best[:2]]
    assert all(fits(each.recipe) for each in best[:2])
    assert [each.facts.latency_ms for each in best[2:]] == [None] * len(best[2:])
    assert [each.within_budget for each in found[: len(misses)]] == [False] * len(misses)
    assert setting.costing.measured == [each.recipe for each in found[: len(misses) + 2]]
    assert setting.observer.said == [f"{each.summary} was predicted to meet the budget and does not" for each in misses]


def test_accuracy_is_kept_and_the_prediction_stays_beside_the_measurement():
    setting = setting_of()
    before = records_of(setting)
    after = confirmed(setting, before, len(before))
    assert [each.facts.accuracy_val for each in after] == [each.facts.accuracy_val for each in before]
    assert all(each.facts.latency_predicted_ms is not None for each in after)


def test_what_was_measured_is_not_measured_again():
    setting = setting_of()
    first = confirmed(setting, records_of(setting), 2)
    setting.costing.measured.clear()
    assert confirmed(setting, first, 2) == first
    assert setting.costing.measured == []


def test_one_that_cannot_be_built_again_makes_way_too():
    setting = setting_of()
    records = records_of(setting)
    broken = next(each for each in records if fits(each.recipe))
    setting.launcher.fails = lambda recipe: recipe == broken.recipe
    found = confirmed(setting, records, 1)
    assert found[broken.number].within_budget is False
    assert best_of(found)[0].facts.latency_ms is not None


class Sessions:
    """A search that finds these records, one lot a call; time for ``calls`` of them."""

    def __init__(self, setting: Setting, lots: list[list[TrialRecord]], calls: int = 9) -> None:
        self.setting, self.study = setting, self
        self.lots, self.calls, self.found = lots, calls, []

    def run(self) -> tuple[TrialRecord, ...]:
        self.calls -= 1
        self.found += self.lots.pop(0) if self.lots else []
        return tuple(self.found)

    def trained(self) -> int:
        return len(self.found)

    def can_go_on(self) -> bool:
        return self.calls > 0

    def amend(self, records) -> None:
        self.found = list(records)


SAID = "no candidate meets the budget when it is measured; the search goes on"


def test_the_search_goes_on_where_nothing_that_was_predicted_to_fit_does():
    setting = setting_of()
    records = records_of(setting)
    missing = [each for each in records if not fits(each.recipe)]
    search = Sessions(setting, [missing[:1], missing[1:], records[len(missing) :]])
    found = search_and_confirm(search, 1)
    assert setting.observer.said.count(SAID) == 2
    assert best_of(found)[0].facts.latency_ms == latency_ms(records[len(missing)].recipe)
    measured = [each.digest() for each in setting.costing.measured]
    assert len(set(measured)) == len(measured)  # what one session measured, the next knows


@pytest.mark.parametrize(("calls", "said"), [(1, 0), (2, 1), (9, 1)], ids=["no time", "once", "nothing new"])
def test_the_search_ends_without_an_answer_when_time_is_over_or_nothing_new_comes(calls, said):
    setting = setting_of()
    missing = [each for each in records_of(setting) if not fits(each.recipe)]
    found = search_and_confirm(Sessions(setting, [missing], calls), 1)
    assert not any(each.within_budget for each in found)
    assert setting.observer.said.count(SAID) == said


def test_a_search_that_trains_nothing_is_not_repeated(tmp_path):
    setting = setting_of("latency<=1us")
    setting.costing.limit_ms = 1e-3
    search_and_confirm(search_in(tmp_path, setting, trials=None), 2)
    assert setting.observer.said == []
