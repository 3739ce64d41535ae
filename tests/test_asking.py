"""What the journal learns of a candidate when its trial is closed."""

from dataclasses import replace
from types import SimpleNamespace

from made_up_outer import made_up_outer, setting_with

from autocompress.budget import Metric
from autocompress.result import TrialRecord, TrialState
from autocompress.search.asking import EMPTY, FREE_TELLS, Asking, tell
from autocompress.search.candidate import Candidate
from autocompress.search.study import Ask


def test_a_record_says_which_selection_its_recipe_is():
    outer = made_up_outer({Metric.SIZE: 5e3})
    setting = setting_with(outer, "size<=5kB")
    values = outer.neutral()
    recipe = outer.recipe(values)
    told = []
    study = SimpleNamespace(tell=lambda _ask, record, _violation, _value: told.append(record))

    ask = Ask(number=7, values=values, control=None, trial=None)
    tell(setting, study, Candidate(ask=ask, recipe=recipe), TrialState.COMPLETE)

    (record,) = [TrialRecord.from_json(each.to_json()) for each in told]
    assert (record.picks, record.parameters) == outer.known(recipe)
    assert record.parameters == values


def test_parameters_without_an_allocation_teach_the_sampler_as_long_as_they_are_few():
    outer = made_up_outer({Metric.SIZE: 1.0})
    setting = setting_with(outer, "size<=1B")
    ask = Ask(number=0, values=outer.neutral(), control=None, trial=None)
    told, dropped = [], []
    study = SimpleNamespace(
        records=lambda: (),
        ask=lambda: replace(ask),
        rule_out=lambda _ask, violation: told.append(violation),
        drop=dropped.append,
    )
    asking = Asking(setting=setting, study=study)
    assert asking.ask() is None
    assert told == [{Metric.SIZE: EMPTY}] * FREE_TELLS
    assert len(dropped) == asking.barren - FREE_TELLS > 0
