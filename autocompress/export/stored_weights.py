"""Weights in fewer bits than the numbers that they stand for, decoded by ordinary operators.

Everything that decodes depends on constants alone, so ONNX Runtime does it once, when it loads the file: an inference
is that of the dense file. Codes lie in bit planes, what is kept in a bitmap or in gaps; see ``decoding.py``.

Loading takes longer and peaks higher: for eight convolutions of 0.6 million weights each 89 MB instead of 78 with
codebooks, 129 MB when they are sparse too (onnxruntime 1.31).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper

from autocompress.export.compact import compact
from autocompress.export.decoding import numbered, reshaped, unpacked
from autocompress.export.graph_builder import GraphBuilder
from autocompress.task import Array

FIRST_OPSET = 18  # that has BitwiseAnd
_PREFIX = "stored/"


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """A constant as codes: ``scale * table[codes]`` at the kept places, zero elsewhere.

    ``codes``: flat, in the order of the places, one for each kept place. With ``bits`` uint8 codes of so many bits;
    without, the values themselves in float32, float16 or int8.
    ``table``: the value of each code, float32 or int8: ``[entries]``, or ``[groups, entries]`` where index ``o`` of
    ``channel_axis`` uses row ``o * groups // c_out``. None: the integer ``code - 2**(bits - 1)``.
    ``kept``: bool of the weight's shape; None: all places.
    ``scale``: float32, of a shape that broadcasts to the weight's; multiplied last.

    The result is int8 where the table or the values are and there is no scale; else float32.
    """

    shape: tuple[int, ...]
    codes: Array
    bits: int | None = None
    table: Array | None = None
    channel_axis: int = 0
    kept: Array | None = None
    scale: Array | None = None

    def __post_init__(self) -> None:
        n_kept = int(np.prod(self.shape)) if self.kept is None else int(np.count_nonzero(self.kept))
        if self.codes.shape != (n_kept,):
            raise ValueError(f"codes must be one for each of the {n_kept} kept places, got {list(self.codes.shape)}")
        allowed = {"float32", "float16", "int8"} if self.bits is None else {"uint8"}
        if self.codes.dtype.name not in allowed:
            kind = "values" if self.bits is None else "codes"
            raise ValueError(f"{kind} must be {' or '.join(sorted(allowed))}, got {self.codes.dtype.name}")
        entries = self.rows.shape[1] if self.bits is not None else None
        if entries is not None and self.codes.size and int(self.codes.max()) >= entries:
            raise ValueError(f"codes into a table of {entries} must be smaller, got {self.codes.max()}")

    @property
    def rows(self) -> Array:
        """The table as ``[groups, entries]``."""
        assert self.bits is not None
        if self.table is None:
            half = 2 ** (self.bits - 1)
            return np.arange(-half, half, dtype=np.int8)[None]
        return self.table.reshape(-1, self.table.shape[-1])

    @property
    def row_of_place(self) -> Array:
        """Which row of the table a place uses, in a shape that broadcasts to the weight's."""
        c_out = self.shape[self.channel_axis]
        rows = np.arange(c_out) * len(self.rows) // c_out
        sizes = np.ones(len(self.shape), int)
        sizes[self.channel_axis] = c_out
        return rows.reshape(sizes)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the decoded constant."""
        stored = self.codes.dtype if self.bits is None else self.rows.dtype
        return np.dtype(np.int8 if stored == np.int8 and self.scale is None else np.float32)


def dense_of(weight: StoredWeight) -> Array:
    """The values that the file's weight has when it is decoded, to the last bit."""
    kept = np.ones(weight.shape, bool) if weight.kept is None else weight.kept
    values = weight.codes
    if weight.bits is not None:
        values = weight.rows[np.broadcast_to(weight.row_of_place, weight.shape)[kept], weight.codes]
    dense = np.zeros(weight.shape, weight.dtype)
    dense[kept] = values
    return dense if weight.scale is None else dense * weight.scale


def store(proto: ModelProto, weights: Mapping[str, StoredWeight]) -> ModelProto:
    """A copy of ``proto`` in which each named initializer is decoded, under its own name, from its stored form.

    Weights with equal codes, masks or tables share them. Names of what is added are long until ``compact`` cuts them.

    Raises:
        ValueError: a name, shape or type does not fit the file, or its opset has no bitwise operators.
    """
    version = next((each.version for each in proto.opset_import if each.domain in {"", "ai.onnx"}), 0)
    if version < FIRST_OPSET:
        raise ValueError(f"stored weights need opset {FIRST_OPSET}, got {version}; export with a later one")
    dense = {item.name: item for item in proto.graph.initializer}
    for name, weight in weights.items():
        _check_fit(name, weight, dense.get(name))
    decoding = _decoding(weights)
    result = ModelProto()
    result.CopyFrom(proto)
    nodes = list(result.graph.node)
    del result.graph.initializer[:], result.graph.node[:]
    result.graph.initializer.extend(item for name, item in dense.items() if name not in weights)
    result.graph.initializer.extend(decoding.initializer)
    result.graph.node.extend([*decoding.node, *nodes])
    return result


def stored_bytes(*weights: StoredWeight) -> int:
    """What the weights add to a file that ``compact`` has gone over: counted, nodes and names included.

    Constants that they share with each other are counted once; those that a file has already, again.
    """
    named = {f"{_PREFIX}weight{place}": weight for place, weight in enumerate(weights)}
    return int(compact(helper.make_model(_decoding(named))).graph.ByteSize())


def _check_fit(name: str, weight: StoredWeight, dense: TensorProto | None) -> None:
    if dense is None:
        raise ValueError(f"a stored weight must name an initializer of the file, got {name!r}")
    shape, dtype = tuple(dense.dims), helper.tensor_dtype_to_np_dtype(dense.data_type)
    if (weight.shape, weight.dtype) != (shape, dtype):
        got = f"{weight.dtype} {list(weight.shape)}"
        raise ValueError(f"the stored form of {name!r} must be {dtype} {list(shape)} as in the file, got {got}")


def _decoding(weights: Mapping[str, StoredWeight]) -> GraphProto:
    build = GraphBuilder(_PREFIX)
    for name, weight in weights.items():
        build.output(_decode(build, weight), name)
    return build.finish()


def _decode(build: GraphBuilder, weight: StoredWeight) -> str:
    dense = _values(build, weight) if weight.bits is None else _looked_up(build, weight, weight.bits)
    stored = weight.codes.dtype if weight.bits is None else weight.rows.dtype
    if stored != weight.dtype:
        dense = build.node("Cast", dense, to=TensorProto.FLOAT)
    if weight.scale is not None:
        dense = build.node("Mul", dense, build.constant(weight.scale))
    return dense


def _values(build: GraphBuilder, weight: StoredWeight) -> str:
    if weight.kept is None:
        return build.constant(weight.codes.reshape(weight.shape))
    values = np.concatenate([np.zeros(1, weight.codes.dtype), weight.codes])
    return build.node("Gather", build.constant(values), numbered(build, weight.kept))


def _looked_up(build: GraphBuilder, weight: StoredWeight, bits: int) -> str:
    groups, entries = weight.rows.shape
    table = weight.rows
    if weight.kept is None:
        codes = reshaped(build, unpacked(build, weight.codes, bits), weight.shape)
        codes = build.node("Cast", codes, to=TensorProto.INT32)
    else:
        # Where nothing is kept stands the code of one more entry, which is zero.
        table = np.pad(table, [(0, 0), (0, 1)])
        codes = build.node("Cast", unpacked(build, weight.codes, bits), to=TensorProto.INT32)
        codes = build.node("Concat", build.constant(np.array([entries], np.int32)), codes, axis=0)
        codes = build.node("Gather", codes, numbered(build, weight.kept))
    if groups > 1:
        offsets = (weight.row_of_place * table.shape[1]).astype(np.int32)
        codes = build.node("Add", codes, build.constant(offsets))
    return build.node("Gather", build.constant(table.reshape(-1)), codes)
