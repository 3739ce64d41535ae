"""Codes of 1 to 8 bits in as few bytes as they need, in a form that shifts and masks decode.

A code is cut into planes of 4, 2 and 1 bits, the high bits first (7 = 4 + 2 + 1); a plane holds its part of every code,
8, 4 or 2 parts to a byte, the first in the lowest bits. No code crosses a byte, whatever its bits.
"""

import numpy as np

from autocompress.task import Array

MOST_BITS = 8
_WIDTHS = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}


def plane_widths(bits: int) -> tuple[int, ...]:
    """Bits of each plane, from the high bits of a code to the low ones.

    Raises:
        ValueError: ``bits`` lies outside 1 to 8.
    """
    if bits not in _WIDTHS:
        raise ValueError(f"codes must have 1 to {MOST_BITS} bits, got {bits}")
    return _WIDTHS[bits]


def pack(codes: Array, bits: int) -> list[Array]:
    """One uint8 array for each plane, of ``ceil(n * width / 8)`` bytes.

    Args:
        codes: ``[n]``, integers in ``[0, 2**bits)``.
        bits: 1 to 8.

    Raises:
        ValueError: a code does not fit ``bits``.
    """
    widths = plane_widths(bits)
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < 2**bits:
        raise ValueError(f"codes of {bits} bits must lie in [0, {2**bits - 1}], got {codes.min()} to {codes.max()}")
    planes, below = [], bits
    for width in widths:
        below -= width
        planes.append(_pack_plane(codes.astype(np.uint8) >> below & (2**width - 1), width))
    return planes


def unpack(planes: list[Array], bits: int, n: int) -> Array:
    """The codes that :func:`pack` packed: uint8 ``[n]``."""
    codes: Array = np.zeros(n, np.uint8)
    for plane, width in zip(planes, plane_widths(bits), strict=True):
        codes = codes << (width % 8) | _unpack_plane(plane, width)[:n]
    return codes


def shifts_of(width: int) -> Array:
    """By how many bits each part of a byte of a plane lies above the byte's lowest bit: uint8 ``[8 / width]``."""
    return np.arange(0, 8, width, dtype=np.uint8)


def _pack_plane(parts: Array, width: int) -> Array:
    shifts = shifts_of(width)
    missing = -len(parts) % len(shifts)
    rows = np.pad(parts, (0, missing)).reshape(-1, len(shifts))
    packed: Array = np.bitwise_or.reduce(rows << shifts, axis=1)
    return packed


def _unpack_plane(plane: Array, width: int) -> Array:
    parts: Array = plane[:, None] >> shifts_of(width) & np.uint8(2**width - 1)
    return parts.reshape(-1)
