"""A measured file, kept."""

import pytest
from made_up_networks import graph_of, networks, observed
from pydantic import ValidationError

from autocompress.hardware.predictor.observation import Observation, observation_of


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


def test_a_line_with_a_word_too_many_is_refused():
    line = observed(networks(1)[0]).model_dump_json()
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Observation.model_validate_json(line.replace('"family"', '"clan":"x","family"'))
