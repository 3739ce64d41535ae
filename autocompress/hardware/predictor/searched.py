"""What searches measured, kept beside a profile: it shifts the predictor, and shows when the machine has changed.

Such a file's kernels were not timed one by one, so the fit has no use for it; its time as a whole tells how far off
predictions lie by now.
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
RECENT = 30  # files that shift the predictor; a fresh profile counts as DOUBT of them
DOUBT = 10.0
LAST = 10  # files that drift is seen from
MOST_DRIFT = 0.05


def keep_searched(folder: Path, measured: Sequence[tuple[RuntimeGraph, float]]) -> None:
    """Add files with their measured milliseconds to the profile in ``folder``."""
    append_to_log(folder / SEARCHED, [_observation(graph, ms) for graph, ms in measured])


def shifted(folder: Path, predictor: LatencyPredictor) -> tuple[LatencyPredictor, tuple[str, ...]]:
    """The predictor as recent searches correct it, and a note where they show that it has drifted.

    Raises:
        ProfileError: a line of the log that is no observation; names it.
    """
    found, notes = read_log(folder / SEARCHED)
    recent = found[-RECENT:]
    if not recent:
        return predictor, notes
    predicted, *_ = predictor.predict_many([[kernel for kernel, _ in each.parsed()] for each in recent])
    logs = np.log([each.median_us / 1e3 for each in recent]) - np.log(predicted)
    drift = exp(float(np.median(logs[-LAST:]))) - 1
    if len(logs) >= LAST and abs(drift) > MOST_DRIFT:
        way = "longer" if drift > 0 else "less"
        took = f"the last {LAST} files that searches measured took {abs(drift):.0%} {way} than predicted"
        notes += (f"{took}: the machine is not as it was; `autocompress profile --out DIR` makes a new profile",)
    shift = float(np.median(logs)) * len(logs) / (len(logs) + DOUBT)
    return replace(predictor, scale=predictor.scale * exp(shift)), notes


def _observation(graph: RuntimeGraph, ms: float) -> Observation:
    signatures = "\n".join(placed.kernel.signature for placed in graph.kernels)
    untimed = replace(graph, kernels=tuple(replace(placed, us=None) for placed in graph.kernels))
    return observation_of(
        untimed, (ms * 1e3,), name=f"search-{digest(signatures)}", family="search", precision="", at=now(),
        source="search",
    )  # fmt: skip
