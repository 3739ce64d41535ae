"""Who goes on to the next rung."""

from autocompress.search.halving import Halving


def halving_of(*ranks: float, rung: int = 1) -> Halving:
    found = Halving()
    for key, rank in enumerate(ranks):
        found.ended(key, rung, (rank,))
    return found


def all_promoted(halving: Halving) -> list[int]:
    found = []
    while (key := halving.promoted()) is not None:
        halving.go_on(key)
        found.append(key)
    return found


def test_nobody_goes_on_before_there_are_three_to_compare():
    assert halving_of(0.1, 0.2).promoted() is None
    assert halving_of(0.2, 0.1, 0.3).promoted() == 1


def test_the_best_third_goes_on_once():
    assert all_promoted(halving_of(5, 4, 3, 2, 1, 0)) == [5, 4]


def test_who_did_not_belong_to_the_best_may_later():
    halving = halving_of(1, 2, 3)
    assert all_promoted(halving) == [0]
    for key in (3, 4, 5):
        halving.ended(key, 1, (9.0,))
    assert halving.promoted() == 1


def test_higher_rungs_go_first():
    halving = halving_of(1, 2, 3)
    for key in (10, 11, 12):
        halving.ended(key, 2, (7.0,))
    assert all_promoted(halving) == [10, 0]


def test_ties_go_to_the_lower_cost_and_then_to_the_earlier():
    halving = Halving()
    for key, rank in enumerate([(-0.9, 5.0), (-0.9, 4.0), (-0.9, 4.0)]):
        halving.ended(key, 1, rank)
    assert halving.promoted() == 1


def test_when_no_others_come_the_best_go_on_as_far_as_they_are_wanted():
    halving = halving_of(1, 2, 3, 4, 5)
    found = []
    while (key := halving.best_waiting(2)) is not None:
        halving.go_on(key)
        found.append(key)
    assert found == [0, 1]


def test_a_candidate_waits_at_its_highest_rung_alone():
    halving = halving_of(1, 2, 3)
    halving.go_on(0)
    halving.ended(0, 2, (1.0,))
    halving.go_on(0)
    assert halving.best_waiting(1) is None
