"""Weights that share their integers under scales of both signs, as layers do whose folded BatchNorms differ in sign."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from stored_samples import operators_after_loading, run, sample

from autocompress.export.stored_weights import dense_of, store

C_OUT = 16
X_SCALE, Y_SCALE = 0.02, 0.2
LAYERS = {  # kind: operator, its attributes, input shape, weight shape, axis of the output channels, kernel
    "conv": ("Conv", {"pads": [1] * 4}, (1, 8, 9, 9), (C_OUT, 8, 3, 3), 0, "QLinearConv"),
    "pointwise": ("Conv", {}, (1, 8, 9, 9), (C_OUT, 8, 1, 1), 0, "QLinearConv"),
    "depthwise": ("Conv", {"pads": [1] * 4, "group": C_OUT}, (1, C_OUT, 9, 9), (C_OUT, 1, 3, 3), 0, "QLinearConv"),
    "gemm": ("Gemm", {"transB": 1}, (4, 32), (C_OUT, 32), 0, "QGemm"),
    "matmul": ("MatMul", {}, (4, 32), (32, C_OUT), 1, "QLinearMatMul"),
}


def quantized_layer(kind: str, weight: np.ndarray, scales: np.ndarray, activations: type) -> ModelProto:
    """One layer between quantized activations, its int8 weight under ``scales``."""
    operator, attributes, x_shape, _, axis, _ = LAYERS[kind]
    zero_point = np.array(np.iinfo(activations).max // 2 if activations is np.uint8 else 0, activations)
    bias = np.random.default_rng(1).normal(size=C_OUT) * 0.3
    constants = {
        "w": weight,
        "w_scale": scales,
        "w_zero": np.zeros(C_OUT, np.int8),
        "x_scale": np.float32(X_SCALE),
        "y_scale": np.float32(Y_SCALE),
        "zero": zero_point,
        "b": np.round(bias / (X_SCALE * scales)).astype(np.int32),
        "b_scale": (np.float32(X_SCALE) * scales).astype(np.float32),
        "b_zero": np.zeros(C_OUT, np.int32),
    }
    inputs = ["x_float", "w_float"] if operator == "MatMul" else ["x_float", "w_float", "b_float"]
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["input", "x_scale", "zero"], ["x_int"]),
        node("DequantizeLinear", ["x_int", "x_scale", "zero"], ["x_float"]),
        node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_float"], axis=axis),
        node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["b_float"], axis=0),
        node(operator, inputs, ["y_float"], **attributes),
        node("QuantizeLinear", ["y_float", "y_scale", "zero"], ["y_int"]),
        node("DequantizeLinear", ["y_int", "y_scale", "zero"], ["output"]),
    ]
    if operator == "MatMul":
        nodes.pop(3)
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("activations", [np.uint8, np.int8], ids=["u8", "s8"])
@pytest.mark.parametrize("kind", LAYERS)
def test_int8_kernels_take_scales_of_both_signs(kind, activations):
    """What the int8 kernel computes is the float computation, and the same as with the signs in the weight instead."""
    *_, x_shape, w_shape, axis, kernel = LAYERS[kind]
    stored = sample(w_shape, bits=4, table="int8")
    weight = dense_of(stored)
    scales = np.random.default_rng(0).uniform(0.005, 0.015, C_OUT).astype(np.float32)
    scales[::2] *= -1
    signs = np.sign(scales).astype(np.int8).reshape([-1 if each == axis else 1 for each in range(weight.ndim)])
    x = np.random.default_rng(2).normal(size=x_shape).astype(np.float32)

    file = store(quantized_layer(kind, weight, scales, activations), {"w": stored})

    assert kernel in operators_after_loading(file)
    assert not {"Conv", "Gemm", "MatMul", "Gather"} & set(operators_after_loading(file))
    y = run(file, x)
    assert y.std() > 3 * Y_SCALE
    np.testing.assert_allclose(y, run(file, x, optimize=False), atol=Y_SCALE * 1.01)  # a tie may be rounded either way
    assert (y == run(file, x, optimize=False)).mean() > 0.99
    positive = quantized_layer(kind, weight * signs, np.abs(scales), activations)
    np.testing.assert_array_equal(y, run(positive, x))
