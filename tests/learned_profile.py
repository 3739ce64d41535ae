"""A predictor fitted on a few files whose kernels take as long as a formula says, and a profile that holds them."""

import tempfile
from functools import lru_cache
from pathlib import Path

from tiny_onnx import dense_file

from autocompress.hardware.kept import Circumstances
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph, runtime_graph
from autocompress.hardware.predictor import profile as profiles
from autocompress.hardware.predictor.fit import fit
from autocompress.hardware.predictor.kept_fit import digest_of, refit
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.predictor import LatencyPredictor
from autocompress.target import Target

WIDTHS = tuple(16 * number for number in range(2, 26))
HERE = Circumstances(cpu="made up", isa=(), onnxruntime="1")


@lru_cache
def graph_of_dense(width: int) -> RuntimeGraph:
    """The runtime's graph of one dense layer."""
    with tempfile.TemporaryDirectory() as folder:
        return runtime_graph(dense_file(Path(folder, "dense.onnx"), width=width, n_outputs=width), Target())


def bytes_of_dense(width: int) -> bytes:
    """The same as a file."""
    with tempfile.TemporaryDirectory() as folder:
        return dense_file(Path(folder, "dense.onnx"), width=width, n_outputs=width).read_bytes()


def us_of_dense(width: int) -> float:
    """Microseconds of the layer."""
    return 20.0 + 0.01 * width**2


@lru_cache
def observations() -> tuple[Observation, ...]:
    """One of each width."""
    return tuple(_observation(width) for width in WIDTHS)


def _observation(width: int) -> Observation:
    graph, us = graph_of_dense(width), us_of_dense(width)
    share = us / len(graph.kernels)
    return Observation(
        name=f"dense-{width}",
        family=f"dense-{width % 5}",
        precision="fp32",
        measured_at="2026-01-01T00:00:00+00:00",
        rounds_us=(us + 5.0, us + 5.0),
        kernels=tuple((*placed.kernel.to_data(), share) for placed in graph.kernels),
    )


@lru_cache
def predictor() -> LatencyPredictor:
    """Fitted on all of them."""
    return fit(observations(), HERE)


def learned_profile(folder: Path, circumstances: Circumstances = HERE) -> Path:
    """A profile that holds them, with its fit."""
    facts = profiles.opened(folder, circumstances)
    profiles.append(folder, observations())
    refit(folder, facts, observations(), digest=digest_of(folder))
    return folder
