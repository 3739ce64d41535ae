"""What searches measured is kept beside the profile, shifts its predictor, and shows drift."""

import re

import pytest
from learned_profile import graph_of_dense, learned_profile, predictor

from autocompress.errors import ProfileError
from autocompress.hardware.predictor.kept_fit import predictor_in
from autocompress.hardware.predictor.observation_log import read_log
from autocompress.hardware.predictor.predictor import LatencyPredictor
from autocompress.hardware.predictor.profile import read_facts
from autocompress.hardware.predictor.searched import (
    DOUBT,
    FEWEST_FILES,
    LAST,
    RECENT,
    SEARCHED,
    keep_searched,
    shifted,
)

WIDTHS = (64, 100, 128, 200, 320)


def predicted_ms(width: int) -> float:
    return float(predictor().predict_many([[placed.kernel for placed in graph_of_dense(width).kernels]])[0][0])


def measured(folder, factor: float, count: int, network: str | None = "one") -> None:
    widths = [WIDTHS[number % len(WIDTHS)] for number in range(count)]
    keep_searched(folder, [(graph_of_dense(width), factor * predicted_ms(width)) for width in widths], network)


def agreeing(folder, factor: float) -> None:
    for network in "abc":
        measured(folder, factor, 4, network)


def shift(folder) -> float:
    return shifted(folder, predictor())[0].scale / predictor().scale


def test_what_was_kept_is_read_again(tmp_path):
    keep_searched(tmp_path, [(graph_of_dense(64), 0.5)])
    keep_searched(tmp_path, [(graph_of_dense(128), 0.25)])
    found, notes = read_log(tmp_path / SEARCHED)
    assert notes == ()
    assert [each.median_us for each in found] == [500.0, 250.0]
    assert [each.source for each in found] == ["search", "search"]
    assert [kernel for kernel, _ in found[0].parsed()] == [placed.kernel for placed in graph_of_dense(64).kernels]
    assert found[0].name != found[1].name


def test_without_searches_the_predictor_is_as_it_was_fitted(tmp_path):
    assert shifted(tmp_path, predictor()) == (predictor(), ())


def test_the_shift_grows_with_the_networks_whatever_their_files(tmp_path):
    measured(tmp_path, 1.2, 2)
    assert shift(tmp_path) == pytest.approx(1.2 ** (1 / (1 + DOUBT)))
    measured(tmp_path, 1.2, LAST)
    assert shift(tmp_path) == pytest.approx(1.2 ** (1 / (1 + DOUBT)))
    measured(tmp_path, 1.1, 3, "another")
    assert shift(tmp_path) == pytest.approx((1.2 * 1.1) ** (1 / (2 + DOUBT)))


def test_files_of_no_network_in_common_are_one_each(tmp_path):
    measured(tmp_path, 1.1, len(WIDTHS), None)
    assert shift(tmp_path) == pytest.approx(1.1 ** (len(WIDTHS) / (len(WIDTHS) + DOUBT)))


def test_only_recent_files_count(tmp_path):
    measured(tmp_path, 1.5, 5, "long ago")
    measured(tmp_path, 2.0, RECENT - LAST)
    measured(tmp_path, 0.8, LAST)
    assert shift(tmp_path) == pytest.approx(0.8 ** (1 / (1 + DOUBT)))


@pytest.mark.parametrize(("factor", "words"), [(1.08, "8% longer than predicted"), (0.9, "10% less than predicted")])
def test_networks_that_agree_on_being_off_show_drift(tmp_path, factor, words):
    agreeing(tmp_path, factor)
    _, (note,) = shifted(tmp_path, predictor())
    assert words in note
    assert "the last 12 files" in note
    assert "`autocompress profile --anew` measures its profile again" in note


def test_one_network_shows_drift_only_where_no_network_is_off_by_as_much(tmp_path):
    measured(tmp_path, 1.2, LAST)
    assert shifted(tmp_path, predictor())[1] == ()
    measured(tmp_path, 1.3, LAST)
    assert "30% longer" in shifted(tmp_path, predictor())[1][0]


def test_a_little_or_a_few_files_are_no_drift(tmp_path):
    agreeing(tmp_path, 1.04)
    assert shifted(tmp_path, predictor())[1] == ()
    measured(tmp_path / "few", 1.5, FEWEST_FILES - 1)
    assert shifted(tmp_path / "few", predictor())[1] == ()


def test_a_broken_line_is_named(tmp_path):
    measured(tmp_path, 1.0, 2)
    with (tmp_path / SEARCHED).open("a") as log:
        log.write("{broken\n")
    with pytest.raises(ProfileError, match=re.escape(f"{SEARCHED}, line 3, column 2: must be JSON")):
        shifted(tmp_path, predictor())


def test_a_profile_is_opened_with_the_shift_of_its_searches(tmp_path):
    folder = learned_profile(tmp_path / "profile")
    agreeing(folder, 1.1)
    found, notes = predictor_in(folder, read_facts(folder))
    assert found.scale / predictor().scale == pytest.approx(1.1 ** (3 / (3 + DOUBT)))
    assert "longer than predicted" in notes[0]
    assert LatencyPredictor.load(folder).to_data() == found.to_data()
