"""Activations alive at once, and the peak RAM that follows from them and from the stored weights."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from autocompress.errors import MeasurementError
from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.kernels.liveness import buffers, live_bytes, workspace_bytes
from autocompress.hardware.kernels.runtime_graph import PlacedKernel, RuntimeGraph
from autocompress.hardware.predictor.decoded import decoded_bytes
from autocompress.hardware.predictor.memory import (
    TYPICAL,
    RamCoefficients,
    RamFeatures,
    fit_ram,
    predict_ram,
    ram_features,
)

FLOAT = 4


def kernel(op: str, reads: str, makes: str, **sizes: int) -> PlacedKernel:
    """``sizes``: elements of each tensor; names in capitals are stored."""
    tensors = {name: Tensor("float", (sizes[name],), name.isupper()) for name in sizes}
    names = tuple(reads.split())
    made = tuple(makes.split())
    return PlacedKernel(
        name=op,
        kernel=Kernel(op, tuple(tensors[name] for name in names), tuple(tensors[name] for name in made)),
        reads=names,
        makes=made,
    )


def graph(*kernels: PlacedKernel) -> RuntimeGraph:
    """In this order."""
    return RuntimeGraph(kernels=kernels, stored_bytes=0)


def test_a_chain_holds_what_a_kernel_reads_and_what_it_makes():
    chain = graph(
        kernel("MatMul", "x W", "a", x=1, W=999, a=10),
        kernel("MatMul", "a W", "b", a=10, W=999, b=100),
        kernel("MatMul", "b W", "c", b=100, W=999, c=5),
    )

    assert live_bytes(chain) == FLOAT * (1 + 10 + 100)


def test_a_shortcut_stays_alive_beside_the_branch():
    residual = graph(
        kernel("MatMul", "x W", "a", x=1, W=9, a=10),
        kernel("MatMul", "a W", "b", a=10, W=9, b=30),
        kernel("MatMul", "b W", "c", b=30, W=9, c=10),
        kernel("Add", "a c", "d", a=10, c=10, d=10),
        kernel("MatMul", "d W", "e", d=10, W=9, e=1),
    )

    assert live_bytes(residual) == FLOAT * (1 + 10 + 30 + 10)


@pytest.mark.parametrize(("op", "copies"), [("Relu", 1), ("Softmax", 2), ("Gelu", 2)])
def test_an_elementwise_kernel_writes_over_an_input_that_dies(op, copies):
    chain = graph(
        kernel("MatMul", "x W", "a", x=1, W=9, a=50),
        kernel(op, "a", "b", a=50, b=50),
        kernel("MatMul", "b W", "c", b=50, W=9, c=2),
    )

    assert live_bytes(chain) == FLOAT * (1 + 50 * copies + (2 if copies == 1 else 0))


def test_nothing_is_written_over_that_is_still_read():
    chain = graph(
        kernel("MatMul", "x W", "a", x=1, W=9, a=50),
        kernel("Relu", "a", "b", a=50, b=50),
        kernel("Add", "a b", "c", a=50, b=50, c=50),
        kernel("MatMul", "c W", "d", c=50, W=9, d=2),
    )

    assert live_bytes(chain) == FLOAT * (1 + 50 + 50)


def test_the_input_is_never_written_over():
    assert live_bytes(graph(kernel("Relu", "x", "y", x=7, y=7))) == FLOAT * 14


def test_a_view_takes_no_memory_and_keeps_its_source_alive():
    viewed = graph(
        kernel("MatMul", "x W", "a", x=1, W=9, a=50),
        kernel("Reshape", "a S", "v", a=50, S=2, v=50),
        kernel("MatMul", "x W", "b", x=1, W=9, b=20),
        kernel("Concat", "v b", "c", v=50, b=20, c=70),
    )

    assert live_bytes(viewed) == FLOAT * (1 + 50 + 20 + 70)
    assert [buffer.bytes for buffer in buffers(viewed)] == [FLOAT * n for n in (1, 50, 20, 70)]


def test_memory_of_a_dead_activation_waits_for_the_next_of_its_shape():
    chain = graph(
        kernel("MatMul", "x W", "a", x=1, W=9, a=50),
        kernel("MatMul", "a W", "b", a=50, W=9, b=70),
        kernel("MatMul", "b W", "c", b=70, W=9, c=60),
        kernel("MatMul", "c W", "d", c=60, W=9, d=50),
        kernel("MatMul", "d W", "e", d=50, W=9, e=2),
    )

    sizes = sorted(buffer.bytes for buffer in buffers(chain))

    assert sizes == [FLOAT * n for n in (1, 2, 50, 60, 70)]
    assert live_bytes(chain) == FLOAT * (1 + 50 + 70 + 60)


def test_a_plain_convolution_unfolds_its_image():
    image, weight = Tensor("float", (1, 8, 6, 6)), Tensor("float", (40, 8, 3, 3), stored=True)
    plain = Kernel("Conv", (image, weight), (Tensor("float", (1, 40, 6, 6)),))

    assert workspace_bytes(plain) == FLOAT * 3 * 3 * 8 * 36
    assert workspace_bytes(Kernel("nchwc.Conv", plain.inputs, plain.outputs)) == 0


def test_an_integer_convolution_unfolds_in_bytes_and_a_depthwise_one_in_pointers():
    scale, image = Tensor("float", (), stored=True), Tensor("uint8", (1, 6, 6, 8))
    made = (Tensor("uint8", (1, 6, 6, 8)),)

    def convolution(per_group: int, groups: int) -> Kernel:
        weight = Tensor("int8", (8, per_group, 3, 3), stored=True)
        return Kernel("QLinearConv", (image, scale, scale, weight), made, (("group", groups),))

    assert workspace_bytes(convolution(8, 1)) == 3 * 3 * 8 * 36
    assert workspace_bytes(convolution(1, 8)) == 8 * 3 * 3 * 36


def test_weights_count_once_each_by_kind():
    shared = graph(
        kernel("MatMul", "x W", "a", x=10, W=100, a=10),
        kernel("MatMul", "a W", "b", a=10, W=100, b=10),
        kernel("nchwc.Conv", "b V", "c", b=10, V=7, c=10),
    )

    features = ram_features(shared)

    assert (features.tensors, features.float_bytes, features.blocked_bytes) == (2, 400, 28)


def drawn_features(rng: np.random.Generator) -> RamFeatures:
    """Of a file that does not exist."""
    names = ("float_bytes", "integer_bytes", "blocked_bytes", "decoded_bytes", "live_bytes")
    parts = dict(zip(names, rng.uniform(0, 2e7, len(names)) * (rng.random(len(names)) < 0.5), strict=True))
    return RamFeatures(tensors=int(rng.integers(1, 400)), **parts)


TRUTH = RamCoefficients(base=9e6, per_tensor=3e4, floats=2.0, integers=1.2, blocked=2.0, decoded=0.5, live=1.5)


def test_fitting_finds_the_coefficients_that_made_the_data():
    rng = np.random.default_rng(0)
    drawn = [drawn_features(rng) for _ in range(60)]
    measured = [(features, predict_ram(features, TRUTH).bytes) for features in drawn]

    fitted = fit_ram(measured, pull=0.01)

    assert fitted.column == pytest.approx(TRUTH.column, rel=0.02)
    assert fitted.files == 60
    assert fitted.high - fitted.low < 0.05


def test_what_files_do_not_tell_stays_typical():
    measured = [(RamFeatures(tensors=0, float_bytes=0, integer_bytes=0, blocked_bytes=0, decoded_bytes=0,
                             live_bytes=0), 30_000_000)]  # fmt: skip

    fitted = fit_ram(measured, pull=0.01)

    assert fitted.base == pytest.approx(30e6, rel=0.01)
    assert fitted.column[1:] == pytest.approx(TYPICAL.column[1:])
    assert (fitted.low, fitted.high) == (TYPICAL.low, TYPICAL.high)


def test_the_interval_holds_nine_tenths_of_noisy_files():
    rng = np.random.default_rng(1)
    drawn = [drawn_features(rng) for _ in range(80)]
    noisy = [(each, int(predict_ram(each, TRUTH).bytes * rng.uniform(0.9, 1.1))) for each in drawn]

    fitted = fit_ram(noisy[:40], pull=0.01)

    inside = [predict_ram(each, fitted).low <= peak <= predict_ram(each, fitted).high for each, peak in noisy[40:]]
    assert 0.8 <= np.mean(inside) <= 1
    assert 0.85 < fitted.low < 0.95
    assert 1.05 < fitted.high < 1.15


@pytest.mark.parametrize(("files", "ends"), [(18, (0.75, 1.25)), (19, (0.9, 1.2))])
def test_of_few_files_all_lie_inside(files, ends):
    """So many that nine in ten of others do, too; of fewer nobody knows."""
    factors = [0.9, 1.2, *[1.0] * (files - 2)]
    features = RamFeatures(tensors=0, float_bytes=0, integer_bytes=0, blocked_bytes=0, decoded_bytes=0, live_bytes=0)

    fitted = fit_ram([(features, round(factor * TYPICAL.base)) for factor in factors], pull=100.0)

    assert (fitted.low, fitted.high) == pytest.approx(ends, rel=1e-3)


def test_coefficients_survive_yaml():
    assert RamCoefficients.from_yaml(TRUTH.to_yaml()) == TRUTH


@pytest.mark.parametrize(
    ("measured", "found"),
    [([], "none"), ([(drawn_features(np.random.default_rng(0)), 0)], "a peak of 0 bytes")],
)
def test_fitting_needs_measured_files(measured, found):
    with pytest.raises(MeasurementError, match=f"at least one file with a peak above 0 bytes, got {found}; measure"):
        fit_ram(measured)


def packed_file(path, *, is_integer_kernel=False):
    """One weight of eight bytes that becomes floats at load, or stays integer up to its kernel."""
    integers = numpy_helper.from_array(np.ones((4, 2), np.int8), "packed")
    scale = numpy_helper.from_array(np.array(0.5, np.float32), "scale")
    nodes = [
        helper.make_node("DequantizeLinear", ["packed", "scale"], ["weight"])
        if is_integer_kernel
        else helper.make_node("Cast", ["packed"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", 4), ("y", 2))]
    proto = helper.make_graph(nodes, "g", value[:1], value[1:], [integers, scale])
    path.write_bytes(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString())
    return path


def test_steps_of_decoding_are_counted_in_their_own_type(tmp_path):
    assert decoded_bytes(packed_file(tmp_path / "a.onnx")) == FLOAT * 8
    assert decoded_bytes(packed_file(tmp_path / "b.onnx", is_integer_kernel=True)) == 0


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "no.onnx").write_text("no")

    with pytest.raises(MeasurementError, match="a model file must be readable ONNX"):
        decoded_bytes(tmp_path / "no.onnx")
