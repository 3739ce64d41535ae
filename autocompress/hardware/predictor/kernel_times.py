"""Times of single kernels, from a profile that slows each of them down and a whole that was timed without it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from autocompress.facts import Facts
from autocompress.hardware.kernels.features import STEPS_PER_OCTAVE, Context, Placed, describe, in_contexts
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.paths.description import Description
from autocompress.hardware.predictor.kernel_model import LEAST_US, Timed
from autocompress.hardware.predictor.observation import Observation

SOFT_US = 50.0  # below it, errors of a whole count as absolute rather than relative
SLOWED = 1.5  # times its whole without profiling: networks whose profile shows what profiling adds
FEWEST_SLOWED = 20  # of them; fewer, and all count
SHORT_US = 125.0  # of a network: profiling adds least to its kernels, and more for each octave beyond
MOST_SCALING = 1.4  # of a profile, up or down, to meet the whole


class ProfilerCost(Facts):
    """Microseconds: what a call takes beside its kernels, and what the profile adds to each of these.

    It adds to a kernel, to each of its inputs, and to a kernel for each octave that its network takes beyond
    ``SHORT_US``: what the profiler itself uses has left the nearest caches by then.
    """

    call_us: float
    kernel_us: float
    input_us: float
    octave_us: float = 0.0

    def of(self, kernel: Kernel, network_us: float) -> float:
        """What the profile adds to a kernel of a network that takes ``network_us`` without."""
        return self.kernel_us + self.input_us * _inputs(kernel) + self.octave_us * _octaves(network_us)


@dataclass(frozen=True, kw_only=True)
class KernelTime:
    """A kernel, described, in its network's context, and its time in microseconds where it was not profiled."""

    kernel: Kernel
    described: Description
    context: Context
    us: float


def profiler_cost(observations: Sequence[Observation]) -> ProfilerCost:
    """Least squares on whole networks: their time is the sum of their profile, less what profiling adds."""
    every, slowed = [], []
    for each in observations:
        kernels = each.parsed()
        if any(us is None for _, us in kernels):
            continue
        count, inputs = len(kernels), sum(_inputs(kernel) for kernel, _ in kernels)
        profiled = sum(us or 0.0 for _, us in kernels)
        row = [1.0, -count, -inputs, -count * _octaves(each.median_us), each.median_us - profiled]
        every.append([value / np.hypot(each.median_us, SOFT_US) for value in row])
        if profiled > SLOWED * each.median_us:
            slowed.append(every[-1])
    rows = np.array(slowed if len(slowed) >= FEWEST_SLOWED else every)
    call, kernel, per_input, octave = nnls(rows[:, :-1], rows[:, -1])[0].tolist()
    return ProfilerCost(call_us=call, kernel_us=kernel, input_us=per_input, octave_us=octave)


def kernel_times(observation: Observation, cost: ProfilerCost) -> list[KernelTime]:
    """The kernels of one network; with the call they make up the time of the whole, as far as that is credible."""
    parsed = observation.parsed()
    context = Context.of_sums(sum(kernel.stored_bytes for kernel, _ in parsed), observation.median_us)
    if any(us is None for _, us in parsed):
        return []
    own = [max(LEAST_US, (us or 0.0) - cost.of(kernel, observation.median_us)) for kernel, us in parsed]
    ratio = max(observation.median_us - cost.call_us, 1.0) / sum(own)
    ratio = min(MOST_SCALING, max(1 / MOST_SCALING, ratio))
    return [
        KernelTime(kernel=kernel, described=describe(kernel), context=context, us=us * ratio)
        for (kernel, _), us in zip(parsed, own, strict=True)
    ]


def in_pause(network: Sequence[KernelTime], pause_us: float, steps: float = STEPS_PER_OCTAVE) -> list[KernelTime]:
    """The kernels as those of a network that is said to take ``pause_us``; see ``Context.of_sums``."""
    context = Context.of_sums(sum(each.kernel.stored_bytes for each in network), pause_us, steps)
    return [replace(each, context=context) for each in network]


def by_path(networks: Sequence[Sequence[KernelTime]]) -> dict[str, Timed]:
    """The kernels of several networks by path; equal kernels of one network are one, with their mean time."""
    groups: dict[tuple[int, str], list[KernelTime]] = {}
    for number, network in enumerate(networks):
        for each in network:
            groups.setdefault((number, each.kernel.signature), []).append(each)
    files = np.array([number for number, _ in groups])
    us = np.array([np.mean([each.us for each in group]) for group in groups.values()])
    first = [group[0] for group in groups.values()]
    return {
        path: Timed(file=files[each.places], terms=each.terms, features=each.features, us=us[each.places])
        for path, each in placed(first).items()
    }


def placed(kernels: Sequence[KernelTime]) -> dict[str, Placed]:
    """The kernels by path, each in its own context."""
    return in_contexts([each.described for each in kernels], [each.context for each in kernels])


def _octaves(network_us: float) -> float:
    return max(0.0, float(np.log2(max(network_us, 1.0) / SHORT_US)))


def _inputs(kernel: Kernel) -> int:
    return sum(bool(tensor.dtype) for tensor in kernel.inputs)
