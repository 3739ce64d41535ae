"""Operators that multiply and have no description of their own: amounts of work that all kinds of kernel count alike.

Rates of what only moves numbers would say nothing of them: a transposed convolution is no copy.
"""

from typing import NamedTuple

from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.paths.description import Description, log
from autocompress.hardware.kernels.work import work_of


class Terms(NamedTuple):
    """Amounts of work, those of convolutions and products at the same places."""

    starts: float
    vector_steps: float  # not known
    macs: float
    tiles: float  # not known
    read_bytes: float
    written_bytes: float


class Features(NamedTuple):
    """Amounts as logarithms."""

    macs: float
    read_bytes: float
    written_bytes: float


def other(kernel: Kernel) -> Description:
    """Any operator of ``work.MULTIPLIERS`` as numbers."""
    macs, _ = work_of(kernel)
    read_bytes = sum(tensor.bytes for tensor in kernel.inputs if tensor.dtype)
    written_bytes = sum(tensor.bytes for tensor in kernel.outputs)
    terms = Terms(
        starts=1.0, vector_steps=0.0, macs=float(macs), tiles=0.0, read_bytes=read_bytes, written_bytes=written_bytes
    )
    features = Features(macs=log(macs), read_bytes=log(read_bytes), written_bytes=log(written_bytes))
    return Description(f"other:{kernel.op}", terms, features)
