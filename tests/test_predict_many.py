"""Many networks at once are predicted as each of them alone."""

from dataclasses import replace

import numpy as np
import pytest

from autocompress.hardware.kept import Circumstances
from autocompress.hardware.kernels.features import Context, describe, in_contexts
from autocompress.hardware.kernels.kernel import Kernel, Tensor, digest
from autocompress.hardware.kernels.runtime_graph import PlacedKernel, RuntimeGraph
from autocompress.hardware.predictor.kernel_model import KernelModel, PathModel
from autocompress.hardware.predictor.kernel_times import ProfilerCost
from autocompress.hardware.predictor.predictor import LatencyPredictor


def product(n_in: int, n_out: int) -> Kernel:
    ends = Tensor("float", (1, n_in)), Tensor("float", (n_in, n_out), stored=True)
    return Kernel("Gemm", ends, (Tensor("float", (1, n_out)),))


def relu(width: int) -> Kernel:
    return Kernel("Relu", (Tensor("float", (1, width)),), (Tensor("float", (1, width)),))


NETWORKS = [
    [product(8, 8), relu(8), product(8, 8), relu(8)],
    [product(2000, 3000), relu(3000), product(3000, 10)],
    [],
    [relu(8), product(8, 8)],
    [product(8, 8), product(2000, 3000)],
]


def predictor() -> LatencyPredictor:
    ((_, placed),) = in_contexts([describe(relu(8))], [Context(1.0, 1.0)]).items()
    paths = {
        describe(kernel).path: PathModel(
            rates=np.linspace(1e-5, rate, placed.terms.shape[1]), forest=None, spread=spread, kernels=9
        )
        for kernel, rate, spread in ((product(8, 8), 2e-3, 0.2), (relu(8), 4e-2, 0.6))
    }
    return LatencyPredictor(
        circumstances=Circumstances(cpu="x", isa=(), onnxruntime="1"),
        model=KernelModel(paths=paths, families=paths | {"": next(iter(paths.values()))}),
        timed={digest(product(8, 8).signature): 0.3},
        cost=ProfilerCost(call_us=5.0, kernel_us=1.0, input_us=0.5),
        slope=1.1,
        quantile=2.0,
    )


@pytest.mark.parametrize("at_once", [1, 2, len(NETWORKS)])
def test_many_networks_are_predicted_as_each_alone(at_once):
    many = predictor()
    found = [many.predict_many(NETWORKS[at : at + at_once]) for at in range(0, len(NETWORKS), at_once)]

    alone = [
        predictor().predict(
            RuntimeGraph(
                kernels=tuple(PlacedKernel(name="", kernel=kernel, reads=(), makes=()) for kernel in kernels),
                stored_bytes=0.0,
            )
        )
        for kernels in NETWORKS
    ]

    ms, low, high = (np.concatenate(column) for column in zip(*found, strict=True))
    np.testing.assert_allclose(ms, [each.ms for each in alone], rtol=1e-9)
    np.testing.assert_allclose(np.stack([low, high], 1), [each.interval_ms for each in alone], rtol=1e-9)


def test_many_different_kernels_are_told_apart():
    many, widths = predictor(), [*range(1, 300), *range(250, 600)]
    ms, _, _ = many.predict_many([[product(width, width), relu(width)] for width in widths])
    alone = [predictor().predict_many([[product(width, width), relu(width)]])[0][0] for width in widths[::50]]
    np.testing.assert_allclose(ms[::50], alone, rtol=1e-9)


def test_weights_come_from_as_far_as_the_time_says_that_is_predicted_itself():
    """Rates as they are of nothing but bytes from far: a start of 5 ms evicts them, of which the rough time knows 1."""
    heavy, slow, far = product(1024, 1024), Kernel("Slow", (), ()), 1e-4
    terms = np.zeros(13)
    starts, bytes_far = terms.copy(), terms.copy()
    starts[0], bytes_far[-1] = 5_000.0, far  # terms of bytes that a pause of 1.6 to 6.4 ms moves away
    paths = {
        describe(kernel).path: PathModel(rates=rates, forest=None, spread=0.1, kernels=9)
        for kernel, rates in ((heavy, bytes_far), (slow, starts))
    }
    subject = replace(predictor(), model=KernelModel(paths=paths, families={}), timed={})
    of_slow, of_heavy = subject.guesses([slow, heavy])
    pause = Context.of_sums(0.0, 5_000.0).pause_us
    assert of_slow.us == 5_000.0
    assert of_heavy.us == pytest.approx(far * heavy.stored_bytes * np.log(pause / 1600) / np.log(4))


def test_no_networks_are_no_numbers():
    assert [len(column) for column in predictor().predict_many([])] == [0, 0, 0]
