"""From one device to another, or to another number of threads, by a few networks measured there.

A kernel's time there follows from what is predicted here: ``log t' = log t + curve(log t) + kind``. The curve is common
to all kernels: a second thread, say, halves the time of large ones and costs small ones more than it brings. What the
networks took as wholes decides; their kernels' own times, which profiling disturbs more the more threads there are,
say where the difference lies. Kinds that the measured networks have little of stay near the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from autocompress.errors import MeasurementError
from autocompress.hardware.kept import Circumstances
from autocompress.hardware.predictor.forest import Floats
from autocompress.hardware.predictor.kernel_times import KernelTime, kernel_times, profiler_cost
from autocompress.hardware.predictor.many import Known
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.predictor import KNOTS_US, Guess, LatencyPredictor, Transfer

FEWEST = 5  # networks
WHOLE_SPREAD = 0.06  # of the logarithm of a whole, what measuring and the form of the curve leave
KERNEL_SPREAD = 0.4  # of that of a kernel under the profiler
KERNELS = 10.0  # all kernels together count as so many: those of one network err in common
SMOOTH, PULL = 3.0, 10.0  # of the curve's second differences, and of kinds towards the curve
CALL_US = 5.0  # so that the call of a network, too, is changed by a factor
PRIOR = 5.0  # networks against which the known uncertainty counts as much
NORMAL_90 = 1.645


def transferred(
    predictor: LatencyPredictor, observations: Sequence[Observation], circumstances: Circumstances
) -> LatencyPredictor:
    """``predictor``, fitted under other circumstances, for those that ``observations`` were made under.

    Raises:
        MeasurementError: fewer than ``FEWEST`` networks.
    """
    usable = [each for each in observations if all(kernel[-1] is not None for kernel in each.kernels)]
    if len(usable) < FEWEST:
        raise MeasurementError(
            f"a profile of another device can be adapted by at least {FEWEST} networks measured there, "
            f"got {len(usable)}; measure more of the kit"
        )
    cost = profiler_cost(usable)
    networks = [kernel_times(each, cost) for each in usable]
    guesses = [predictor.guesses([each.kernel for each in network]) for network in networks]
    kinds = sorted({Transfer.kind_of(guess.path) for network in guesses for guess in network})
    seen = [
        _Seen.of(guessed, network, each.median_us, kinds, predictor.slope)
        for guessed, network, each in zip(guesses, networks, usable, strict=True)
    ]

    def adapted(by: Sequence[_Seen]) -> LatencyPredictor:
        transfer, call_us = _fitted(by, kinds, cost.call_us)
        return replace(
            predictor,
            circumstances=circumstances,
            cost=cost.model_copy(update={"call_us": call_us}),
            transfer=transfer,
            scale=1.0,
            _known=Known(),
        )

    strays = []  # of each network where the others alone were known, in units of what was thought possible
    for place, (each, network) in enumerate(zip(usable, networks, strict=True)):
        others = adapted([*seen[:place], *seen[place + 1 :]])
        whole = others.whole(others.guesses([one.kernel for one in network]))
        strays.append(np.log(each.median_us / 1e3 / whole.ms) / whole.spread)
    stray = NORMAL_90 * float(np.sqrt(np.mean(np.square(strays))))
    quantile = (PRIOR * predictor.quantile + len(usable) * stray) / (PRIOR + len(usable))
    return replace(adapted(seen), quantile=max(quantile, predictor.quantile))


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One network measured there: of each kernel the logarithm of its time here and there, and its kind's number."""

    here: Floats
    there: Floats
    kind: Floats
    whole_us: float
    slope: float

    @classmethod
    def of(
        cls, guesses: Sequence[Guess], times: Sequence[KernelTime], whole_us: float, kinds: list[str], slope: float
    ) -> "_Seen":
        return cls(
            here=np.log([guess.us for guess in guesses]),
            there=np.log([each.us for each in times]),
            kind=np.array([kinds.index(Transfer.kind_of(guess.path)) for guess in guesses]),
            whole_us=whole_us,
            slope=slope,
        )


def _fitted(seen: Sequence[_Seen], kinds: list[str], call_us: float) -> tuple[Transfer, float]:
    """What the networks took as wholes, and less so their kernels, explained by as little change as possible."""
    knots = len(KNOTS_US)
    weights = [np.sqrt(np.clip(np.exp(each.there), 0.5, 300.0)) for each in seen]
    usual, count = float(np.concatenate(weights).mean()), sum(len(each.here) for each in seen)
    weigh = np.sqrt(KERNELS / count) / KERNEL_SPREAD / usual
    call = np.log(call_us + CALL_US)

    def off(found: Floats) -> Floats:
        curve, of_kinds = found[:knots], found[knots:-1]
        said = [each.here + _curve(each.here, curve) + of_kinds[each.kind] for each in seen]
        wholes = [
            np.log((np.exp(found[-1]) + each.slope * np.exp(one).sum()) / each.whole_us) / WHOLE_SPREAD
            for each, one in zip(seen, said, strict=True)
        ]
        kernels = [weigh * weight * (one - each.there) for each, one, weight in zip(seen, said, weights, strict=True)]
        ties = (np.sqrt(SMOOTH) * np.diff(curve, 2), np.sqrt(PULL) * of_kinds, [found[-1] - call])
        return np.concatenate([wholes, *kernels, *ties])

    found = least_squares(off, np.array([*[0.0] * (knots + len(kinds)), call])).x
    offsets = dict(zip(kinds, found[knots:-1].tolist(), strict=True))
    return Transfer(curve=tuple(found[:knots].tolist()), kinds=offsets), float(np.exp(found[-1]))


def _curve(logs: Floats, values: Floats) -> Floats:
    return np.interp(logs, np.log(KNOTS_US), values)
