"""What a candidate keeps of its jobs."""

import pytest
from made_up_facts import facts_at

from autocompress.recipe import Recipe, Recovery
from autocompress.rungs import Rung
from autocompress.search.candidate import Candidate, Reached, taken_up
from autocompress.search.launcher import Done
from autocompress.search.study import Ask
from autocompress.trial import Product

FACTS = facts_at(1.0, (0.9, 1.1))


def asked(steps: int) -> Candidate:
    return Candidate(
        ask=Ask(number=0, values={}, control=None, trial=None), recipe=Recipe(recovery=Recovery(steps=steps))
    )


@pytest.mark.parametrize(("second_s", "kept_s"), [(0.5, 0.5), (None, 0.2)])
def test_a_rung_too_short_to_tell_the_seconds_of_a_step_leaves_those_of_the_one_before(second_s, kept_s):
    candidate = asked(steps=90)
    candidate.built(Done(key=0, product=Product(facts=FACTS, notes=(), seconds=1.0)))
    for number, step_s in enumerate((0.2, second_s), start=1):
        product = Product(facts=FACTS, notes=(), seconds=1.0, steps=10 * number, step_s=step_s)
        candidate.trained(Done(key=0, product=product), Rung(number=number, first=0, last=10, is_final=False))
    assert candidate.step_s == kept_s


def test_what_a_later_session_goes_on_from_is_all_that_its_jobs_left():
    candidate = asked(steps=90)
    candidate.built(Done(key=0, product=Product(facts=FACTS, notes=("a note",), seconds=1.0)))
    product = Product(facts=FACTS, notes=("a note",), seconds=2.0, steps=10, step_s=0.2)
    candidate.trained(Done(key=0, product=product), candidate.rungs[0])
    again = taken_up(candidate.ask, candidate.recipe, Reached.from_json(candidate.reached().to_json()))
    assert again == candidate
