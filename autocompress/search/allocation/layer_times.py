"""Milliseconds of a layer at other widths and ranks, from what its kernels took in the network's own two uniform files.

What was measured of a layer changes with its estimated work (``graph.layer_cost``); what runs around it, with its
output channels. Between layers that compute in integers and in floating point, values are rounded or made floats.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from autocompress.facts import Facts
from autocompress.graph.layer_cost import NANOSECONDS, Term, cost_terms, estimated_time
from autocompress.graph.layer_table import LayerFacts
from autocompress.hardware.child import run_runner
from autocompress.hardware.kernels.labels import labelled, times_by_layer
from autocompress.hardware.kernels.runtime_graph import graph_of
from autocompress.search.allocation.parts import Part
from autocompress.target import Target

# Integer products against float ones of the same size, measured on AMD EPYC (AVX-512 VNNI), ONNX Runtime 1.31: a
# ResNet-18 runs 3.4 times as fast. Values that a convolution writes out first are a quarter of the bytes.
INT8_SPEED = {Term.MATRIX: 3.5, Term.DEPTHWISE: 1.0, Term.UNFOLDED: 2.0, Term.WEIGHTS: 4.0}
ROUND_NS = 0.2  # of one value that becomes an integer or a float where arithmetic changes, and
ROUND_CALL_NS = 1500.0  # of each such place

_PROFILE = {"rounds": 4, "window_ms": 30.0, "warm_up_ms": 15.0, "profile_ms": 100.0, "seed": 0}
_SILENCE_S = 120.0


class FileTimes(Facts):
    """Of one file: of each layer the milliseconds of its kernels with weights and of those around it; the rest.

    They add up to ``total_ms``, measured without a profile.
    """

    weighted_ms: tuple[float, ...]
    around_ms: tuple[float, ...]
    beside_ms: float

    @property
    def total_ms(self) -> float:
        """Of one inference."""
        return sum(self.weighted_ms) + sum(self.around_ms) + self.beside_ms

    def scaled_to(self, total_ms: float) -> "FileTimes":
        """The same shares of another total."""
        factor = total_ms / self.total_ms
        return FileTimes(
            weighted_ms=tuple(ms * factor for ms in self.weighted_ms),
            around_ms=tuple(ms * factor for ms in self.around_ms),
            beside_ms=self.beside_ms * factor,
        )


def time_layers(files: Sequence[bytes], layers: Sequence[LayerFacts], target: Target) -> list[FileTimes]:
    """The times of each file's layers, measured alone on this machine, in about half a second a file.

    Raises:
        MeasurementError: the runtime cannot run a file.
    """
    names = [layer.name for layer in layers]
    with TemporaryDirectory(prefix="autocompress-") as folder:
        paths = []
        for place, file in enumerate(files):
            paths.append(Path(folder, f"{place}.onnx"))
            paths[-1].write_bytes(labelled(file, names))
        plan = {**_PROFILE, "threads": target.threads, "batch": target.batch}
        lines = run_runner("kernels", paths, timeout_s=_SILENCE_S * len(paths), **plan)
    return [_times_of(line.content, len(names), target.batch) for line in lines if line.kind == "kernels"]


def estimated_times(layers: Sequence[LayerFacts], channel_block: int, total_ms: float) -> FileTimes:
    """Shares of a float file's time by estimate, where none was measured."""
    weighted = tuple(estimated_time([layer], channel_block) / 1e6 for layer in layers)
    plain = FileTimes(weighted_ms=weighted, around_ms=(0.0,) * len(layers), beside_ms=0.0)
    return plain.scaled_to(total_ms)


def part_ns(part: Part, channel_block: int) -> float:
    """The estimated time of a part; only ratios between parts of the same arithmetic mean something."""
    if not part.is_int8:
        return estimated_time([part.layer], channel_block)
    # Integer convolutions are matrix products: their widths need not divide by the block of a layout.
    terms = cost_terms(part.layer, channel_block)
    window = int(np.prod(part.layer.kernel))
    if Term.DEPTHWISE not in terms:
        columns = part.layer.c_in // part.layer.groups * window
        steps = part.layer.positions * -(-part.layer.c_out // channel_block) * columns
        unfolded = part.layer.positions * part.layer.c_in * window if window > 1 else 0
        terms = {Term.MATRIX: steps, Term.UNFOLDED: unfolded, Term.WEIGHTS: terms[Term.WEIGHTS], Term.KERNELS: 1.0}
    return sum(NANOSECONDS[term] * amount / INT8_SPEED.get(term, 1.0) for term, amount in terms.items())


def as_base(layer: LayerFacts, like: Part) -> Part:
    """The uncompressed layer in the arithmetic of a part."""
    return replace(like, layer=layer, codebook=None, sparsity=0.0)


def _times_of(seen: dict[str, Any], n_layers: int, batch: int) -> FileTimes:
    beside, *of_layers = times_by_layer(graph_of(seen, batch), n_layers)
    profiled = FileTimes(
        weighted_ms=tuple(weighted / 1e3 for weighted, _ in of_layers),
        around_ms=tuple(around / 1e3 for _, around in of_layers),
        beside_ms=sum(beside) / 1e3,
    )
    return profiled.scaled_to(float(np.median(seen["rounds_us"])) / 1e3)
