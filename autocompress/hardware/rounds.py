"""Statistics of timing rounds: which were calm, and what the calm ones say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autocompress.measurement import Interval, Latency

Floats = npt.NDArray[np.float64]

MOST_DISTURBANCE = 0.05  # of a kept round: how far the reference kernel may be from its median
# Of a neighbour's processor time that a small inference loses: on two virtual cores a neighbour at full speed made one
# of 0.24 ms take 0.38 ms. A third lets pass what uses less than a seventh of a core.
NEIGHBOUR_SHARE = 1 / 3
NOISY_HALF_WIDTH = 0.03  # of the interval, as a share of the median
FEWEST_ROUNDS = 3  # fewer say nothing about their spread
FEWEST_SHARES = 6  # below that the ends of their interval are the least and the most
RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Single runs of one file: ``rounds_us[round][run]``."""

    load_ms: float
    rounds_us: Sequence[Sequence[float]]


def disturbances(
    *,
    reference_ms: Sequence[float],
    reference_cpu_ms: Sequence[float],
    round_ms: Sequence[float],
    waited_ms: Sequence[float],
    stolen_ms: Sequence[float],
    others_ms: Sequence[float],
    unrest: Sequence[float],
) -> Floats:
    """How disturbed each round was, as a share of time; references are of before the first and after every round.

    The largest of five: how far the reference kernel on either side of the round is from its usual time, how long
    the process waited for a processor, how long the hypervisor withheld one, a share of what other programs used
    of the other cores: they take caches and memory away without a trace in this process's clocks; and the unrest,
    beyond that of calm moments. The usual time is the median of the reference's processor time, not
    of its wall time: that one stays low even if something else ran all along.
    """
    deviation = np.abs(np.asarray(reference_ms) / np.median(reference_cpu_ms) - 1)
    taken = [np.asarray(waited_ms), np.asarray(stolen_ms), NEIGHBOUR_SHARE * np.asarray(others_ms)]
    withheld = np.max(taken, axis=0) / np.asarray(round_ms)
    beyond = np.maximum(0.0, np.asarray(unrest) - 1)
    disturbed: Floats = np.max([deviation[:-1], deviation[1:], withheld, beyond], axis=0)
    return disturbed


def calm_rounds(disturbance: Floats) -> npt.NDArray[np.intp]:
    """The rounds to keep, in order: all that are calm enough, and at least the calmer half."""
    n_calm = int(np.sum(disturbance <= MOST_DISTURBANCE))
    n_kept = max(n_calm, -(-len(disturbance) // 2))
    return np.sort(np.argsort(disturbance, kind="stable")[:n_kept])


def summarize(
    timed: Timed,
    disturbance: Floats,
    unrest: Sequence[float],
    *,
    threads: int,
    seed: int,
    beside: Timed | None = None,
) -> Latency:
    """The latency that the calm rounds show; ``unrest`` is of each round, as the runner reads it.

    ``beside``: the file that shares are of, measured in the same rounds.
    """
    kept = calm_rounds(disturbance)
    runs_ms = [np.asarray(timed.rounds_us[index]) / 1e3 for index in kept]
    medians = np.array([np.median(runs) for runs in runs_ms])
    shares = None
    if beside is not None and len(kept) >= FEWEST_SHARES:
        shares = medians / [np.median(beside.rounds_us[index]) / 1e3 for index in kept]
    median = float(np.median(medians))
    interval = median_interval(medians, seed=seed)
    return Latency(
        median_ms=median,
        p95_ms=float(np.quantile(np.concatenate(runs_ms), 0.95)),
        interval_ms=interval,
        share_interval=None if shares is None else median_interval(shares, seed=seed),
        rounds=len(kept),
        rejected_rounds=len(disturbance) - len(kept),
        runs=sum(map(len, runs_ms)),
        load_ms=timed.load_ms,
        threads=threads,
        noisy=len(kept) < FEWEST_ROUNDS
        or bool(disturbance[kept].max() > MOST_DISTURBANCE)
        or (interval[1] - interval[0]) / 2 > NOISY_HALF_WIDTH * median,
        unrest=float(np.median(np.asarray(unrest)[kept])),
    )


def median_interval(values: npt.NDArray[Any], *, seed: int) -> Interval:
    """95 % bootstrap interval of the median of ``values``."""
    rng = np.random.default_rng(seed)
    resampled = np.median(rng.choice(values, size=(RESAMPLES, len(values))), axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def half_width_ratio(latency: Latency) -> float:
    """Half the width of the interval as a share of the median."""
    low, high = latency.interval_ms
    return (high - low) / 2 / latency.median_ms
