"""Bytes that a layer's weight takes in the file, counted from its shape and how it is stored.

What is packed is counted as ``export.store`` packs it; where single weights are kept is taken to be random.
"""

from functools import lru_cache

import numpy as np

from autocompress.export.stored_weights import StoredWeight, stored_bytes
from autocompress.linalg.bit_planes import plane_widths
from autocompress.precision import Format
from autocompress.search.allocation.parts import Part

_BYTE = 8
_FLOAT = 4
_MORE_NODES = 330  # of the nodes that decode gaps, over those that decode a bitmap; see ``export.decoding``
_SAMPLE = (16, 16, 3, 3)  # shapes of which nodes and headers are counted
_OTHER_SAMPLE = (8, 32, 3, 3)
_GAP_BITS = range(2, 9)


def part_bytes(part: Part) -> float:
    """Of the weight with its scales and of the bias; nodes of decoding included, those that compute are not."""
    c_out = part.layer.c_out
    bias = _FLOAT * c_out if part.has_bias else 0.0
    if part.is_int8:
        bias *= 2  # 32-bit integers, and their scale
    scale = _FLOAT * c_out if part.is_int8 else 0.0
    return (0.0 if part.is_copy else _weight_bytes(part)) + scale + bias


def _weight_bytes(part: Part) -> float:
    """In the form of fewest bytes."""
    plain = part.weights * (1.0 if part.is_int8 else _FLOAT)
    forms = [plain]
    if part.codebook is not None:
        forms = [_coded(part, part.codebook, has_table=True)]
    elif part.is_int8 and (part.form.bits or _BYTE) < _BYTE:
        forms.append(_coded(part, part.form.bits or _BYTE, has_table=False))
    if part.sparsity and part.codebook is None:
        forms.append(_sparse_values(part))
    elif part.form is Format.FP16:
        forms.append(part.weights * 2.0 + _nodes(None, has_table=False, is_sparse=False, is_int8=False))
    return min(*forms, plain)


def _coded(part: Part, bits: int, *, has_table: bool) -> float:
    found = _planes(_kept(part), bits) + _mask(part)
    if has_table:
        found += (2**bits + (part.sparsity > 0)) * (1 if part.is_int8 else _FLOAT)
        # Float values of a codebook are multiplied by what BatchNorm does to each channel.
        found += 0 if part.is_int8 or part.layer.kind == "Linear" else _FLOAT * part.layer.c_out
    return found + _nodes(bits, has_table=has_table, is_sparse=part.sparsity > 0, is_int8=part.is_int8)


def _sparse_values(part: Part) -> float:
    size = 1 if part.is_int8 else 2 if part.form is Format.FP16 else _FLOAT
    nodes = _nodes(None, has_table=False, is_sparse=True, is_int8=part.is_int8)
    return (_kept(part) + 1) * size + _mask(part) + nodes


def _kept(part: Part) -> int:
    return part.weights - int(part.sparsity * part.weights)


def _planes(count: float, bits: int) -> float:
    return float(sum(-(-count * width // _BYTE) for width in plane_widths(bits)))


def _mask(part: Part) -> float:
    """A bitmap, or the codes of the distances between kept places where those are geometric."""
    if not part.sparsity:
        return 0.0
    bitmap, kept = part.weights / _BYTE, _kept(part)
    codes = (kept * (1 + part.sparsity**skip / (1 - part.sparsity**skip)) for skip in (2**b - 1 for b in _GAP_BITS))
    gaps = min(_planes(count, bits) for count, bits in zip(codes, _GAP_BITS, strict=True)) + _MORE_NODES
    return min(bitmap, gaps)


@lru_cache
def _nodes(bits: int | None, *, has_table: bool, is_sparse: bool, is_int8: bool) -> float:
    """What the nodes that decode one more weight take, with the headers of its constants."""
    first, second = (
        _sample(shape, bits, has_table=has_table, is_sparse=is_sparse, is_int8=is_int8)
        for shape in (_SAMPLE, _OTHER_SAMPLE)
    )
    return stored_bytes(first, second) - stored_bytes(first) - _data_bytes(second)


def _sample(
    shape: tuple[int, ...], bits: int | None, *, has_table: bool, is_sparse: bool, is_int8: bool
) -> StoredWeight:
    rng = np.random.default_rng(shape[0])
    kept = rng.random(shape) < 0.5 if is_sparse else None
    count = int(np.prod(shape)) if kept is None else int(kept.sum())
    if bits is None:
        dtype = np.int8 if is_int8 else np.float32 if is_sparse else np.float16
        return StoredWeight(shape=shape, codes=rng.integers(1, 100, count).astype(dtype), kept=kept)
    table = rng.integers(-100, 100, (1, 2**bits)).astype(np.int8 if is_int8 else np.float32) if has_table else None
    scale = None if is_int8 else rng.random((shape[0], 1, 1, 1)).astype(np.float32)
    codes = rng.integers(0, 2**bits, count).astype(np.uint8)
    return StoredWeight(shape=shape, codes=codes, bits=bits, table=table, kept=kept, scale=scale)


def _data_bytes(weight: StoredWeight) -> float:
    mask = 0.0 if weight.kept is None else weight.kept.size / _BYTE
    scale = 0 if weight.scale is None else weight.scale.nbytes
    if weight.bits is None:
        return float((weight.codes.size + (weight.kept is not None)) * weight.codes.itemsize + mask + scale)
    table = 0
    if weight.table is not None:
        table = weight.table.nbytes + (weight.kept is not None) * weight.table.itemsize
    return _planes(weight.codes.size, weight.bits) + table + mask + scale
