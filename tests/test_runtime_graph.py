"""What the runtime makes of small files, as kernels."""

import base64
import zlib

import numpy as np
import pytest
from onnx import TensorProto, helper
from sample_result import machine
from tiny_onnx import dense_file, save

from autocompress.errors import MeasurementError
from autocompress.export.calibrate import Seen
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.hardware.drawn.net import Activation, Net
from autocompress.hardware.kernels.kernel import Tensor
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph, graph_of, runtime_graph
from autocompress.hardware.runner import Senses, profiled
from autocompress.precision import INT8, FilePlan
from autocompress.target import Target

TARGET = Target()
SHAPE = (1, 4, 8, 8)


def proto():
    """Convolution, ReLU, mean, linear layer."""
    net = Net(np.random.default_rng(0), SHAPE)
    x = net.conv(net.input, 16, 3, act=Activation.RELU)
    return net.model(net.head(x, 10))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "small.onnx"
    path.write_bytes(proto().SerializeToString())
    return path


@pytest.fixture(scope="module")
def graph(file) -> RuntimeGraph:
    return runtime_graph(file, TARGET)


def of(graph: RuntimeGraph, *operators: str):
    (found,) = [placed.kernel for placed in graph.kernels if placed.kernel.operator in operators]
    return found


def test_a_convolution_and_its_activation_are_one_kernel(graph):
    conv = of(graph, "Conv", "FusedConv")
    assert "Relu" not in {placed.kernel.operator for placed in graph.kernels}
    assert conv.attribute("activation", "") == "Relu"
    assert conv.integers("kernel_shape", ()) == (3, 3)
    assert conv.integer("group", 0) == 1
    assert conv.inputs[:2] == (Tensor("float", SHAPE), Tensor("float", (16, 4, 3, 3), stored=True))
    assert conv.outputs == (Tensor("float", (1, 16, 8, 8)),)


def test_weights_that_the_profile_leaves_out_come_from_the_graph(file, graph):
    plan = {"threads": 1, "batch": 1, "seed": 0, "profile_ms": 0.0}
    seen = next(each for each in profiled(str(file), plan, Senses())["kernels"] if each["op"] == "Gemm")
    assert ["float", [10, 16]] not in seen["inputs"], "the runtime says more than it did: this test is of no use"
    assert of(graph, "Gemm").inputs[1:] == (Tensor("float", (10, 16), True), Tensor("float", (10,), True))


def test_kernels_read_what_kernels_before_them_made(graph):
    known = {"input"}
    for placed in graph.kernels:
        named = zip(placed.reads, placed.kernel.inputs, strict=True)
        assert {name for name, tensor in named if not tensor.stored} <= known
        known |= set(placed.makes)
    assert "output" in known


def test_every_kernel_has_a_name_and_a_time(graph):
    assert len({placed.name for placed in graph.kernels}) == len(graph.kernels)
    assert all(placed.us > 0 for placed in graph.kernels)


def test_stored_bytes_are_those_of_the_constants(graph):
    stored = {name: t for placed in graph.kernels for name, t in zip(placed.reads, placed.kernel.inputs, strict=True)}
    assert graph.stored_bytes == sum(tensor.bytes for tensor in stored.values() if tensor.stored)
    assert graph.stored_bytes >= 4 * (16 * 4 * 9 + 16 + 16 * 10 + 10)


def test_attributes_that_change_no_time_are_left_out(graph):
    assert not {"auto_pad", "ceil_mode"} & {name for placed in graph.kernels for name, _ in placed.kernel.attributes}


def test_an_int8_file_has_integer_kernels(tmp_path):
    noise = np.random.default_rng(0).standard_normal((8, *SHAPE[1:])).astype(np.float32)
    path = tmp_path / "int8.onnx"
    small = quantize_onnx(proto(), FilePlan(default=INT8), Seen(inputs=noise, batch=1), machine())
    path.write_bytes(small.SerializeToString())
    conv = of(runtime_graph(path, TARGET), "QLinearConv")
    assert conv.inputs[3] == Tensor("int8", (16, 4, 3, 3), stored=True)
    assert conv.inputs[0].dtype in {"int8", "uint8"}


def test_an_open_first_axis_is_the_batch(tmp_path):
    kernel = of(runtime_graph(dense_file(tmp_path / "f.onnx", batch="n"), Target(batch=3)), "Gemm")
    assert (kernel.inputs[0].shape, kernel.outputs[0].shape) == ((3, 4), (3, 3))


def test_an_optional_input_that_is_left_out_keeps_its_place(tmp_path):
    nodes = [helper.make_node("Clip", ["x", "", "most"], ["y"])]
    path = save(tmp_path / "f.onnx", nodes, {"x": [1, 4]}, {"most": np.float32(0.5)})
    kernel = of(runtime_graph(path, TARGET), "Clip")
    assert [tensor.dtype for tensor in kernel.inputs] == ["float", "", "float"]


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(MeasurementError, match=r"the runtime must load and run .*broken\.onnx; it says: .*Protobuf"):
        runtime_graph(path, TARGET)


def test_an_operator_that_the_runtime_lacks_is_named(tmp_path):
    nodes = [helper.make_node("Bogus", ["x"], ["y"], domain="com.microsoft")]
    path = save(tmp_path / "f.onnx", nodes, {"x": [1]}, {})
    with pytest.raises(MeasurementError, match=r"the runtime must load and run .*Bogus"):
        runtime_graph(path, TARGET)


def seen(nodes, events, **tensors) -> dict:
    """What the runner reports of a file of ``nodes`` whose graph input is ``x``."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    proto = helper.make_model(helper.make_graph(nodes, "g", [x], [], **tensors))
    return {"graph": base64.b64encode(zlib.compress(proto.SerializeToString())).decode(), "kernels": events}


def event(node, *outputs) -> dict:
    return {"op": node.op_type, "name": node.name, "outputs": list(outputs), "us": 1.0}


def test_a_tensor_that_nobody_describes_is_named_with_its_node():
    first, second = (helper.make_node(op, [x], [y], name=op) for op, x, y in (("Abs", "x", "a"), ("Neg", "a", "y")))
    whole = seen([first, second], [event(first, ["float", [2]]), event(second, ["float", [2]])])
    assert len(graph_of(whole, 1).kernels) == 2
    lacking = seen([first, second], [event(first), event(second, ["float", [2]])])
    with pytest.raises(MeasurementError, match=r"'a' has none, which Neg 'Neg' reads; .*can only be measured"):
        graph_of(lacking, 1)


def test_a_sparse_constant_is_named_with_its_node():
    add = helper.make_node("Add", ["x", "few"], ["y"], name="add")
    values, places = (helper.make_tensor(n, kind, [1], [1]) for n, kind in (("few", 1), ("at", TensorProto.INT64)))
    sparse = [helper.make_sparse_tensor(values, places, [2])]
    with pytest.raises(MeasurementError, match="'few' has none, which Add 'add' reads"):
        graph_of(seen([add], [event(add, ["float", [2]])], sparse_initializer=sparse), 1)


def test_an_element_type_that_onnx_does_not_have_is_named():
    add = helper.make_node("Add", ["x", "w"], ["y"], name="add")
    odd = TensorProto(name="w", data_type=999, dims=[2])
    with pytest.raises(MeasurementError, match="w has the unknown number 999"):
        graph_of(seen([add], [event(add, ["float", [2]])], initializer=[odd]), 1)


def test_control_flow_is_refused(tmp_path):
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["x"], [operator])], name, [],
            [helper.make_tensor_value_info(operator, TensorProto.FLOAT, [2])],
        )
        for name, operator in (("then_branch", "Abs"), ("else_branch", "Neg"))
    }  # fmt: skip
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["is_any"], to=TensorProto.BOOL),
        helper.make_node("If", ["is_any"], ["y"], **branches),
    ]
    path = save(tmp_path / "f.onnx", nodes, {"x": [2]}, {})
    with pytest.raises(MeasurementError, match=r"control flow \(If, Loop, Scan\) cannot be predicted"):
        runtime_graph(path, TARGET)
