"""The network of a file computes what ONNX Runtime computes from it, at any batch."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_exports import exported, machine, quantized, run, weight_names
from tiny_models import TINY_MODELS, inputs_of, shape_of
from torch import nn

from autocompress.errors import ModelError
from autocompress.export.onnx_file import to_onnx
from autocompress.export.trainable.network import OnnxNetwork
from autocompress.graph.program import from_portable, to_portable
from autocompress.target import ActivationType
from autocompress.task import Layout, Preprocess


def step_of(proto) -> float:
    """The scale of the last rounding in the file."""
    last = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"][-1]
    return float(next(numpy_helper.to_array(i) for i in proto.graph.initializer if i.name == last.input[1]))


def graph(nodes, stored, shape=(1, 3)):
    """A file ``x → y`` with these nodes."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_float_network_equals_the_runtime_at_batch_one_and_five(name):
    proto, x = exported(name), inputs_of(name, 5)
    network, expected = OnnxNetwork(proto), run(proto, x)
    for inputs, outputs in ((x, expected), (x[:1], expected[:1])):
        np.testing.assert_allclose(network(inputs).detach(), outputs, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("activations", ActivationType)
@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_rounded_network_equals_the_runtime_but_for_rare_steps(name, activations):
    proto, x = quantized(name, on=machine(activations)), inputs_of(name, 64)
    steps = np.abs(OnnxNetwork(proto)(x).detach().numpy() - run(proto, x)) / step_of(proto)
    assert steps.max() < 2.01
    assert (steps < 0.5).mean() >= 0.95


class Recurrent(nn.Module):
    """States over a series, the last one to a head; both ways for GRU."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.states = kind(6, 5, batch_first=True, bidirectional=kind is nn.GRU)
        self.head = nn.Linear(10 if kind is nn.GRU else 5, 4)

    def forward(self, x):
        return self.head(self.states(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_networks_equal_the_runtime(kind):
    proto = to_onnx(Recurrent(kind), Preprocess(layout=Layout.AS_STORED, shape=(7, 6)), 1)
    x = torch.randn(5, 7, 6)
    np.testing.assert_allclose(OnnxNetwork(proto)(x).detach(), run(proto, x), rtol=1e-4, atol=1e-6)


def test_a_file_with_batch_four_serves_other_batches():
    proto, x = exported("residual", 4), inputs_of("residual", 4)
    network = OnnxNetwork(proto)
    np.testing.assert_allclose(network(x[:3]).detach(), run(proto, x)[:3], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["residual", "vit"])
def test_a_rounded_network_can_be_stored_and_trained_again(name):
    network, x = OnnxNetwork(quantized(name)), inputs_of(name, 6)
    again = from_portable(to_portable(network, shape_of(name)))
    outputs = network(x), again(x)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-6)
    gradients = [
        dict(
            zip(
                (n for n, _ in m.named_parameters()),
                torch.autograd.grad(y.square().mean(), m.parameters()),
                strict=True,
            )
        )
        for m, y in zip((network, again), outputs, strict=True)
    ]
    assert gradients[0].keys() == gradients[1].keys()
    for parameter, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][parameter], gradient, rtol=1e-3, atol=1e-5)


def test_a_copy_has_its_own_weights():
    network, x = OnnxNetwork(quantized("mlp")), inputs_of("mlp", 2)
    before = network(x)
    other = copy.deepcopy(network)
    torch.testing.assert_close(other(x), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    assert not torch.equal(other(x), before)
    torch.testing.assert_close(network(x), before, rtol=0, atol=0)


def test_what_layers_share_is_one_parameter():
    names = weight_names(exported("tied"))
    assert list(names.values()).count(names["one"]) == 2
    network = OnnxNetwork(exported("tied"))
    assert sum(p.numel() == 64 for p in network.parameters()) == 1


def test_factors_are_not_trained():
    network = OnnxNetwork(exported("vit"))
    assert all(parameter.numel() > 1 for parameter in network.parameters())


def test_rounding_is_trained_through_under_autocast():
    network, x = OnnxNetwork(quantized("residual")), inputs_of("residual", 4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(x).square().mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("nodes", "stored", "message"),
    [
        ([helper.make_node("NonZero", ["x"], ["y"], name="n")], {}, "node 'n' is a NonZero, which has no counterpart"),
        (
            [helper.make_node("ReduceMean", ["x", "a"], ["y"], name="n")],
            {"a": np.array([0])},
            "computes each sample by itself",
        ),
        (
            [helper.make_node("Slice", ["x", "a", "b", "a"], ["y"], name="n")],
            {"a": np.array([0]), "b": np.array([0])},
            "takes a part of the batch",
        ),
        ([helper.make_node("Concat", ["x", "x"], ["y"], name="n", axis=0)], {}, "joins along the batch"),
        ([helper.make_node("Conv", ["x", "w"], ["y"], name="n")], {"w": np.ones((1, 3, 1), "f")}, "1 to 3 dimensions"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(nodes, stored, message):
    with pytest.raises(ModelError, match=message):
        OnnxNetwork(graph(nodes, stored))


def test_a_batch_in_a_broadcast_constant_asks_for_another_export():
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], name="n")]
    with pytest.raises(ModelError, match=r"node 'n' \(Add\) must run at any batch.*export the file with batch 1"):
        OnnxNetwork(graph(nodes, {"w": np.ones((3, 2), "f")}, shape=(3, 2)))


def test_the_batch_is_found_behind_other_axes():
    """Heads before samples, as attention has them; a shape with the file's batch of 1 in several places."""
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["b", "flat"], ["c"]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["d", "whole"], ["y"]),
    ]
    stored = {"split": np.array([1, 1, 3, 2]), "flat": np.array([3, 1, 2]), "whole": np.array([1, 6])}
    x = torch.randn(4, 6)
    torch.testing.assert_close(OnnxNetwork(graph(nodes, stored, shape=(1, 6)))(x), x)


def test_one_scale_must_serve_both_sides_of_a_pair():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "t", "z"], ["y"], name="n"),
    ]
    stored = {"s": np.float32(0.1), "t": np.float32(0.2), "z": np.uint8(3)}
    with pytest.raises(ModelError, match="node 'n' must dequantize with the scale"):
        OnnxNetwork(graph(nodes, stored))


def test_the_file_is_left_alone():
    proto = exported("mlp")
    before = copy.deepcopy(proto)
    OnnxNetwork(proto)
    assert proto == before
    onnx.checker.check_model(proto)
