"""Products of matrices: with weights or of two activations, in floats, 8-bit integers or packed weights."""

from math import ceil, prod
from typing import NamedTuple

from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.kernels.paths.description import BLOCK, Description, fill, log

FLOAT_PRODUCTS = frozenset({"Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
DYNAMIC_PRODUCT = "DynamicQuantizeMatMul"
INTEGER_PRODUCTS = frozenset({"QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", DYNAMIC_PRODUCT})
_SECOND = {"QGemm": 3, "QLinearMatMul": 3}  # the input that holds the second matrix, where it is not 1
_ALWAYS_MATRICES = frozenset({"MatMul", "FusedMatMul", "QLinearMatMul"})
TILE_ROWS, TILE_COLUMNS = 12, 32  # of the output that the runtime's float code keeps in registers and nearby


class Terms(NamedTuple):
    """Amounts of work, those of convolutions at the same places."""

    starts: float
    vector_steps: float
    macs: float
    tiles: float
    read_bytes: float
    written_bytes: float
    weight_bytes: float
    packed_bytes: float  # of a second matrix that is not stored, and so is packed in every run
    batch: float


class Features(NamedTuple):
    """The shape; amounts as logarithms."""

    rows: float
    columns: float
    inner: float
    batch: float
    block_fill: float
    columns_fill: float
    inner_fill: float
    rows_fill: float
    rows_left_over: float
    columns_evenness: float  # 0: odd, 1: whole fours, 2: whole blocks
    inner_evenness: float
    read_bytes: float
    weight_bytes: float
    written_bytes: float
    turned: float  # 1: the second matrix, 2: the first, 3: both
    has_activation: float
    is_matmul: float
    is_signed: float


def product(kernel: Kernel) -> Description:
    """A product as numbers: ``[batch, rows, inner]`` by ``[batch, inner, columns]``."""
    a, b, out = kernel.input(0), kernel.input(_SECOND.get(kernel.operator, 1)), kernel.outputs[0]
    is_first_turned = bool(kernel.attribute("transA", 0))
    inner = _inner(a, is_first_turned)
    columns = out.shape[-1] if out.shape else 1
    batch = prod(b.shape[:-2])
    rows = max(1, out.size // max(1, columns * batch))
    read_bytes, weight_bytes, written_bytes = a.bytes, b.bytes, out.bytes
    terms = Terms(
        starts=1.0,
        vector_steps=float(batch * rows * ceil(columns / BLOCK) * inner),
        macs=float(batch * rows * columns * inner),
        tiles=float(batch * ceil(rows / TILE_ROWS) * ceil(columns / TILE_COLUMNS)),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        weight_bytes=weight_bytes,
        packed_bytes=0.0 if b.stored else weight_bytes,
        batch=float(batch),
    )
    features = Features(
        rows=log(rows),
        columns=log(columns),
        inner=log(inner),
        batch=log(batch),
        block_fill=fill(columns, BLOCK),
        columns_fill=fill(columns, 4 * BLOCK),
        inner_fill=fill(inner, 4),
        rows_fill=fill(rows, TILE_ROWS),
        rows_left_over=float(rows % TILE_ROWS),
        columns_evenness=float(columns % BLOCK == 0) + float(columns % 4 == 0),
        inner_evenness=float(inner % BLOCK == 0) + float(inner % 4 == 0),
        read_bytes=log(read_bytes),
        weight_bytes=log(weight_bytes),
        written_bytes=log(written_bytes),
        turned=float(bool(kernel.attribute("transB", 0))) + 2.0 * is_first_turned,
        has_activation=float(kernel.attribute("activation", "") != ""),
        is_matmul=float(kernel.operator in _ALWAYS_MATRICES),
        is_signed=float(a.dtype == "int8"),
    )
    return Description(_path(kernel, is_stored=b.stored, is_row=rows == 1), terms, features)


def _inner(a: Tensor, is_turned: bool) -> int:
    if is_turned and len(a.shape) > 1:
        return a.shape[-2]
    return a.shape[-1] if a.shape else 1


def _path(kernel: Kernel, *, is_stored: bool, is_row: bool) -> str:
    arithmetic = ""
    if kernel.operator in INTEGER_PRODUCTS:
        arithmetic = "_dynamic" if kernel.operator == DYNAMIC_PRODUCT else "_int8"
    return f"product{arithmetic}{'_values' if not is_stored else '_row' if is_row else ''}"


class PackedTerms(NamedTuple):
    """Amounts of work of a product with packed weights, those of other products at the same places."""

    starts: float
    vector_steps: float
    macs: float
    tiles: float
    read_bytes: float
    written_bytes: float
    weight_bytes: float
    packed_bytes: float  # they are packed already
    batch: float
    unpacked_bits: float


class PackedFeatures(NamedTuple):
    """The shape; amounts as logarithms."""

    rows: float
    columns: float
    inner: float
    bits: float
    scale_block: float
    columns_fill: float
    inner_fill: float


def packed_product(kernel: Kernel) -> Description:
    """A product with weights of a few bits, a scale for every ``block_size`` of them."""
    a, out = kernel.input(0), kernel.outputs[0]
    columns, inner = kernel.integer("N", out.shape[-1]), kernel.integer("K", a.shape[-1])
    bits, scale_block = kernel.integer("bits", 4), kernel.integer("block_size", 32)
    rows = prod(out.shape[:-1])
    macs = float(rows * columns * inner)
    terms = PackedTerms(
        starts=1.0,
        vector_steps=float(rows * ceil(columns / BLOCK) * inner),
        macs=macs,
        tiles=float(ceil(rows / TILE_ROWS) * ceil(columns / TILE_COLUMNS)),
        read_bytes=a.bytes,
        written_bytes=out.bytes,
        weight_bytes=sum(t.bytes for t in kernel.inputs[1:] if t.stored),
        packed_bytes=0.0,
        batch=1.0,
        unpacked_bits=macs * bits,
    )
    features = PackedFeatures(
        rows=log(rows),
        columns=log(columns),
        inner=log(inner),
        bits=float(bits),
        scale_block=log(scale_block),
        columns_fill=fill(columns, BLOCK),
        inner_fill=fill(inner, scale_block),
    )
    return Description("product_nbits", terms, features)
