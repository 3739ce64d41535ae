"""Multiply-accumulates and bytes of single kernels, against counts by hand."""

import pytest

from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.kernels.work import work_of


def f(*shape, stored=False):
    return Tensor("float", shape, stored)


def q(*shape, dtype="uint8"):
    return Tensor(dtype, shape)


SCALE, ZERO, LEFT_OUT = f(), q(), Tensor("", ())
COUNTED = {
    "a convolution": (Kernel("Conv", (f(1, 3, 8, 8), f(5, 3, 3, 3)), (f(1, 5, 8, 8),)), 5 * 64 * 27),
    "a grouped one": (Kernel("microsoft.FusedConv", (f(1, 4, 8, 8), f(6, 2, 3, 3)), (f(1, 6, 8, 8),)), 6 * 64 * 18),
    "a blocked one, padded": (Kernel("nchwc.Conv", (f(1, 16, 4, 4), f(32, 16, 1, 1)), (f(1, 32, 4, 4),)), 32 * 16 * 16),
    "an int8 one": (
        Kernel(
            "QLinearConv",
            (q(1, 3, 8, 8), SCALE, ZERO, q(5, 3, 3, 3, dtype="int8"), SCALE, ZERO, SCALE, ZERO, q(5, dtype="int32")),
            (q(1, 5, 8, 8),),
        ),
        5 * 64 * 27,
    ),
    "a transposed one": (Kernel("ConvTranspose", (f(1, 4, 8, 8), f(4, 6, 2, 2)), (f(1, 6, 16, 16),)), 256 * 24),
    "a product of batches": (Kernel("MatMul", (f(2, 3, 4, 5), f(2, 3, 5, 6)), (f(2, 3, 4, 6),)), 6 * 4 * 5 * 6),
    "one transposed": (
        Kernel("microsoft.FusedMatMul", (f(2, 5, 4), f(2, 5, 6)), (f(2, 4, 6),), (("transA", 1),)),
        2 * 4 * 5 * 6,
    ),
    "a linear layer": (Kernel("Gemm", (f(1, 5), f(7, 5), f(7)), (f(1, 7),), (("transB", 1),)), 35),
    "an int8 one of it": (
        Kernel("microsoft.QGemm", (q(1, 5), SCALE, ZERO, q(5, 7), SCALE, ZERO), (q(1, 7),)),
        35,
    ),
    "an int8 product": (
        Kernel("QLinearMatMul", (q(1, 4, 5), SCALE, ZERO, q(5, 6), SCALE, ZERO, SCALE, ZERO), (q(1, 4, 6),)),
        120,
    ),
    "one quantized on the way": (
        Kernel("microsoft.DynamicQuantizeMatMul", (f(1, 4, 5), q(5, 6), SCALE, ZERO, LEFT_OUT), (f(1, 4, 6),)),
        120,
    ),
    "four-bit weights": (
        Kernel("microsoft.MatMulNBits", (f(1, 4, 32), q(6, 1, 16), f(6)), (f(1, 4, 6),), (("K", 32), ("N", 6))),
        4 * 32 * 6,
    ),
    "recurrent steps": (
        Kernel("LSTM", (f(9, 2, 3), f(1, 16, 3), f(1, 16, 4), LEFT_OUT), (f(9, 1, 2, 4),)),
        9 * 2 * (16 * 3 + 16 * 4),
    ),
    "attention": (
        Kernel("microsoft.MultiHeadAttention", (f(1, 6, 8), f(1, 7, 8), f(1, 7, 8)), (f(1, 6, 8),)),
        2 * 6 * 7 * 8,
    ),
    "attention of the standard": (
        Kernel("Attention", (f(1, 2, 6, 8), f(1, 2, 7, 8), f(1, 2, 7, 8)), (f(1, 2, 6, 8),)),
        2 * 2 * 6 * 7 * 8,
    ),
    "attention with its weights": (
        Kernel("microsoft.Attention", (f(1, 6, 8), f(8, 24)), (f(1, 6, 8),)),
        6 * 8 * 24 + 2 * 6 * 6 * 8,
    ),
    "a sum over named indices": (
        Kernel("Einsum", (f(2, 3, 5, 7), f(7, 4)), (f(2, 3, 5, 4),), (("equation", "...ij, jk -> ...ik"),)),
        2 * 3 * 5 * 4 * 7,
    ),
    "a sum": (Kernel("Add", (f(1, 4), f(1, 4)), (f(1, 4),)), 0),
}


@pytest.mark.parametrize("case", COUNTED)
def test_multiply_accumulates_are_those_counted_by_hand(case):
    kernel, macs = COUNTED[case]

    assert work_of(kernel)[0] == macs


def test_bytes_are_each_operand_once_by_its_type():
    kernel = Kernel("MatMulIntegerToFloat", (q(4, 5), q(5, 6), SCALE, LEFT_OUT), (f(4, 6),))

    assert work_of(kernel)[1] == 20 + 30 + 4 + 4 * 24


def test_a_view_moves_nothing_and_a_pick_what_it_writes():
    table, indices = f(1000, 8, stored=True), Tensor("int64", (1, 3))

    assert work_of(Kernel("Reshape", (f(1, 8), Tensor("int64", (1,))), (f(8),))) == (0, 0.0)
    assert work_of(Kernel("Gather", (table, indices), (f(1, 3, 8),))) == (0, 2 * 4 * 24)
