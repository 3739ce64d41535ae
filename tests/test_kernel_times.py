"""Times of kernels without what the profile adds to them."""

import pytest
from made_up_networks import COST, law_us, networks, observations, observed

from autocompress.hardware.kernels.features import Context
from autocompress.hardware.predictor.kernel_times import (
    MOST_SCALING,
    SHORT_US,
    by_path,
    in_pause,
    kernel_times,
    profiler_cost,
)


def test_what_a_profile_adds_is_recovered():
    found = profiler_cost(observations(30))
    assert found.call_us == pytest.approx(COST.call_us, rel=1e-3)
    assert found.kernel_us == pytest.approx(COST.kernel_us, rel=1e-3)
    assert found.input_us == pytest.approx(COST.input_us, rel=1e-2)


def test_a_profile_adds_more_for_each_octave_that_the_network_takes():
    kernel, cost = networks(1)[0][0], COST.model_copy(update={"octave_us": 0.25})
    assert cost.of(kernel, SHORT_US / 2) == cost.of(kernel, SHORT_US) == COST.of(kernel, SHORT_US)
    assert cost.of(kernel, 8 * SHORT_US) - cost.of(kernel, SHORT_US) == pytest.approx(3 * 0.25)


def test_networks_without_a_profile_tell_nothing_of_it():
    untimed = observations(1)[0]
    untimed = untimed.model_copy(update={"kernels": tuple((*kernel[:-1], None) for kernel in untimed.kernels)})
    assert profiler_cost([*observations(30), untimed]) == profiler_cost(observations(30))
    assert kernel_times(untimed, COST) == []


def test_kernels_take_what_they_take_without_the_profile():
    (kernels,) = networks(1)
    for each, kernel in zip(kernel_times(observed(kernels), COST), kernels, strict=True):
        assert each.kernel == kernel
        assert each.us == pytest.approx(law_us(kernel))


def test_between_two_runs_of_a_kernel_its_network_takes_what_was_measured():
    seen = observed(networks(1)[0])
    kernels = kernel_times(seen, COST)
    assert {each.context.pause_us for each in kernels} == {Context.of_sums(0.0, seen.median_us).pause_us}
    later = in_pause(kernels, 64 * seen.median_us)
    assert [(each.context.stored_bytes, each.us) for each in later] == [
        (each.context.stored_bytes, each.us) for each in kernels
    ]
    assert {each.context.pause_us for each in later} == {64 * kernels[0].context.pause_us}


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_kernels_and_the_call_make_up_the_whole(factor):
    seen = observed(networks(1)[0])
    seen = seen.model_copy(update={"rounds_us": tuple(us * factor for us in seen.rounds_us)})
    assert sum(each.us for each in kernel_times(seen, COST)) + COST.call_us == pytest.approx(seen.median_us)


def test_a_whole_that_no_profile_explains_is_not_believed():
    seen = observed(networks(1)[0])
    usual = sum(each.us for each in kernel_times(seen, COST))
    odd = seen.model_copy(update={"rounds_us": tuple(us * 10 for us in seen.rounds_us)})
    assert sum(each.us for each in kernel_times(odd, COST)) == pytest.approx(usual * MOST_SCALING)


def test_equal_kernels_of_a_network_are_one_and_those_of_others_are_not():
    (kernels,) = networks(1)
    twice = [kernel_times(observed([*kernels, *kernels]), COST), kernel_times(observed(kernels), COST)]
    found = by_path(twice)
    assert set(found) == {"product", "move_Relu"}
    signatures = {kernel.signature for kernel in kernels if kernel.op == "MatMul"}
    assert found["product"].file.tolist() == [0] * len(signatures) + [1] * len(signatures)
    assert len(found["product"].terms) == len(found["product"].features) == len(found["product"].us)
