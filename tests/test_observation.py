"""A measured file, kept."""

import pytest
from made_up_networks import graph_of, networks, observed
from pydantic import ValidationError

from autocompress.hardware.predictor.observation import MOST_DRIFT, Observation, observation_of


def test_an_observation_comes_back_from_its_line():
    seen = observed(networks(1)[0], reference_ms=5.0)
    assert Observation.model_validate_json(seen.model_dump_json()) == seen


def test_its_kernels_are_those_that_were_measured():
    (kernels,) = networks(1)
    seen = observation_of(
        graph_of(kernels), (10.0, 30.0, 20.0), name="a", family="b", precision="int8", at="now", reference_ms=4.0
    )
    assert seen.parsed() == [(kernel, None) for kernel in kernels]
    assert (seen.median_us, seen.reference_ms, seen.source, seen.precision) == (20.0, 4.0, "profile", "int8")


@pytest.mark.parametrize(
    ("reference_ms", "factor"), [(5.5, 1.1), (4.5, 0.9), (50.0, MOST_DRIFT), (1.0, 1 / MOST_DRIFT)]
)
def test_times_are_brought_to_another_speed_of_the_machine(reference_ms, factor):
    seen = observed(networks(1)[0], reference_ms=5.0)
    moved = seen.at_speed(reference_ms)
    assert moved.median_us == pytest.approx(seen.median_us * factor)
    assert [us for _, us in moved.parsed()] == pytest.approx([us * factor for _, us in seen.parsed()])
    assert moved.reference_ms == reference_ms


def test_kernels_that_nobody_timed_stay_so_at_another_speed():
    seen = observed(networks(1)[0], reference_ms=5.0)
    untimed = seen.model_copy(update={"kernels": tuple((*kernel[:-1], None) for kernel in seen.kernels)})
    assert {us for _, us in untimed.at_speed(5.5).parsed()} == {None}


def test_without_a_reference_nothing_is_moved():
    seen = observed(networks(1)[0])
    assert seen.at_speed(5.0) == seen


def test_a_line_with_a_word_too_many_is_refused():
    line = observed(networks(1)[0]).model_dump_json()
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Observation.model_validate_json(line.replace('"family"', '"clan":"x","family"'))
