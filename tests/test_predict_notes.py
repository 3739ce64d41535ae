"""What is said of a graph: int8 islands, layout changes, widths that miss the blocked layout."""

import pytest

from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.kernels.runtime_graph import PlacedKernel, RuntimeGraph
from autocompress.hardware.predictor.notes import island_kernels, missed_blocks, notes_on

IMAGE = (1, 8, 4, 4)


def placed(op: str, reads: str, makes: str, *, dtype="float", shape=IMAGE, stored=False) -> PlacedKernel:
    tensor = Tensor(dtype, shape, stored)
    kernel = Kernel(op, (tensor,), (Tensor("float", shape),))
    return PlacedKernel(name=makes, kernel=kernel, reads=(reads,), makes=(makes,))


def chain(*operators: str) -> RuntimeGraph:
    """Kernels one after the other."""
    steps = [placed(op, f"t{place}", f"t{place + 1}") for place, op in enumerate(operators)]
    return RuntimeGraph(kernels=tuple(steps), stored_bytes=0)


def convolution(c_in: int, c_out: int, groups: int = 1, op="Conv", dtype="float") -> RuntimeGraph:
    inputs = (Tensor(dtype, (1, c_in, 8, 8)), Tensor(dtype, (c_out, c_in // groups, 3, 3), stored=True))
    kernel = Kernel(op, inputs, (Tensor(dtype, (1, c_out, 8, 8)),), (("group", groups),))
    one = PlacedKernel(name="layer1.conv", kernel=kernel, reads=("x", "w"), makes=("y",))
    return RuntimeGraph(kernels=(one,), stored_bytes=0)


@pytest.mark.parametrize(
    ("operators", "islands"),
    [
        (["QuantizeLinear", "QLinearConv", "DequantizeLinear"], []),
        (["Transpose", "QuantizeLinear", "QLinearConv", "DequantizeLinear", "Reshape"], []),
        (["QuantizeLinear", "QLinearConv", "DequantizeLinear", "Softmax"], [2]),
        (["QuantizeLinear", "DequantizeLinear", "Conv", "QuantizeLinear", "DequantizeLinear"], [1, 3]),
        (["Conv", "QuantizeLinear", "DequantizeLinear", "Conv"], [1, 2]),
        (["Conv", "Relu"], []),
    ],
)
def test_conversions_at_the_ends_are_no_islands_others_are(operators, islands):
    assert island_kernels(chain(*operators)) == islands


def test_weights_that_are_converted_at_every_inference_are_islands():
    weight = placed("DequantizeLinear", "w", "t9", dtype="int8", stored=True)
    assert island_kernels(RuntimeGraph(kernels=(weight,), stored_bytes=0)) == [0]


def test_islands_are_counted_with_their_time_and_what_is_between():
    graph = chain("QuantizeLinear", "QLinearConv", "DequantizeLinear", "Softmax", "QuantizeLinear", "QLinearAdd")
    (note,) = notes_on(graph, [10, 100, 200, 390, 200, 100], 16)
    assert note == (
        "int8 islands: 2 conversions between int8 and float inside the network, 400 µs (40%); float inside: Softmax"
    )


def test_layout_changes_are_counted_with_their_time():
    graph = chain("nchwc.ReorderInput", "nchwc.Conv", "nchwc.ReorderOutput", "Transpose", "Transpose")
    (note,) = notes_on(graph, [100, 700, 100, 50, 50], 16)
    assert note == "layout changes: 1 ReorderInput, 1 ReorderOutput, 2 Transpose, 300 µs (30%)"


@pytest.mark.parametrize(
    ("c_in", "c_out", "groups", "found"),
    [
        (37, 64, 1, ("input channels", 37, 36)),
        (39, 64, 1, ("input channels", 39, 40)),
        (36, 63, 1, None),  # output channels are padded
        (3, 63, 1, None),  # fewer than a block are read as they are
        (37, 37, 37, ("channels", 37, 36)),
        (36, 36, 36, None),
        (48, 48, 2, ("channels of a group", 24, 32)),
        (64, 64, 2, None),
    ],
)
def test_the_width_that_misses_the_blocked_layout_is_named(c_in, c_out, groups, found):
    missed = list(missed_blocks(convolution(c_in, c_out, groups), [1.0], 16))
    assert [(each.what, each.width, each.nearest) for each in missed] == ([found] if found else [])


@pytest.mark.parametrize(
    "graph",
    [convolution(37, 64, op="nchwc.Conv"), convolution(37, 64, dtype="uint8"), convolution(37, 64, op="QLinearConv")],
)
def test_other_convolutions_miss_nothing(graph):
    assert not list(missed_blocks(graph, [1.0], 16))


def test_a_machine_without_blocked_layout_misses_nothing():
    assert not list(missed_blocks(convolution(37, 64), [1.0], 4))


def test_missed_layers_are_named_the_slowest_first():
    kernels = []
    for place in range(7):
        (one,) = convolution(37, 64, op="microsoft.FusedConv").kernels
        kernels.append(PlacedKernel(name=f"conv{place}", kernel=one.kernel, reads=one.reads, makes=(f"y{place}",)))
    (note,) = notes_on(RuntimeGraph(kernels=tuple(kernels), stored_bytes=0), [1, 2, 3, 4, 5, 6, 79], 16)
    assert note.startswith(
        "plain layout: 7 float convolutions outside the blocked layout because of widths, 100 µs (100%): "
        "conv6 has input channels 37, nearest 36, conv5 has"
    )
    assert note.endswith("and 2 more")


def test_a_plain_network_gets_no_notes():
    assert notes_on(chain("Gemm", "Relu"), [1.0, 1.0], 16) == ()
