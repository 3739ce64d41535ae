"""From a float file to int8, layer by layer."""

import copy
import logging

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from tiny_exports import calibration_of, exported, machine, quantized, run, seen
from tiny_models import TINY_MODELS, inputs_of, tiny
from torch import nn

from autocompress.export.calibrate import Seen
from autocompress.export.onnx_file import to_onnx
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.precision import FP32, INT8, FilePlan
from autocompress.target import ActivationType
from autocompress.task import Layout, Preprocess

WEIGHTED_OPS = {"Conv", "Gemm", "MatMul"}
COARSE = {"vit blocks": 0.08}  # its class token, all that the head sees, is small among tokens that share its scale


def weights_of(proto) -> dict[str, np.ndarray]:
    """Layer → its weight as it lies in the file, integers where it is quantized."""
    stored = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    makers = {node.output[0]: node for node in proto.graph.node}

    def constant(name: str) -> np.ndarray | None:
        while name in makers and makers[name].op_type == "DequantizeLinear":
            name = makers[name].input[0]
        return stored.get(name)

    return {
        node.name: weight
        for node in proto.graph.node
        if node.op_type in WEIGHTED_OPS and (weight := constant(node.input[1])) is not None
    }


def types_of_activations(proto) -> set[int]:
    """Element types that activations are rounded to."""
    types = {item.name: item.data_type for item in proto.graph.initializer}
    return {types[node.input[2]] for node in proto.graph.node if node.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_weight_is_an_int8_initializer_when_the_plan_says_so(name):
    weights = weights_of(quantized(name))
    assert weights.keys() == weights_of(exported(name)).keys()
    assert {weight.dtype for weight in weights.values()} == {np.dtype(np.int8)}


@pytest.mark.parametrize("name", TINY_MODELS)
def test_outputs_stay_close_and_the_file_is_whole(name):
    proto, x = quantized(name), calibration_of(name)
    onnx.checker.check_model(proto)
    expected = tiny(name)(x).detach().numpy()
    error = np.abs(run(proto, x) - expected)
    assert error.max() < COARSE.get(name, 0.03) * np.ptp(expected)
    assert error.max() > 0  # it is quantized


def test_bytes_are_a_quarter():
    wide = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 4))
    proto = to_onnx(wide, Preprocess(layout=Layout.AS_STORED, shape=(64,)), 1)
    noise = Seen(inputs=np.random.default_rng(0).normal(size=(8, 64)).astype("f"), batch=1)
    small = quantize_onnx(proto, FilePlan(default=INT8), noise, machine())
    assert 0.25 < small.ByteSize() / proto.ByteSize() < 0.28


def test_each_output_channel_has_its_own_scale():
    proto = quantized("residual")
    makers = {node.output[0]: node for node in proto.graph.node}
    stored = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        scale = makers[node.input[1]].input[1]
        assert stored[scale].shape == stored[makers[node.input[1]].input[0]].shape[:1]


@pytest.mark.parametrize("name", ["residual", "vit", "conv1d"])
@pytest.mark.parametrize("default", [INT8, FP32], ids=str)
def test_a_layer_that_the_plan_sets_apart_has_its_own_precision(name, default):
    apart = {"residual": "features.2.conv1.0", "vit": "fc1", "conv1d": "features.0"}[name]
    other = FP32 if default == INT8 else INT8
    weights = weights_of(quantized(name, default=default, layers={apart: other}))
    float_layers = {layer for layer, weight in weights.items() if weight.dtype == np.float32}
    assert float_layers == ({apart} if other == FP32 else weights.keys() - {apart})
    unchanged = weights_of(exported(name))
    assert all(np.array_equal(weights[layer], unchanged[layer]) for layer in float_layers)


def test_an_entry_covers_the_layers_inside_it():
    weights = weights_of(quantized("residual", layers={"features.2": FP32}))
    assert {layer for layer, weight in weights.items() if weight.dtype == np.float32} == {
        "features.2.conv1.0",
        "features.2.conv2.0",
    }


@pytest.mark.parametrize("name", ["residual", "concat", "vit"])
def test_between_float_layers_numbers_stay_float(name):
    """One int8 layer at the end: the sums, joins and pools before it are computed as they were."""
    proto = quantized(name, default=FP32, layers={"head": INT8})
    roundings = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert len(roundings) == 2  # what goes into the layer and what comes out


def test_a_plan_without_int8_leaves_the_file_as_it_is():
    proto = exported("mlp")
    assert quantize_onnx(proto, FilePlan(layers={"0": FP32}), seen("mlp"), machine()) is proto


def test_a_plan_that_keeps_every_layer_in_float_changes_no_output():
    layers = dict.fromkeys(
        [node.name for node in exported("residual").graph.node if node.op_type in WEIGHTED_OPS], FP32
    )
    x = inputs_of("residual", 4)
    np.testing.assert_array_equal(run(quantized("residual", layers=layers), x), run(exported("residual"), x))


def test_products_without_weights_stay_float():
    """A kernel computes in integers where all that goes in and what comes out is rounded."""
    proto = quantized("vit")
    makers = {node.output[0]: node.op_type for node in proto.graph.node}
    readers = {i: node.op_type for node in proto.graph.node for i in node.input}

    def is_rounded(node) -> bool:
        return readers[node.output[0]] == "QuantizeLinear" and all(makers[i] == "DequantizeLinear" for i in node.input)

    products = {node.name: is_rounded(node) for node in proto.graph.node if node.op_type == "MatMul"}
    attention = {name: rounded for name, rounded in products.items() if name.startswith("matmul_")}
    assert list(attention.values()) == [False, False]
    assert all(rounded for name, rounded in products.items() if name not in attention)


@pytest.mark.parametrize(
    ("activations", "stored"), [(ActivationType.U8, TensorProto.UINT8), (ActivationType.S8, TensorProto.INT8)]
)
def test_the_machine_decides_the_type_of_activations(activations, stored):
    proto = quantized("residual", on=machine(activations))
    assert types_of_activations(proto) == {stored}
    assert {weight.dtype for weight in weights_of(proto).values()} == {np.dtype(np.int8)}


def test_symmetric_activations_have_no_zero_point():
    proto = quantized("residual", on=machine(ActivationType.S8))
    stored = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    points = [stored[node.input[2]] for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert points
    assert all(not point.any() for point in points)


@pytest.mark.parametrize(("reduce_range", "most"), [(True, 64), (False, 127)])
def test_a_reduced_range_keeps_weights_within_seven_bits(reduce_range, most):
    weights = weights_of(quantized("residual", on=machine(reduce_range=reduce_range)))
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights.values()) == most


def test_the_file_holds_nothing_but_the_network():
    proto = quantized("residual")
    assert (proto.producer_name, proto.producer_version) == ("autocompress", "")
    assert not proto.metadata_props
    assert not proto.graph.value_info
    assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)


def test_the_float_file_is_left_alone_and_the_same_calibration_gives_the_same_file():
    proto = exported("mlp")
    before = copy.deepcopy(proto)
    files = [quantize_onnx(proto, FilePlan(default=INT8), seen("mlp"), machine()) for _ in range(2)]
    assert proto == before
    assert files[0] == files[1]


def test_ranges_are_those_of_the_calibration_data():
    halves = Seen(inputs=np.full((4, 12), 0.5, "f"), batch=1)
    small = quantize_onnx(exported("mlp"), FilePlan(default=INT8), halves, machine())
    stored = {item.name: numpy_helper.to_array(item) for item in small.graph.initializer}
    assert stored["input_scale"] == pytest.approx(0.5 / 255)


def test_a_batch_that_calibration_does_not_fill_is_left_out():
    proto = exported("residual", 4)
    x = inputs_of("residual", 6).numpy()
    plan = FilePlan(default=INT8)
    files = [quantize_onnx(proto, plan, Seen(inputs=part, batch=4), machine()) for part in (x, x[:4])]
    assert files[0] == files[1]


def test_logging_is_as_it_was():
    quantized("mlp")
    assert logging.root.manager.disable == logging.NOTSET
    assert torch.is_grad_enabled()
