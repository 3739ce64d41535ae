"""How long a trial should train."""

import pytest

from autocompress.search.pace import training_s_of_trial


@pytest.mark.parametrize(
    ("search_s", "slots", "file_s", "training_s"),
    [
        (600.0, 2, 1.0, 70.0),  # a sixteenth of 1,200 s, of which 5 go to the rest
        (600.0, 2, 10.0, 55.0),  # 20 on a slow machine
        (60.0, 2, 1.0, 5.0),  # a sixteenth would leave 2.5, less than the rest takes
        (72.0, 2, 4.0, 8.0),
        (80.0, 1, 4.0, 5.0),
        (80.0, 4, 1.0, 15.0),
        (52.0, 2, 4.0, 5.0),  # two in a row have 13 s each, 8 of them for the rest
        (30.0, 2, 4.0, 3.0),  # no two have time
        (-5.0, 2, 4.0, 3.0),
        (1e6, 2, 1.0, 120.0),
    ],
)
def test_a_trial_trains_as_long_as_many_have_time_for_but_no_shorter_than_the_rest_of_it_takes(
    search_s, slots, file_s, training_s
):
    assert training_s_of_trial(search_s, slots, file_s) == pytest.approx(training_s)
