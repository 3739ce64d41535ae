"""Shorter names and shared constants change bytes, and nothing else."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from autocompress.export.compact import compact


@pytest.fixture
def network() -> onnx.ModelProto:
    """Two convolutions with equal weights, names as long as exporters make them."""
    weight = np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node(
            "Conv", ["input", "layer1.0.conv1.weight_long_name"], ["middle_of_the_network"], name="a.conv"
        ),
        helper.make_node("Relu", ["middle_of_the_network"], ["after_the_relu_of_the_network"], name="long_relu_name"),
        helper.make_node("Conv", ["after_the_relu_of_the_network", "layer1.0.conv2.weight"], ["output"], name="b.conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 4, 4, 4])],
        [
            numpy_helper.from_array(weight, "layer1.0.conv1.weight_long_name"),
            numpy_helper.from_array(weight.copy(), "layer1.0.conv2.weight"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


def test_outputs_are_the_same_bits_and_bytes_are_fewer(network):
    small = compact(network)

    onnx.checker.check_model(small)
    x = np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(small, x), run(network, x))
    assert len(small.SerializeToString()) < len(network.SerializeToString())


def test_equal_constants_are_stored_once(network):
    assert len(compact(network).graph.initializer) == 1


def test_inputs_outputs_and_weighted_nodes_keep_their_names(network):
    small = compact(network).graph

    assert (small.input[0].name, small.output[0].name) == ("input", "output")
    assert [node.name for node in small.node] == ["a.conv", "", "b.conv"]


def test_the_original_is_left_alone(network):
    before = network.SerializeToString()

    compact(network)

    assert network.SerializeToString() == before


def test_a_graph_with_a_branch_keeps_its_names():
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])
        return helper.make_graph([helper.make_node("Identity", ["shared_by_both"], [name])], name, [], [out])

    nodes = [
        helper.make_node("Relu", ["input"], ["shared_by_both"]),
        helper.make_node("If", ["which"], ["output"], then_branch=branch("yes"), else_branch=branch("no")),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("which", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [2])],
    )

    assert compact(helper.make_model(graph)).graph.node[0].output[0] == "shared_by_both"


def test_short_names_leave_those_of_inputs_and_outputs_alone():
    """An input may be called as short as the inner names are."""
    nodes = [helper.make_node("Relu", ["1"], ["inner"]), helper.make_node("Neg", ["inner"], ["0"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("1", "0")]
    proto = helper.make_model(helper.make_graph(nodes, "network", ends[:1], ends[1:]))
    first, second = compact(proto).graph.node
    assert (list(first.input), list(second.output)) == (["1"], ["0"])
    assert first.output[0] == second.input[0]
    assert first.output[0] not in {"0", "1"}
