"""What searches measured, kept beside a profile: it shifts the predictor, and shows when the machine has changed.

Such a file's kernels were not timed one by one, so the fit has no use for it; its time as a whole tells how far off
predictions lie by now. All recipes of one network are off by about as much, on any day: so one network says little of
the machine, however many of its recipes were measured, and several networks that agree say much.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import exp
from pathlib import Path

import numpy as np

from autocompress.clock import now
from autocompress.hardware.kernels.kernel import digest
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph
from autocompress.hardware.predictor.observation import Observation, observation_of
from autocompress.hardware.predictor.observation_log import append_to_log, read_log
from autocompress.hardware.predictor.predictor import LatencyPredictor

SEARCHED = "searched.jsonl"
RECENT = 60  # files that are looked at
LAST = 10  # of a network
DOUBT = 2.5  # networks that a fresh profile counts as: one is off by 8 %, a profile as a whole by some 5 %
FEWEST_FILES, FEWEST_NETWORKS = 10, 3  # that show drift
MOST_DRIFT, MOST_OF_ONE = 0.05, 0.25  # by several networks, and by fewer: none is off by so much itself


def keep_searched(folder: Path, measured: Sequence[tuple[RuntimeGraph, float]], network: str | None = None) -> None:
    """Add files with their measured milliseconds to the profile in ``folder``.

    ``network`` tells whose recipes they are; None where each is a network of its own.
    """
    append_to_log(folder / SEARCHED, [_observation(graph, ms, network) for graph, ms in measured])


def shifted(folder: Path, predictor: LatencyPredictor) -> tuple[LatencyPredictor, tuple[str, ...]]:
    """The predictor as recent searches correct it, and a note where they show that it has drifted.

    Raises:
        ProfileError: a line of the log that is no observation; names it.
    """
    recent, notes = read_log(folder / SEARCHED, last=RECENT)
    if not recent:
        return predictor, notes
    predicted, *_ = predictor.predict_many([[kernel for kernel, _ in each.parsed()] for each in recent])
    logs = np.log([each.median_us / 1e3 for each in recent]) - np.log(predicted)
    of_networks: dict[str, list[float]] = {}
    for each, log in zip(recent, logs.tolist(), strict=True):
        of_networks.setdefault(each.family, []).append(log)
    medians = [float(np.median(found[-LAST:])) for found in of_networks.values()]
    drift, files = exp(float(np.median(medians))) - 1, sum(len(found[-LAST:]) for found in of_networks.values())
    most = MOST_DRIFT if len(medians) >= FEWEST_NETWORKS else MOST_OF_ONE
    if files >= FEWEST_FILES and abs(drift) > most:
        way = "longer" if drift > 0 else "less"
        took = f"the last {files} files that searches measured took {abs(drift):.0%} {way} than predicted"
        notes += (f"{took}: the machine is not as it was; `autocompress profile --anew` measures its profile again",)
    shift = sum(medians) / (len(medians) + DOUBT)
    return replace(predictor, scale=predictor.scale * exp(shift)), notes


def _observation(graph: RuntimeGraph, ms: float, network: str | None) -> Observation:
    name = digest("\n".join(placed.kernel.signature for placed in graph.kernels))
    untimed = replace(graph, kernels=tuple(replace(placed, us=None) for placed in graph.kernels))
    return observation_of(
        untimed, (ms * 1e3,), name=f"search-{name}", family=network or name, precision="", at=now(), source="search"
    )
