"""Where the few kept places of a sparse weight lie, as the distances between them in codes of few bits."""

import numpy as np

from autocompress.linalg.bit_planes import plane_widths
from autocompress.task import Array

_CODE_BITS = range(2, 9)


def gap_codes(kept: Array, bits: int) -> Array:
    """uint8 codes in the order of the places: how many places are skipped before the next kept one.

    The highest code, ``2**bits - 1``, skips as many and keeps none.

    Args:
        kept: bool, any shape.
        bits: of a code, 2 to 8.

    Source:
        Han et al. 2016, sec. 2, https://arxiv.org/abs/1510.00149; there a skip that is too long keeps a zero, and so
        costs the bits of a value too.
    """
    skip = 2**bits - 1
    gaps = np.diff(np.flatnonzero(kept), prepend=-1) - 1
    ends = np.cumsum(gaps // skip + 1) - 1
    codes = np.full(int(ends[-1]) + 1 if len(ends) else 0, skip, np.uint8)
    codes[ends] = gaps % skip
    return codes


def kept_of(codes: Array, bits: int, n: int) -> Array:
    """The bool ``[n]`` that :func:`gap_codes` made the codes of."""
    keeps = codes != 2**bits - 1
    places = np.cumsum(codes.astype(int) + keeps) - 1
    kept = np.zeros(n, bool)
    kept[places[keeps]] = True
    return kept


def best_bits(kept: Array) -> tuple[int, int]:
    """The bits of gap codes that take the fewest bytes, and the bytes."""
    gaps = np.diff(np.flatnonzero(kept), prepend=-1) - 1
    sizes = {}
    for bits in _CODE_BITS:
        count = int((gaps // (2**bits - 1) + 1).sum())
        sizes[bits] = sum(-(-count * width // 8) for width in plane_widths(bits))
    best = min(sizes, key=lambda bits: sizes[bits])
    return best, sizes[best]
