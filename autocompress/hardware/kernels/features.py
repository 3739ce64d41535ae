"""What a kernel's time follows from: the path through the runtime that it takes, its amounts of work, its shape.

A path is one piece of code in the runtime, so time is a smooth function of shape within it and jumps between paths:
ONNX Runtime computes float convolutions in a layout of channel blocks or, where widths do not fit it, through a matrix
product; depthwise convolutions and those of 8-bit integers have code of their own. (onnxruntime/core/mlas/lib: snchwc,
convolve, qdwconv, qgemm; core/optimizer/nchwc_transformer.cc.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.paths.convolutions import convolution
from autocompress.hardware.kernels.paths.description import LEAST, Description
from autocompress.hardware.kernels.paths.moves import move
from autocompress.hardware.kernels.paths.others import other
from autocompress.hardware.kernels.paths.products import FLOAT_PRODUCTS, INTEGER_PRODUCTS, packed_product, product
from autocompress.hardware.kernels.paths.recurrent import GATES, recurrent
from autocompress.hardware.kernels.work import MULTIPLIERS, work_of

STEPS_PER_OCTAVE, ROUGH_STEPS = 2.0, 0.5  # of contexts; of those that a first answer is made in
# Weights come the slower the longer ago they were read: other kernels, and other programs of a processor whose outer
# caches are shared, push them out. Between one of these times and the next, the share of those that come from further
# away grows with the logarithm.
PAUSES_US = (100.0, 400.0, 1_600.0, 6_400.0)
# A kernel's time to within a factor or two, of one core of a server: a first answer starts from it.
FLOAT_MACS_A_US, INTEGER_MACS_A_US, BYTES_A_US, START_US = 1e5, 2.5e5, 5e4, 0.7
TERMS = 10  # of the kind of kernel that has most: those of all kinds are fitted together where a path is not known
_INTEGERS = frozenset({"int8", "uint8"})

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

_DESCRIBERS: Mapping[str, Callable[[Kernel], Description]] = {
    **dict.fromkeys(MULTIPLIERS, other),
    **dict.fromkeys(("Conv", "FusedConv", "QLinearConv"), convolution),
    **dict.fromkeys(FLOAT_PRODUCTS | INTEGER_PRODUCTS, product),
    "MatMulNBits": packed_product,
    **dict.fromkeys(GATES, recurrent),
}


@dataclass(frozen=True)
class Context:
    """What else a network does between two runs of a kernel.

    ``stored_bytes``: all its weights; ``pause_us``: how long it takes. A kernel's weights are read from nearby in a
    small and fast network and from memory in another, where the same product takes longer; also of two networks with
    equal weights in the slower one, for meanwhile other guests of the machine use its outer caches. Both are rounded to
    half octaves: finer tells networks apart that do not differ.
    """

    stored_bytes: float
    pause_us: float

    @classmethod
    def of_sums(cls, stored: float, pause: float, steps: float = STEPS_PER_OCTAVE) -> "Context":
        """Of a network's stored bytes, and the sum of its kernels' times; rounded to ``steps`` per octave."""
        return cls(_rounded(stored, steps), _rounded(pause, steps))


def rough_us(kernel: Kernel) -> float:
    """A kernel's time from its amounts of work alone."""
    macs, _ = work_of(kernel)
    is_integer = bool(kernel.inputs) and kernel.inputs[0].dtype in _INTEGERS
    moved = kernel.stored_bytes + kernel.moved_bytes
    return START_US + macs / (INTEGER_MACS_A_US if is_integer else FLOAT_MACS_A_US) + moved / BYTES_A_US


def _rounded(size: float, steps: float) -> float:
    return float(2.0 ** (round(log2(max(size, 1.0)) * steps) / steps))


def describe(kernel: Kernel) -> Description:
    """The kernel as numbers, wherever it runs; an operator that is not known moves numbers."""
    found = _DESCRIBERS.get(kernel.operator, move)(kernel)
    # What a kernel only picks from or moves is small, and little of it is read.
    own = 0.0 if found.path.startswith("move_") else kernel.stored_bytes
    return Description(
        path=found.path,
        terms=(*found.terms, *[0.0] * (TERMS - len(found.terms))),
        features=tuple(found.features),
        read_bytes=own,
    )


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Kernels of one path in their networks: ``places [n]`` among all, ``terms [n, t]``, ``features [n, f]``."""

    places: Ints
    terms: Floats
    features: Floats


def in_contexts(described: Sequence[Description], contexts: Sequence[Context]) -> dict[str, Placed]:
    """Path → its kernels, each in the context beside it, which adds terms and features."""
    found: dict[str, list[int]] = {}
    for place, each in enumerate(described):
        found.setdefault(each.path, []).append(place)
    beside = np.array([(each.stored_bytes, each.pause_us) for each in contexts])
    return {
        path: with_contexts(np.array(places), np.array([described[place].numbers for place in places]), beside[places])
        for path, places in found.items()
    }


def with_contexts(places: Ints, numbers: Floats, contexts: Floats) -> Placed:
    """Kernels of one path by the ``numbers [n, …]`` of their descriptions; ``contexts [n, 2]`` are theirs."""
    terms, own, features = numbers[:, :TERMS], numbers[:, TERMS], numbers[:, TERMS + 1 :]
    stored, pause = contexts.T
    octaves = np.log2(np.maximum(pause, 1.0))
    far = [np.clip((octaves - log2(a)) / log2(b / a), 0.0, 1.0) for a, b in pairwise(PAUSES_US)]
    logs = np.log2(np.maximum([own, stored, pause], LEAST))
    return Placed(
        places=places,
        terms=np.column_stack([terms, *(own * share for share in far)]),
        features=np.column_stack([features, *logs]),
    )
