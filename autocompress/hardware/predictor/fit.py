"""A predictor from measured networks, and what it says of each of them when fitted without it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autocompress.errors import MeasurementError
from autocompress.hardware.kept import Circumstances
from autocompress.hardware.kernels.features import ROUGH_STEPS, rough_us
from autocompress.hardware.kernels.kernel import digest
from autocompress.hardware.predictor.forest import Floats
from autocompress.hardware.predictor.kernel_model import UNRELATED_SPREAD, KernelModel, fit_kernels, weights
from autocompress.hardware.predictor.kernel_times import (
    KernelTime,
    ProfilerCost,
    by_path,
    in_pause,
    kernel_times,
    placed,
    profiler_cost,
)
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.predictor import COVERAGE, DOUBT, Guess, LatencyPredictor

FOLDS = 4
LEAST_QUANTILE = 0.5  # of errors in units of the spread, that no luck of those networks can undercut
FOLD_TREES = 10  # enough to say how far off the whole forest is
FEWEST_NETWORKS = 20
MOST_DISTURBED = 0.1  # of a processor's time: measurements beside more of it are left out
MOST_DRIFT = 1.2  # of the reference, up or down: beyond it the machine was another one, hot or held back
LEAST_CALM = 1 / 3  # of all; where fewer were calm, those beside other programs are better than none
LONG_US = 150.0  # networks that take less say little about the slope: their time is mostly the call


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A network and what a predictor that had not seen it says of it."""

    observation: Observation
    ms: float
    interval_ms: tuple[float, float]


def fit(observations: Sequence[Observation], circumstances: Circumstances) -> LatencyPredictor:
    """A predictor from measured networks; takes about ten seconds for five hundred.

    Raises:
        MeasurementError: there are too few networks to fit on.
    """
    return fit_and_judge(observations, circumstances)[0]


def fit_and_judge(
    observations: Sequence[Observation], circumstances: Circumstances
) -> tuple[LatencyPredictor, list[Judged]]:
    """The predictor, and its answers on each file from a fit on the other parts of ``folds_of_networks``.

    Raises:
        MeasurementError: there are too few networks to fit on.
    """
    usable = [each for each in observations if all(kernel[-1] is not None for kernel in each.kernels)]
    if len(usable) < FEWEST_NETWORKS:
        raise MeasurementError(
            f"a latency profile needs at least {FEWEST_NETWORKS} measured networks, got {len(usable)}; "
            "run autocompress profile for longer"
        )
    references = [each.reference_ms for each in usable if each.reference_ms is not None]
    reference_ms = float(np.median(references)) if references else None
    calm = [each for each in usable if _is_calm(each, reference_ms)]
    usable = calm if len(calm) >= max(FEWEST_NETWORKS, len(usable) * LEAST_CALM) else usable
    cost = profiler_cost(usable)
    networks = [kernel_times(each, cost) for each in usable]
    apart = _out_of_fold(networks, _folds_of_families(usable))
    spreads = _spreads(networks, apart)
    model = fit_kernels(by_path(networks)).with_spreads(spreads)
    predictor = LatencyPredictor(
        circumstances=circumstances,
        model=model,
        timed=_corrections(model, networks),
        cost=cost,
        slope=_slope(usable, apart, cost),
        quantile=1.0,
    )
    predictor = replace(predictor, quantile=_quantile(predictor, usable, _with_spreads(apart, spreads)))
    beside = _with_spreads(_out_of_fold(networks, folds_of_networks(usable)), spreads)
    wholes = [predictor.whole(network) for network in beside]
    return predictor, [
        Judged(observation=each, ms=whole.ms, interval_ms=whole.interval_ms)
        for each, whole in zip(usable, wholes, strict=True)
    ]


def _is_calm(observation: Observation, reference_ms: float | None) -> bool:
    """Whether neither other programs nor other guests took much of the machine, nor heat or a battery its speed.

    Nothing is made of smaller drifts of the reference: networks do not follow them.
    """
    if observation.disturbed > MOST_DISTURBED or observation.unrest > 1:
        return False
    if reference_ms is None or observation.reference_ms is None:
        return True
    return 1 / MOST_DRIFT <= observation.reference_ms / reference_ms <= MOST_DRIFT


def folds_of_networks(observations: Sequence[Observation]) -> list[int]:
    """A part of ``FOLDS`` for each file; those of one network, in other precisions or measured again, are together."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(each.network, len(numbers)) % FOLDS for each in observations]


def _folds_of_families(observations: Sequence[Observation]) -> list[int]:
    """A part for each network: whole families together, so that errors are those on networks of another kind.

    A family of more than a third of all networks is spread over all parts.
    """
    families = [each.family for each in observations]
    names = sorted(set(families))
    large = {name for name in names if families.count(name) > len(families) / 3}
    return [
        own if family in large or len(names) < FOLDS else names.index(family) % FOLDS
        for own, family in zip(folds_of_networks(observations), families, strict=True)
    ]


def _slope(observations: Sequence[Observation], guesses: Sequence[Sequence[Guess]], cost: ProfilerCost) -> float:
    ratios = [
        (each.median_us - cost.call_us) / sum(guess.us for guess in network)
        for each, network in zip(observations, guesses, strict=True)
        if each.median_us > LONG_US
    ]
    return float(np.median(ratios)) if ratios else 1.0


def _quantile(
    predictor: LatencyPredictor, observations: Sequence[Observation], guesses: Sequence[Sequence[Guess]]
) -> float:
    wholes = [predictor.whole(network) for network in guesses]
    errors = [
        abs(np.log(whole.ms * 1e3 / each.median_us)) / whole.spread
        for whole, each in zip(wholes, observations, strict=True)
    ]
    return max(LEAST_QUANTILE, float(np.quantile(errors, min(1.0, COVERAGE * (1 + 1 / len(errors))))))


def _out_of_fold(networks: Sequence[Sequence[KernelTime]], folds: Sequence[int]) -> list[list[Guess]]:
    found: list[list[Guess]] = [[] for _ in networks]
    for number in sorted(set(folds)):
        inside = [network for network, fold in zip(networks, folds, strict=True) if fold != number]
        model = fit_kernels(by_path(inside), trees=FOLD_TREES)
        for place, fold in enumerate(folds):
            if fold == number:
                found[place] = untimed_guesses(model, networks[place])
    return found


def untimed_guesses(model: KernelModel, network: Sequence[KernelTime]) -> list[Guess]:
    """As ``LatencyPredictor`` makes them where it has timed no kernel: what the network takes it does not know."""
    rough = sum(rough_us(each.kernel) for each in network)
    first, _ = model.predict(placed(in_pause(network, rough, ROUGH_STEPS)))
    us, spread = model.predict(placed(in_pause(network, float(first.sum()))))
    return [
        Guess(us=time, spread=doubt, path=each.described.path, timed=False)
        for time, doubt, each in zip(us.tolist(), spread.tolist(), network, strict=True)
    ]


def _spreads(networks: Sequence[Sequence[KernelTime]], guesses: Sequence[Sequence[Guess]]) -> dict[str, float]:
    """Path → root of the mean square of the logarithm of guessed over timed."""
    found: dict[str, list[tuple[float, float]]] = {}
    for network, guessed in zip(networks, guesses, strict=True):
        for each, guess in zip(network, guessed, strict=True):
            found.setdefault(guess.path, []).append((each.us, guess.us))
    return {path: _spread(np.array(pairs)) for path, pairs in found.items()}


def _spread(pairs: Floats) -> float:
    """At most what kernels are off of which nothing like it was timed: left out, a path of one family is such a one."""
    errors = np.log(pairs[:, 1] / pairs[:, 0])
    return min(UNRELATED_SPREAD, float(np.sqrt(np.average(errors**2, weights=weights(pairs[:, 0]) ** 2))))


def _with_spreads(guesses: Sequence[Sequence[Guess]], spreads: dict[str, float]) -> list[list[Guess]]:
    return [
        [replace(guess, spread=float(np.hypot(guess.spread, spreads.get(guess.path, 0.0)))) for guess in network]
        for network in guesses
    ]


def _corrections(model: KernelModel, networks: Sequence[Sequence[KernelTime]]) -> dict[str, float]:
    """Digest of a kernel → logarithm of its time over what the model says, less for kernels that were timed once."""
    found: dict[str, list[float]] = {}
    every = [each for network in networks for each in network]
    us, _ = model.predict(placed(every))
    for each, guess in zip(every, us.tolist(), strict=True):
        found.setdefault(digest(each.kernel.signature), []).append(float(np.log(each.us / guess)))
    return {name: float(np.mean(logs)) * len(logs) / (len(logs) + DOUBT) for name, logs in found.items()}
