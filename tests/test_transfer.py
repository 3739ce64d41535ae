"""A predictor goes over to another device by a few networks measured there."""

import numpy as np
import pytest
from made_up_networks import law_us, network, observed

from autocompress.errors import MeasurementError
from autocompress.hardware.kept import Circumstances
from autocompress.hardware.predictor.fit import fit
from autocompress.hardware.predictor.predictor import LatencyPredictor, Transfer
from autocompress.hardware.predictor.transfer import FEWEST, transferred

HERE = Circumstances(cpu="here", isa=(), onnxruntime="1")
THERE = Circumstances(cpu="there", isa=(), onnxruntime="1", threads=2)


@pytest.fixture(scope="module")
def predictor() -> LatencyPredictor:
    rng = np.random.default_rng(0)
    return fit([observed(network(rng), number) for number in range(60)], HERE)


def networks_there(count, factor, first=1000):
    """Measured on a device that takes ``factor`` times as long for everything."""
    rng = np.random.default_rng(first)
    found = []
    for number in range(count):
        kernels = network(rng)
        found.append((kernels, observed(kernels, first + number, slower=factor)))
    return found


def test_a_few_networks_bring_the_predictor_to_a_slower_device(predictor):
    there = transferred(predictor, [each for _, each in networks_there(10, 1.8)], THERE)

    judged = networks_there(20, 1.8, first=5000)
    ms, low, high = there.predict_many([kernels for kernels, _ in judged])
    measured = np.array([each.median_us / 1e3 for _, each in judged])
    before, *_ = predictor.predict_many([kernels for kernels, _ in judged])

    assert np.abs(ms / measured - 1).mean() < 0.05
    assert np.abs(before / measured - 1).mean() > 0.3
    assert ((low <= measured) & (measured <= high)).mean() > 0.7
    assert there.circumstances == THERE


FACTORS = {"MatMul": 1.2, "Relu": 4.0}


def of_two_speeds(count, first):
    """Measured on a device that is slower for some kinds of kernel than for others."""
    found = []
    for kernels, each in networks_there(count, 1.0, first):
        more_us = [law_us(kernel) * (FACTORS[kernel.op] - 1) for kernel in kernels]
        timed = tuple((*kernel[:-1], kernel[-1] + us) for kernel, us in zip(each.kernels, more_us, strict=True))
        rounds_us = tuple(us + sum(more_us) for us in each.rounds_us)
        found.append((kernels, each.model_copy(update={"kernels": timed, "rounds_us": rounds_us})))
    return found


def test_each_kind_of_kernel_has_its_own_factor_there(predictor):
    there = transferred(predictor, [each for _, each in of_two_speeds(10, 1000)], THERE)

    for kernels, _ in of_two_speeds(5, 5000):
        here = predictor.guesses(kernels)
        for kernel, before, after in zip(kernels, here, there.guesses(kernels), strict=True):
            assert after.us / before.us == pytest.approx(FACTORS[kernel.op], rel=0.25)


def test_size_decides_where_a_device_gains_on_large_kernels_only(predictor):
    def there_us(us):
        return 4.0 + us / 2

    def measured(count, first):
        found = []
        for kernels, each in networks_there(count, 1.0, first):
            more_us = [there_us(law_us(kernel)) - law_us(kernel) for kernel in kernels]
            timed = tuple((*kernel[:-1], kernel[-1] + us) for kernel, us in zip(each.kernels, more_us, strict=True))
            rounds_us = tuple(us + sum(more_us) for us in each.rounds_us)
            found.append((kernels, each.model_copy(update={"kernels": timed, "rounds_us": rounds_us})))
        return found

    there = transferred(predictor, [each for _, each in measured(10, 1000)], THERE)
    judged = measured(20, 5000)
    ms, *_ = there.predict_many([kernels for kernels, _ in judged])
    assert np.abs(ms * 1e3 / [each.median_us for _, each in judged] - 1).mean() < 0.05
    for pick, expected in ((min, 1.5), (max, 0.6)):
        kernel = pick((kernel for kernels, _ in judged for kernel in kernels), key=law_us)
        (here,), (guess,) = predictor.guesses([kernel]), there.guesses([kernel])
        assert guess.us / here.us == pytest.approx(expected, rel=0.35)


def test_nothing_counts_as_measured_there(predictor):
    pairs = networks_there(10, 1.5)
    there = transferred(predictor, [each for _, each in pairs], THERE)

    assert not any(guess.timed for guess in there.guesses(pairs[0][0]))


def test_it_round_trips_as_data(predictor):
    there = transferred(predictor, [each for _, each in networks_there(10, 1.5)], THERE)
    again = LatencyPredictor.from_data(there.to_data())
    kernels = networks_there(1, 1.0, first=9000)[0][0]

    assert again.transfer == there.transfer
    assert again.whole(again.guesses(kernels)) == there.whole(there.guesses(kernels))


def test_kinds_never_seen_there_follow_the_others():
    transfer = Transfer(curve=(np.log(2.0),) * 3, kinds={"move": -np.log(2.0)})

    us = transfer.applied(["move_Relu", "conv_int8_dense"], np.array([10.0, 10.0]))
    np.testing.assert_allclose(us, [10.0, 20.0])
    assert {Transfer.kind_of(path) for path in ("conv_int8_dense", "conv_int8_depthwise")} == {"conv_int8"}


def test_too_few_networks_are_refused(predictor):
    few = [each for _, each in networks_there(FEWEST - 1, 1.5)]

    with pytest.raises(MeasurementError, match=f"at least {FEWEST} networks measured there, got {FEWEST - 1}"):
        transferred(predictor, few, THERE)


def test_the_law_is_what_the_made_up_networks_follow(predictor):
    """What the other tests rest on."""
    kernels = network(np.random.default_rng(3))
    us = [guess.us for guess in predictor.guesses(kernels)]

    np.testing.assert_allclose(us, [law_us(kernel) for kernel in kernels], rtol=0.3)
