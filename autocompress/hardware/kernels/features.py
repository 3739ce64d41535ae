"""What a kernel's time follows from: the path through the runtime that it takes, its amounts of work, its shape.

A path is one piece of code in the runtime, so time is a smooth function of shape within it and jumps between paths:
ONNX Runtime computes float convolutions in a layout of channel blocks or, where widths do not fit it, through a matrix
product; depthwise convolutions and those of 8-bit integers have code of their own. (onnxruntime/core/mlas/lib: snchwc,
convolve, qdwconv, qgemm; core/optimizer/nchwc_transformer.cc.)
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import log2

from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.paths.convolutions import convolution
from autocompress.hardware.kernels.paths.description import Description, log
from autocompress.hardware.kernels.paths.moves import move
from autocompress.hardware.kernels.paths.products import FLOAT_PRODUCTS, INTEGER_PRODUCTS, packed_product, product
from autocompress.hardware.kernels.paths.recurrent import GATES, recurrent

STEPS_PER_OCTAVE = 2.0
BUFFERS = 2.0  # of the largest size: the runtime gives the memory of dead tensors to later ones
NEAR_BYTES = 0.5e6  # about half of the caches of a core
FAR_OCTAVES = 2.0  # above it, and all weights come from memory

_DESCRIBERS: Mapping[str, Callable[[Kernel], Description]] = {
    **dict.fromkeys(("Conv", "FusedConv", "QLinearConv"), convolution),
    **dict.fromkeys(FLOAT_PRODUCTS | INTEGER_PRODUCTS, product),
    "MatMulNBits": packed_product,
    **dict.fromkeys(GATES, recurrent),
}


@dataclass(frozen=True)
class Context:
    """What else a network moves through the caches between two runs of a kernel.

    ``stored_bytes``: its weights; ``touched_bytes``: those and the buffers of its activations. A kernel's weights are
    read from nearby in a small network and from memory in a large one: the same depthwise convolution takes up to twice
    as long. Both are rounded to half octaves: finer tells networks apart that do not differ.
    """

    stored_bytes: float
    touched_bytes: float

    @classmethod
    def of(cls, kernels: Iterable[Kernel]) -> "Context":
        """Of one network."""
        stored = largest = 0.0
        for kernel in kernels:
            stored += kernel.stored_bytes
            largest = max(largest, kernel.moved_bytes)
        return cls.of_sizes(stored, largest)

    @classmethod
    def of_sizes(cls, stored: float, largest: float) -> "Context":
        """Of a network's stored bytes, and the most that one of its kernels moves."""
        return cls(_rounded(stored), _rounded(stored + BUFFERS * largest))


def _rounded(size: float) -> float:
    steps = round(log2(max(size, 1.0)) * STEPS_PER_OCTAVE)
    return float(2.0 ** (steps / STEPS_PER_OCTAVE))


def describe(kernel: Kernel, context: Context) -> Description:
    """The kernel in its network as numbers; an operator that is not known moves numbers."""
    found = _DESCRIBERS.get(kernel.operator, move)(kernel)
    own = kernel.stored_bytes
    far = min(1.0, max(0.0, log2(max(context.touched_bytes, 1.0) / NEAR_BYTES) / FAR_OCTAVES))
    return Description(
        path=found.path,
        terms=(*found.terms, own * far),
        features=(*found.features, log(own), log(context.stored_bytes), log(context.touched_bytes)),
    )
