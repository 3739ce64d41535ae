"""Kernels as numbers: which code they run through, how much work they are."""

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocompress.hardware.kernels.features import FLOAT_MACS_A_US, Context, describe, in_contexts, rough_us
from autocompress.hardware.kernels.kernel import LEFT_OUT, Kernel, Tensor
from autocompress.hardware.kernels.paths import convolutions, moves, products, recurrent
from autocompress.hardware.kernels.paths.description import Description

HERE = Context(stored_bytes=1e6, pause_us=500.0)


def described(kernel: Kernel, context: Context = HERE) -> Description:
    """With what the context adds."""
    ((path, placed),) = in_contexts([describe(kernel)], [context]).items()
    return Description(path, tuple(placed.terms[0].tolist()), tuple(placed.features[0].tolist()))


SCALE, ZERO = Tensor("float", (), True), Tensor("uint8", (), True)


def f(*shape, stored=False):
    return Tensor("float", shape, stored)


def conv(op: str, c_in: int, c_out: int, *, kernel=(3, 3), group=1, side=8, **attributes) -> Kernel:
    """With padding that keeps the extents; of integers where ``op`` says so."""
    extents = (side,) * len(kernel)
    if op.endswith("QLinearConv"):
        made = ((1, *extents, c_out), (1, *extents, c_in)) if attributes.get("channels_last") else None
        out, x = made or ((1, c_out, *extents), (1, c_in, *extents))
        weight = Tensor("int8", (c_out, c_in // group, *kernel), True)
        inputs = (Tensor("uint8", x), SCALE, ZERO, weight, SCALE, ZERO, SCALE, ZERO)
        outputs = (Tensor("uint8", out),)
    else:
        inputs = (f(1, c_in, *extents), f(c_out, c_in // group, *kernel, stored=True), f(c_out, stored=True))
        outputs = (f(1, c_out, *extents),)
    found = {"group": group, "strides": (1,) * len(kernel), "pads": (1,) * 2 * len(kernel), **attributes}
    return Kernel(op, inputs, outputs, tuple(sorted(found.items())))


def product(a: tuple[int, ...], b: tuple[int, ...], *, stored=True, op="MatMul", **attributes) -> Kernel:
    return Kernel(op, (f(*a), f(*b, stored=stored)), (f(*a[:-1], b[-1]),), tuple(attributes.items()))


def moving(op: str, *inputs: Tensor, out: tuple[int, ...], **attributes) -> Kernel:
    return Kernel(op, inputs, (f(*out),), tuple(sorted(attributes.items())))


def transpose(shape: tuple[int, ...], perm: tuple[int, ...]) -> Kernel:
    return moving("Transpose", f(*shape), out=tuple(shape[axis] for axis in perm), perm=perm)


PATHS = {
    "conv_blocked_dense": conv("nchwc.Conv", 32, 32),
    "conv_blocked_first": conv("nchwc.Conv", 3, 32),
    "conv_blocked_pointwise": conv("nchwc.Conv", 32, 64, kernel=(1, 1)),
    "conv_blocked_depthwise": conv("nchwc.Conv", 32, 32, group=32),
    "conv_plain_dense": conv("microsoft.FusedConv", 9, 7),
    "conv_plain_grouped": conv("Conv", 64, 64, group=4),
    "conv_plain_odd_grouped": conv("Conv", 28, 28, group=4),
    "conv_int8_dense": conv("QLinearConv", 9, 7),
    "conv_int8_depthwise": conv("microsoft.QLinearConv", 32, 32, group=32, channels_last=1),
    "conv_int8_depthwise_tail": conv("microsoft.QLinearConv", 33, 33, group=33, channels_last=1),
    "product": product((1, 5, 8), (8, 4)),
    "product_row": product((1, 8), (8, 4), op="Gemm"),
    "product_values": product((1, 2, 5, 8), (1, 2, 8, 4), stored=False),
    "product_int8": Kernel(
        "QLinearMatMul",
        (Tensor("uint8", (1, 5, 8)), SCALE, ZERO, Tensor("int8", (8, 4), True), SCALE, ZERO, SCALE, ZERO),
        (Tensor("uint8", (1, 5, 4)),),
    ),
    "product_dynamic": product((1, 5, 8), (8, 4), op="microsoft.DynamicQuantizeMatMul"),
    "product_nbits": Kernel(
        "microsoft.MatMulNBits", (f(1, 5, 64), Tensor("uint8", (4, 2, 16), True)), (f(1, 5, 4),), (("K", 64), ("N", 4))
    ),
    "other:ConvTranspose": Kernel("ConvTranspose", (f(1, 4, 8, 8), f(4, 6, 2, 2, stored=True)), (f(1, 6, 16, 16),)),
    "other:Einsum": Kernel("Einsum", (f(2, 5, 8), f(2, 8, 4)), (f(2, 5, 4),), (("equation", "bij,bjk->bik"),)),
    "recurrent_lstm": Kernel(
        "LSTM",
        (f(6, 1, 5), f(1, 16, 5, stored=True), f(1, 16, 4, stored=True)),
        (f(6, 1, 1, 4),),
        (("hidden_size", 4),),
    ),
    "move_view": moving("Reshape", f(1, 8), out=(8,)),
    "move_Add_same": moving("Add", f(1, 8), f(1, 8), out=(1, 8)),
    "move_Add_spread": moving("Add", f(2, 8), f(8), out=(2, 8)),
    "move_Mul_scalar": moving("Mul", f(2, 8), f(stored=True), out=(2, 8)),
    "move_QuantizeLinear_tensor": moving("QuantizeLinear", f(2, 8), SCALE, ZERO, out=(2, 8)),
    "move_DequantizeLinear_channels": moving("DequantizeLinear", f(2, 8), f(8, stored=True), out=(2, 8)),
    "move_nchwc.ReorderInput": moving("nchwc.ReorderInput", f(1, 8, 4, 4), out=(1, 8, 4, 4)),
    "move_ReduceSum_inner": moving("ReduceSum", f(2, 8, 4), out=(2, 8, 1)),
    "move_ReduceSum_outer": moving("ReduceSum", f(2, 8, 4), out=(2, 1, 4)),
    "move_MaxPool_bytes": moving("MaxPool", Tensor("uint8", (1, 2, 8, 8)), out=(1, 2, 4, 4)),
    "move_MaxPool": moving("MaxPool", f(1, 2, 8, 8), out=(1, 2, 4, 4)),
    "move_Softmax": moving("Softmax", f(2, 8), out=(2, 8)),
    "turned_Softmax_beside": moving("Softmax", f(2, 8), out=(2, 8), axis=0),
    "turned_Softmax_far": moving("Softmax", f(1, 2, 8, 3), out=(1, 2, 8, 3), axis=-3),
}


@pytest.mark.parametrize("path", PATHS)
def test_each_kernel_goes_the_path_of_its_code(path):
    assert described(PATHS[path]).path == path


def terms_of(kernel: Kernel, names):
    return names(*described(kernel).terms[: len(names._fields)])


def test_work_of_a_convolution():
    terms = terms_of(conv("Conv", 4, 20), convolutions.Terms)
    assert terms.macs == 64 * 20 * 4 * 9
    assert terms.vector_steps == 64 * 2 * 4 * 9, "20 channels take two vectors"
    assert terms.unfolded == 64 * 4 * 9
    assert (terms.read_bytes, terms.written_bytes, terms.weight_bytes) == (4 * 64 * 4, 20 * 64 * 4, 20 * 4 * 9 * 4)


def test_each_position_of_each_group_that_is_computed_alone_is_counted():
    grouped = conv("microsoft.QLinearConv", 48, 48, group=12, channels_last=1)
    assert terms_of(grouped, convolutions.Terms).group_rows == 64 * 12
    for together in (conv("microsoft.QLinearConv", 48, 48, group=48, channels_last=1), conv("Conv", 4, 20)):
        assert terms_of(together, convolutions.Terms).group_rows == 0


def test_a_blocked_convolution_unfolds_nothing():
    assert terms_of(conv("nchwc.Conv", 32, 32), convolutions.Terms).unfolded == 0
    assert terms_of(conv("Conv", 32, 32, kernel=(1, 1)), convolutions.Terms).unfolded == 0


def test_series_run_through_the_code_of_images():
    series, image = (described(conv("Conv", 9, 7, kernel=kernel)) for kernel in ((3,), (3, 3)))
    assert series.path == image.path
    assert len(series.features) == len(image.features)


def test_what_is_added_on_the_way_is_read_too():
    alone = conv("nchwc.Conv", 32, 32)
    added = Kernel(alone.op, (*alone.inputs, f(1, 32, 8, 8)), alone.outputs, alone.attributes)
    without, both = (terms_of(kernel, convolutions.Terms) for kernel in (alone, added))
    assert both.read_bytes == without.read_bytes + 32 * 64 * 4
    assert both.written_bytes == without.written_bytes


def test_integers_are_unfolded_in_runs_of_channels():
    def unfolded(kernel: Kernel) -> float:
        return terms_of(kernel, convolutions.Terms).unfolded

    def integers(group: int, **more: object) -> Kernel:
        return conv("microsoft.QLinearConv", 48, 48, group=group, channels_last=1, **more)

    assert unfolded(integers(1)) == unfolded(integers(48)) == 64 * 9, "all channels lie side by side"
    assert unfolded(integers(12)) == 64 * 9 * 12
    assert unfolded(integers(12, kernel=(1, 1))) == 0


def test_depthwise_integers_beyond_whole_vectors_are_work_of_their_own():
    terms = terms_of(conv("QLinearConv", 35, 35, group=35), convolutions.Terms)
    assert (terms.vector_steps, terms.macs) == (64 * 2 * 9, 64 * 3 * 9)


def test_both_layouts_of_integers_say_the_same():
    first = described(conv("QLinearConv", 9, 7))
    last = described(conv("microsoft.QLinearConv", 9, 7, channels_last=1))
    assert first == last


def test_work_of_a_product():
    terms = terms_of(product((2, 5, 8), (8, 20)), products.Terms)
    assert (terms.macs, terms.vector_steps, terms.packed_bytes) == (2 * 5 * 8 * 20, 2 * 5 * 8 * 2, 0)
    values = terms_of(product((2, 5, 8), (2, 8, 20), stored=False), products.Terms)
    assert (values.batch, values.macs, values.packed_bytes) == (2, terms.macs, 2 * 8 * 20 * 4)


def test_a_turned_first_matrix_multiplies_along_its_rows():
    turned = Kernel("Gemm", (f(8, 5), f(8, 20, stored=True)), (f(5, 20),), (("transA", 1),))
    assert terms_of(turned, products.Terms).macs == 5 * 8 * 20


def test_work_of_a_recurrent_layer():
    terms = terms_of(PATHS["recurrent_lstm"], recurrent.Terms)
    assert (terms.macs, terms.state_macs, terms.steps) == (6 * 4 * 4 * (5 + 4), 6 * 4 * 4 * 4, 6)


@pytest.mark.parametrize(
    ("kernel", "row"),
    [
        (moving("LayerNormalization", f(3, 8), f(8, stored=True), out=(3, 8)), 8),
        (moving("ReduceMean", f(2, 3, 4, 5), out=(2, 3, 1, 1)), 20),
        (moving("Concat", f(2, 1, 5), f(2, 7, 5), out=(2, 8, 5), axis=1), 20),
        (moving("Softmax", f(1, 3, 6, 2), out=(1, 3, 6, 2), axis=2), 6),
        (transpose((2, 3, 4, 5), (1, 0, 2, 3)), 20),
        (moving("Add", f(2, 3, 4), f(3, 4), out=(2, 3, 4)), 12),
        (moving("Relu", f(2, 7), out=(2, 7)), 7),
        (moving("Relu", f(), out=()), 1),
    ],
)
def test_what_is_copied_in_one_piece_is_a_row(kernel, row):
    terms = terms_of(kernel, moves.Terms)
    assert terms.rows == terms.elements / row


@pytest.mark.parametrize(
    ("shape", "perm", "path"),
    [
        ((4, 5), (1, 0), "move_transpose_10"),
        ((1, 4, 5), (0, 2, 1), "move_transpose_10"),
        ((4, 1, 5), (2, 1, 0), "turned_transpose"),
        ((2, 3, 4, 5), (0, 3, 2, 1), "turned_transpose"),
        ((1, 64, 1, 4, 32), (2, 0, 3, 4, 1), "turned_transpose"),
        ((2, 3, 4, 5, 6), (2, 1, 0, 3, 4), "move_transpose_pieces"),
        ((2, 3, 4, 5, 6), (0, 3, 4, 1, 2), "move_transpose_021"),
        ((4, 2, 3, 5), (1, 2, 3, 0), "move_transpose_10"),
        ((1, 8, 4, 4), (0, 2, 3, 1), "move_transpose_10"),
        ((2, 3, 4), (1, 0, 2), "move_transpose_102"),
        ((2, 3, 4, 5), (1, 0, 2, 3), "move_transpose_102"),
        ((1, 3, 4), (1, 0, 2), "move_transpose_none"),
        ((2, 3), (0, 1), "move_transpose_none"),
    ],
)
def test_transpositions_that_run_through_the_same_code_and_move_memory_alike_share_a_path(shape, perm, path):
    assert described(transpose(shape, perm)).path == path


@given(st.permutations(range(3)))
def test_a_batch_of_one_changes_no_transposition(order):
    alone, batch = (2, 3, 4), (1, 2, 3, 4)
    moved = (0, *(axis + 1 for axis in order))
    assert described(transpose(batch, moved)).path == described(transpose(alone, tuple(order))).path


def test_different_ways_have_different_paths():
    paths = {described(transpose((2, 3, 4), order)).path for order in permutations(range(3))}
    assert len(paths) == 5, "of six orders two turn one axis around all others"


OPERATORS = (
    "ReduceSum", "Unheard", "com.vendor.Of",
    "Softmax", "Concat", "Split", "ReduceMean", "Transpose", "Add", "QLinearAdd", "Reshape",
    "QuantizeLinear", "MaxPool", "nchwc.ReorderOutput", "Gather", "ConvTranspose",
)  # fmt: skip
tensors = st.builds(
    Tensor,
    st.sampled_from(["float", "uint8", "int64", "unheard"]),
    st.lists(st.integers(0, 40), max_size=4).map(tuple),
    st.booleans(),
)
attributes = st.fixed_dictionaries({}, optional={
    "axis": st.integers(-4, 4), "kernel_shape": st.just((3, 3)), "channels_last": st.just(1), "mode": st.just("odd"),
})  # fmt: skip


@given(
    st.sampled_from(OPERATORS),
    st.lists(st.one_of(tensors, st.just(LEFT_OUT)), max_size=3),
    st.lists(tensors, max_size=2),
    attributes,
    st.floats(0, 1e12),
)
def test_every_operator_gets_a_path_and_finite_numbers(op, inputs, outputs, found, size):
    kernel = Kernel(op, tuple(inputs), tuple(outputs), tuple(sorted(found.items())))
    numbers = described(kernel, Context(size, size))
    multiplies = op == "ConvTranspose"
    usual = described(PATHS["other:ConvTranspose"] if multiplies else moving("Relu", f(2, 7), out=(2, 7)))
    assert numbers.path.startswith("other:" if multiplies else "move_")
    assert (len(numbers.terms), len(numbers.features)) == (len(usual.terms), len(usual.features))
    assert all(math.isfinite(value) for value in numbers.features)
    assert all(math.isfinite(value) and value >= 0 for value in numbers.terms)


def test_work_of_a_product_with_packed_weights_is_that_of_products():
    packed = Kernel(
        "microsoft.MatMulNBits", (f(1, 5, 64), Tensor("uint8", (4, 2, 16), True)), (f(1, 5, 4),), (("K", 64), ("N", 4))
    )
    plain = terms_of(product((1, 5, 64), (64, 4)), products.Terms)
    found = terms_of(packed, products.PackedTerms)
    assert found._replace(weight_bytes=0.0)[: len(plain)] == plain._replace(weight_bytes=0.0)
    assert (found.weight_bytes, found.unpacked_bits) == (4 * 2 * 16, 5 * 64 * 4 * 4)


def test_all_paths_have_as_many_terms():
    assert {len(described(kernel).terms) for kernel in PATHS.values()} == {13}


def test_one_path_has_always_the_same_features():
    first = described(conv("Conv", 9, 7))
    for c_in, c_out, side in ((1, 1, 1), (64, 64, 3), (17, 5, 9)):
        other = described(conv("Conv", c_in, c_out, kernel=(3, 3), side=side))
        assert (other.path, len(other.features)) == (first.path, len(first.features))


def test_two_filters_a_channel_are_groups_in_integers():
    """The runtime's depthwise code for integers knows one filter a channel."""
    twice = conv("microsoft.QLinearConv", 32, 64, group=32, channels_last=1)
    assert described(twice).path == "conv_int8_odd_grouped"
    assert described(conv("Conv", 32, 64, group=32)).path == "conv_plain_depthwise"


def test_weights_weigh_more_the_longer_ago_they_were_read():
    kernel, own = conv("Conv", 9, 7), (9 * 9 * 7 + 7) * 4
    shares = [
        [weighed / own for weighed in described(kernel, Context(own, pause)).terms[-3:]]
        for pause in (0.0, 50.0, 200.0, 800.0, 1e9)
    ]
    assert shares == [[0, 0, 0], [0, 0, 0], [0.5, 0, 0], [1, 0.5, 0], [1, 1, 1]]


def test_what_only_moves_reads_little_of_its_constants():
    picked = Kernel("Gather", (f(320, 1000, stored=True), Tensor("int64", (1,))), (f(1, 1000),))
    assert described(picked, Context(1e9, 1e9)).terms[-3:] == (0, 0, 0)


def test_a_context_is_rounded_to_half_octaves():
    assert Context.of_sums(2**20, 1000.0) == Context(2**20, 1024.0)
    assert Context.of_sums(1.25 * 2**20, 900.0) == Context(pytest.approx(2**20 * math.sqrt(2)), 1024.0)
    assert Context.of_sums(0.0, 0.0) == Context(1.0, 1.0)


def test_resizing_is_of_the_kind_that_its_mode_says():
    modes = [Kernel("Resize", (f(1, 3, 8, 8),), (f(1, 3, 9, 9),), found) for found in ((), (("mode", "cubic"),))]
    assert [describe(kernel).path for kernel in modes] == ["move_Resize_nearest", "move_Resize_cubic"]


def test_the_rough_time_grows_with_every_amount_of_work():
    start = rough_us(moving("Relu", f(1, 1), out=(1, 1)))
    macs = rough_us(product((1000, 256), (256, 256))) - rough_us(product((1000, 256), (256, 1)))
    assert start < 1
    assert macs > 1000 * 256 * 255 / FLOAT_MACS_A_US
    integers = conv("microsoft.QLinearConv", 64, 64, side=32, channels_last=1)
    assert rough_us(integers) < rough_us(conv("nchwc.Conv", 64, 64, side=32)) / 2
