"""Networks whose kernels' times follow a law, so that what is learned from them is known."""

import numpy as np

from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.kernels.runtime_graph import PlacedKernel, RuntimeGraph
from autocompress.hardware.predictor.kernel_times import ProfilerCost
from autocompress.hardware.predictor.observation import Observation

COST = ProfilerCost(call_us=15.0, kernel_us=3.0, input_us=0.5)
FAMILIES = 8


def floats(*shape: int, stored: bool = False) -> Tensor:
    return Tensor("float", shape, stored)


def linear(rows: int, inner: int, columns: int) -> Kernel:
    inputs = (floats(1, rows, inner), floats(inner, columns, stored=True))
    return Kernel("MatMul", inputs, (floats(1, rows, columns),))


def relu(rows: int, width: int) -> Kernel:
    return Kernel("Relu", (floats(1, rows, width),), (floats(1, rows, width),))


def law_us(kernel: Kernel) -> float:
    """What a kernel takes: a start, then so much a multiply-accumulate or a number."""
    made = kernel.outputs[0].size
    return 2.0 + (made * kernel.inputs[0].shape[-1] / 5e3 if kernel.op == "MatMul" else made / 500)


def network(rng: np.random.Generator) -> list[Kernel]:
    """Linear layers, some with ReLU behind them."""
    rows, width = int(rng.integers(2, 40)), int(rng.integers(8, 120))
    kernels = []
    for _ in range(int(rng.integers(3, 7))):
        wider = int(rng.integers(8, 120))
        kernels += [linear(rows, width, wider), relu(rows, wider)][: 1 + int(rng.random() < 0.7)]
        width = wider
    return kernels


def whole_us(kernels: list[Kernel]) -> float:
    return COST.call_us + sum(map(law_us, kernels))


def observed(
    kernels: list[Kernel],
    number: int = 0,
    *,
    slower: float = 1.0,
    noise: float = 0.0,
    reference_ms: float | None = None,
) -> Observation:
    """A network as it would be measured on a machine that is ``slower`` than usual just then.

    ``noise`` is the standard deviation of what each kernel takes, relative to what the law says.
    """
    factors = 1 + noise * np.random.default_rng(number).standard_normal(len(kernels))
    own = [law_us(kernel) * factor for kernel, factor in zip(kernels, factors.tolist(), strict=True)]
    timed = [
        (*kernel.to_data(), slower * (us + COST.kernel_us + COST.input_us * len(kernel.inputs)))
        for kernel, us in zip(kernels, own, strict=True)
    ]
    us = slower * (COST.call_us + sum(own))
    return Observation(
        name=f"n{number}",
        family=f"f{number % FAMILIES}",
        precision="fp32",
        measured_at="2026-01-01T00:00:00+00:00",
        rounds_us=(us * 0.99, us, us * 1.01),
        reference_ms=reference_ms,
        kernels=tuple(timed),
    )


def networks(count: int, seed: int = 0) -> list[list[Kernel]]:
    rng = np.random.default_rng(seed)
    return [network(rng) for _ in range(count)]


def observations(count: int, seed: int = 0, noise: float = 0.0) -> list[Observation]:
    return [observed(kernels, number, noise=noise) for number, kernels in enumerate(networks(count, seed))]


def graph_of(kernels: list[Kernel]) -> RuntimeGraph:
    """The kernels one after the other."""
    placed = [
        PlacedKernel(name=f"k{n}", kernel=kernel, reads=(f"v{n}",), makes=(f"v{n + 1}",))
        for n, kernel in enumerate(kernels)
    ]
    return RuntimeGraph(kernels=tuple(placed), stored_bytes=sum(kernel.stored_bytes for kernel in kernels))
