from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import FLOAT, dense_file, external_file, floats, save

from autocompress.errors import MeasurementError
from autocompress.hardware.file_facts import count_macs, count_params, external_files, file_facts, file_size_bytes

node = helper.make_node
SCALE = {"s": np.float32(0.1), "z": np.uint8(128), "zs": np.int8(0)}


def counts(path: Path) -> tuple[int, int]:
    return count_macs(path), count_params(path)


def conv_net(path: Path, *, quantized: bool, batch: int = 1, group: int = 1) -> Path:
    """Conv 4→6, 3×3, stride 2, on 8×8; ReLU; mean; Gemm 6→5. Quantized: weights, biases and activations in QDQ form."""
    conv_w, conv_b, w, b = floats(6, 4 // group, 3, 3), floats(6), floats(5, 6), floats(5)
    names = {"cw": conv_w, "cb": conv_b, "w": w, "b": b}
    attributes = {"pads": [1, 1, 1, 1], "strides": [2, 2], "group": group}
    nodes, stored, x = [], dict(names), "x"
    if quantized:
        stored = dict(SCALE)
        for name, array in names.items():
            n = array.shape[0]
            is_bias = array.ndim == 1
            stored[f"{name}q"] = np.zeros(array.shape, np.int32 if is_bias else np.int8)
            stored[f"{name}s"], stored[f"{name}z"] = (
                np.ones(n, np.float32),
                np.zeros(n, np.int32 if is_bias else np.int8),
            )
            nodes.append(node("DequantizeLinear", [f"{name}q", f"{name}s", f"{name}z"], [name], axis=0))
        nodes += [node("QuantizeLinear", ["x", "s", "z"], ["xq"]), node("DequantizeLinear", ["xq", "s", "z"], ["xd"])]
        x = "xd"
    nodes += [
        node("Conv", [x, "cw", "cb"], ["c"], **attributes),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    return save(path, nodes, {"x": [batch, 4, 8, 8]}, stored)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_float_and_qdq_forms_count_the_same_per_sample(tmp_path, batch, group):
    expected = (6 * 4 * 4 * (4 // group) * 9 + 5 * 6, 6 * (4 // group) * 9 + 6 + 5 * 6 + 5)
    for quantized in (False, True):
        assert counts(conv_net(tmp_path / "m.onnx", quantized=quantized, batch=batch, group=group)) == expected


def test_a_dynamic_batch_counts_one_sample(tmp_path):
    assert counts(dense_file(tmp_path / "m.onnx", width=4, n_outputs=3, batch="n")) == (12, 15)


def test_qoperator_forms_count_like_float_ones(tmp_path):
    """Their shapes are unknown to ONNX: QGemm is an operator of ONNX Runtime."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node(
            "QLinearConv", ["xq", "s", "z", "cw", "s", "zs", "s", "z", "cb"], ["cq"], pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        node("QLinearGlobalAveragePool", ["cq", "s", "z", "s", "z"], ["pq"], domain="com.microsoft"),
        node("Flatten", ["pq"], ["fq"]),
        node("QGemm", ["fq", "s", "z", "w", "s", "zs", "b", "s", "z"], ["yq"], transB=1, domain="com.microsoft"),
        node("DequantizeLinear", ["yq", "s", "z"], ["y"]),
    ]
    stored = SCALE | {
        "cw": np.zeros((6, 4, 3, 3), np.int8),
        "cb": np.zeros(6, np.int32),
        "w": np.zeros((5, 6), np.int8),
        "b": np.zeros(5, np.int32),
    }
    found = counts(save(tmp_path / "m.onnx", nodes, {"x": [1, 4, 8, 8]}, stored))
    assert found == counts(conv_net(tmp_path / "f.onnx", quantized=False))


def test_integer_products_count(tmp_path):
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        node("MatMulInteger", ["xq", "w", "xz"], ["i"]),
        node("Cast", ["i"], ["y"], to=FLOAT),
    ]
    assert counts(save(tmp_path / "m.onnx", nodes, {"x": [1, 7, 4]}, {"w": np.zeros((4, 3), np.int8)})) == (84, 12)
    nodes[1:] = [node("ConvInteger", ["xq", "w", "xz"], ["i"]), node("Cast", ["i"], ["y"], to=FLOAT)]
    weights = {"w": np.zeros((2, 4, 3), np.int8)}
    assert counts(save(tmp_path / "m.onnx", nodes, {"x": [1, 4, 7]}, weights)) == (2 * 5 * 12, 24)


def test_products_between_activations_count_and_have_no_weights(tmp_path):
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]), node("MatMul", ["x", "t"], ["y"])]
    assert counts(save(tmp_path / "m.onnx", nodes, {"x": [2, 3, 5, 7]}, {})) == (3 * 5 * 5 * 7, 0)


def test_einsum_counts_every_combination_of_indices(tmp_path):
    einsum = [node("Einsum", ["x", "w"], ["y"], equation="bnd,de->bne")]
    assert counts(save(tmp_path / "e.onnx", einsum, {"x": [2, 5, 4]}, {"w": floats(4, 3)})) == (5 * 4 * 3, 12)


@pytest.mark.parametrize("heads_apart", [True, False])
def test_attention_counts_both_of_its_products(tmp_path, heads_apart):
    """Four query heads over two key heads, 5 queries, 7 keys, 8 numbers a head."""
    q, k = ([2, 4, 5, 8], [2, 2, 7, 8]) if heads_apart else ([2, 5, 32], [2, 7, 16])
    attributes = {} if heads_apart else {"q_num_heads": 4, "kv_num_heads": 2}
    nodes = [node("Attention", ["q", "k", "v"], ["y"], **attributes)]
    file = save(tmp_path / "m.onnx", nodes, {"q": q, "k": k, "v": k}, {}, opset=23)
    assert counts(file) == (4 * 5 * 7 * 8 * 2, 0)


def test_transposed_convolution_counts_every_input_pixel(tmp_path):
    nodes = [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])]
    found = counts(save(tmp_path / "m.onnx", nodes, {"x": [1, 4, 5, 5]}, {"w": floats(4, 6, 3, 3)}))
    assert found == (4 * 25 * 6 * 9, 4 * 6 * 9)


@pytest.mark.parametrize(("kind", "n_gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_count_every_step(tmp_path, kind, n_gates):
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node(kind, ["t", "w", "r", "b"], ["y"], hidden_size=6),
    ]
    stored = {"w": floats(1, n_gates * 6, 4), "r": floats(1, n_gates * 6, 6), "b": floats(1, 2 * n_gates * 6)}
    macs, params = counts(save(tmp_path / "m.onnx", nodes, {"x": [2, 9, 4]}, stored))
    assert macs == 9 * n_gates * 6 * (4 + 6)
    assert params == n_gates * 6 * (4 + 6 + 2)


def test_packed_weights_count_as_what_their_layer_gets(tmp_path):
    """Sixteen values, one index a weight, decoded by Gather and Reshape."""
    nodes = [
        node("Gather", ["codebook", "indices"], ["flat"]),
        node("Reshape", ["flat", "shape"], ["w"]),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    stored = {"codebook": floats(16), "indices": np.zeros(32, np.int32), "shape": np.array([8, 4], np.int64)}
    assert counts(save(tmp_path / "m.onnx", nodes, {"x": [1, 8]}, stored)) == (32, 32)


def test_a_shared_weight_counts_once_and_works_twice(tmp_path):
    nodes = [
        node("Gather", ["table", "x"], ["e"]),
        node("Transpose", ["table"], ["tt"]),
        node("MatMul", ["e", "tt"], ["y"]),
    ]
    file = save(tmp_path / "m.onnx", nodes, {"x": [1, 3]}, {"table": floats(10, 4)}, kind=TensorProto.INT64)
    assert counts(file) == (3 * 4 * 10, 40)


def test_plain_numbers_and_shapes_are_no_weights_but_added_vectors_are(tmp_path):
    nodes = [
        node("Mul", ["x", "half"], ["h"]),
        node("Add", ["h", "bias"], ["a"]),
        node("LayerNormalization", ["a", "g", "b"], ["n"]),
        node("Shape", ["n"], ["dims"]),
        node("Concat", ["dims", "one"], ["wider"], axis=0),
        node("Reshape", ["n", "wider"], ["y"]),
    ]
    stored = {"half": np.float32(0.5), "bias": floats(4), "g": floats(4), "b": floats(4), "one": np.ones(1, np.int64)}
    assert counts(save(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, stored)) == (0, 12)


def test_what_depends_on_constants_only_costs_nothing(tmp_path):
    nodes = [node("MatMul", ["a", "b"], ["w"]), node("MatMul", ["x", "w"], ["y"])]
    assert counts(save(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, {"a": floats(4, 9), "b": floats(9, 3)})) == (12, 12)


def test_functions_are_counted_by_their_body(tmp_path):
    body = [node("MatMul", ["p", "q"], ["o"])]
    opset = [helper.make_opsetid("", 20)]
    function = helper.make_function("local", "Dense", ["p", "q"], ["o"], body, opset)
    nodes = [node("Dense", ["x", "w"], ["y"], domain="local")]
    assert counts(with_domain(tmp_path / "m.onnx", nodes, function)) == (12, 12)


def with_domain(path: Path, nodes, function) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(floats(4, 3), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, functions=[function]).SerializeToString())
    return path


def test_size_includes_external_data(tmp_path):
    file = external_file(tmp_path / "m.onnx")
    data = tmp_path / "m.onnx.data"
    assert external_files(file) == [data]
    assert data.stat().st_size >= 4 * 64 * 64
    assert file_size_bytes(file) == file.stat().st_size + data.stat().st_size
    assert counts(file) == (64 * 64, 64 * 64 + 64)


def test_all_facts_at_once_agree_with_each_alone(tmp_path):
    file = dense_file(tmp_path / "m.onnx")
    facts = file_facts(file)
    assert (facts.size_bytes, facts.macs, facts.params) == (file_size_bytes(file), count_macs(file), count_params(file))
    assert external_files(file) == []


def test_errors_name_the_file_and_the_next_step(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(MeasurementError, match=r"must be readable ONNX, got .*bad\.onnx"):
        count_macs(tmp_path / "bad.onnx")
    loose = save(tmp_path / "loose.onnx", [node("Relu", ["x"], ["y"])], {"x": [1, "w"]}, {})
    with pytest.raises(MeasurementError, match=r"static shapes beyond the batch, got 'x' with axis 1 'w'.*export it"):
        count_macs(loose)
    odd = save(tmp_path / "odd.onnx", [node("Odd", ["x"], ["y"], domain="com.microsoft")], {"x": [1, 3]}, {})
    with pytest.raises(MeasurementError, match=r"odd\.onnx are known only by running it, and the runtime says"):
        count_macs(odd)
