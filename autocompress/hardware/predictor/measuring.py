"""Networks that were drawn, measured: each becomes an observation, or the reason why not."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autocompress.clock import now
from autocompress.errors import MeasurementError
from autocompress.hardware.drawn.draw import Drawn
from autocompress.hardware.each_file import measured_each
from autocompress.hardware.kernels.runtime_graph import graph_of
from autocompress.hardware.predictor.observation import Observation, observation_of
from autocompress.target import Target


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How one file is measured: the lower quartile of ``rounds`` windows of single runs, and a profile of its kernels.

    Short, as many files teach more than exact ones.
    """

    rounds: int = 2
    window_ms: float = 40.0
    warm_up_ms: float = 0.0
    profile_ms: float = 60.0
    patience: float = 0.75  # the share of the time that may pass waiting: what was not calm is of no use
    silence_s: float = 60.0  # a file that takes longer is given up

    def plan(self, target: Target) -> dict[str, Any]:
        """As ``runner.py`` wants it."""
        return {
            "threads": target.threads,
            "batch": target.batch,
            "rounds": self.rounds,
            "window_ms": self.window_ms,
            "warm_up_ms": self.warm_up_ms,
            "profile_ms": self.profile_ms,
            "patience": self.patience,
            "seed": 0,
        }


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A network that could not be measured."""

    name: str
    reason: str


def observe_drawn(drawn: Sequence[Drawn], target: Target, protocol: Protocol) -> Iterator[Observation | Failure]:
    """What was measured of each network, in order, each as soon as it is known.

    Args:
        drawn: all of them must fit on the disk at once.
        target: runtime, threads and batch.
        protocol: how long to measure each.
    """
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        files = []
        for place, each in enumerate(drawn):
            files.append(Path(folder, f"{place}.onnx"))
            files[-1].write_bytes(each.proto)
        for line in measured_each("kernels", files, silence_s=protocol.silence_s, **protocol.plan(target)):
            assert line.file is not None
            about = drawn[line.file]
            if line.kind == "error":
                yield Failure(name=about.name, reason=str(line.content["message"]))
            else:
                yield observation_from(
                    line.content,
                    target.batch,
                    name=about.name,
                    family=about.family,
                    precision=about.precision,
                    source="profile",
                    at=now(),
                )


def observation_from(seen: Mapping[str, Any], batch: int, *, name: str, **about: str) -> Observation | Failure:
    """What ``runner.timed_kernels`` reported, as an observation; ``about`` as in ``observation_of``."""
    try:
        graph = graph_of(seen, batch)
    except MeasurementError as error:
        return Failure(name=name, reason=str(error))
    return observation_of(
        graph,
        tuple(seen["rounds_us"]),
        name=name,
        reference_ms=seen.get("reference_ms"),
        disturbed=seen.get("disturbed", 0.0),
        unrest=seen.get("unrest", 0.0),
        **about,
    )
