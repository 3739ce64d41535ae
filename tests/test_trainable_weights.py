"""Weights that are trained under rounding and constraints, and the file that they go back into."""

from unittest import mock

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tiny_exports import exported, quantized, run, weight_names
from tiny_models import inputs_of
from torch import Tensor

from autocompress.errors import ModelError
from autocompress.export.compact import compact
from autocompress.export.trainable.fake_quant import Rounding, fake_quantize, fitted_steps
from autocompress.export.trainable.network import OnnxNetwork
from autocompress.export.trainable.weight import WeightRule
from autocompress.export.trainable.write_back import write_back
from autocompress.hardware.machine import this_machine
from autocompress.layers.constraint import Constraint, held

BOTH = pytest.mark.parametrize("make", [exported, quantized], ids=["float", "rounded"])


def stored_in(proto) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}


def train(network: OnnxNetwork, x: Tensor, steps: int = 5) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    targets = torch.randn(len(x), 4)
    with held(network.constrained()):
        for _ in range(steps):
            optimizer.zero_grad()
            (network(x) - targets).square().mean().backward()
            optimizer.step()


def assert_file_computes_the_same(proto, network: OnnxNetwork, x: Tensor) -> None:
    fused = not this_machine().reduce_range  # integers grow beyond the seven bits that such kernels have room for
    outputs, expected = network(x).detach().numpy(), run(proto, x, fused=fused)
    last = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    if not last:
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        return
    steps = np.abs(outputs - expected) / stored_in(proto)[last[-1].input[1]]
    assert steps.max() < 2.01
    assert (steps < 0.5).mean() > 0.8  # with few bits the rounding of biases, which the network leaves out, shows


@BOTH
@pytest.mark.parametrize("name", ["residual", "vit", "tied", "group norm", "depthwise"])
def test_an_untrained_network_leaves_the_file_as_it_was_and_a_trained_one_fits_it(name, make):
    proto, x = make(name), inputs_of(name, 32)
    network = OnnxNetwork(proto)
    assert write_back(proto, network) == proto
    train(network, x)
    written = write_back(proto, network)
    onnx.checker.check_model(written)
    assert np.abs(run(written, x) - run(proto, x)).max() > 0.01  # it has learned something
    assert_file_computes_the_same(written, network, x)


def test_a_constant_that_two_weights_read_becomes_two():
    proto, x = compact(quantized("residual")), inputs_of("residual", 16)
    network = OnnxNetwork(proto)
    train(network, x)
    written = write_back(proto, network)
    onnx.checker.check_model(written)
    assert_file_computes_the_same(written, network, x)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_integers_keep_to_the_bits(bits):
    proto, x = quantized("residual"), inputs_of("residual", 16)
    names = weight_names(proto).values()
    network = OnnxNetwork(proto, dict.fromkeys(names, WeightRule(bits=bits)))
    train(network, x)
    written = write_back(proto, network)
    assert max(int(np.abs(stored_in(written)[name].astype(int)).max()) for name in names) == 2 ** (bits - 1) - 1
    assert_file_computes_the_same(written, network, x)


def layer(proto, name: str) -> str:
    return weight_names(proto)[name]


@torch.no_grad()
def start_from(network: OnnxNetwork, name: str, master: Tensor) -> None:
    """Give a weight this master, and steps that reach its largest value."""
    weight = network.leaves.weight(name)
    weight.master.copy_(master)
    if weight.rounding is not None:
        steps = weight.rounding.start
        steps.copy_(master.reshape(len(steps), -1).abs().amax(1) / weight.rounding.high)


@BOTH
def test_zeros_stay_zero_in_the_file(make):
    proto, x = make("plain"), inputs_of("plain", 16)
    kept = torch.rand(16, 8, 3, 3) < 0.5
    network = OnnxNetwork(proto, {layer(proto, "2"): WeightRule(constraint=Constraint(kept=kept))})
    train(network, x)
    written = write_back(proto, network)
    assert not stored_in(written)[layer(proto, "2")][~kept.numpy()].any()
    assert_file_computes_the_same(written, network, x)


def test_equal_weights_are_equal_integers_though_channels_are_scaled():
    proto, x = quantized("plain"), inputs_of("plain", 16)
    indices = torch.randint(0, 4, (16, 8, 3, 3), dtype=torch.uint8)
    codebooks = torch.tensor([[-0.2, -0.05, 0.1, 0.15], [-0.12, -0.03, 0.04, 0.18]])
    constraint, scale = Constraint(indices=indices, bits=2, groups=2), torch.rand(16) + 0.5
    rule = WeightRule(bits=6, constraint=constraint, channel_scale=scale)
    network = OnnxNetwork(proto, {layer(proto, "2"): rule})
    halves = [codebook[half.long()] for codebook, half in zip(codebooks, indices.chunk(2), strict=True)]
    start_from(network, layer(proto, "2"), torch.cat(halves))
    train(network, x)
    written = write_back(proto, network)
    integers = stored_in(written)[layer(proto, "2")]
    for group in (slice(0, 8), slice(8, 16)):
        for entry in range(4):
            assert len(np.unique(integers[group][indices[group].numpy() == entry])) == 1
    assert np.unique(integers).size > 4
    assert_file_computes_the_same(written, network, x)


def test_clusters_stay_equal_integers_beside_a_channel_that_is_next_to_nothing():
    """Its scale has to grow until 32 bits hold the bias; integers that grew smaller would leave the codebook."""
    proto, x = quantized("plain"), inputs_of("plain", 16)
    constraint = Constraint(indices=torch.randint(0, 4, (16, 8, 3, 3), dtype=torch.uint8), bits=2)
    scale = torch.ones(16)
    scale[5] = 1e-7
    name = layer(proto, "2")
    network = OnnxNetwork(proto, {name: WeightRule(constraint=constraint, channel_scale=scale)})
    start_from(network, name, constraint.nearest(torch.randn(16, 8, 3, 3)))
    written = write_back(proto, network)
    integers = stored_in(written)[name]
    for entry in range(4):
        assert len(np.unique(integers[constraint.indices.numpy() == entry])) == 1
    before = float(network.leaves.weight(name).rounding.steps()[5]) * 1e-7
    assert stored_in(written)["2.weight_scale"][5] > 10 * before
    assert_file_computes_the_same(written, network, x)


@BOTH
def test_the_file_holds_the_master_times_the_channel_scale(make):
    proto = make("plain")
    scale, master = torch.linspace(-1, 2, 16), torch.randn(16, 8, 3, 3)
    name = layer(proto, "2")
    network = OnnxNetwork(proto, {name: WeightRule(channel_scale=scale)})
    start_from(network, name, master)
    written = write_back(proto, network)
    wanted = (scale.reshape(-1, 1, 1, 1) * master).numpy()
    stored = stored_in(written)
    value = stored[name].astype("f")
    if make is quantized:
        value = value * stored["2.weight_scale"].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(value, wanted, atol=np.abs(wanted).max() / 200 if make is quantized else 1e-6)
    assert_file_computes_the_same(written, network, inputs_of("plain", 16))


def test_a_transposed_weight_is_trained_in_the_layers_orientation():
    proto, x = quantized("vit"), inputs_of("vit", 16)
    kept = torch.rand(32, 16) < 0.5
    name = layer(proto, "fc1")
    rule = WeightRule(bits=4, constraint=Constraint(kept=kept), transposed=True, channel_scale=torch.rand(32) + 0.5)
    network = OnnxNetwork(proto, {name: rule})
    train(network, x)
    written = write_back(proto, network)
    assert stored_in(written)[name].shape == (16, 32)
    assert not stored_in(written)[name][~kept.t().numpy()].any()
    assert_file_computes_the_same(written, network, x)


def rounding(channels: int = 6, high: int = 7) -> Rounding:
    return Rounding(
        torch.rand(channels) * 0.1 + 0.1,
        torch.arange(channels),
        torch.zeros(channels),
        axis=0,
        low=-high,
        high=high,
        trained=True,
    )


def test_gradients_are_those_of_the_paper():
    """LSQ, eq. 3 and 5, and sec. 2.2 for the scale; the chain rule takes the step's gradient to its gain."""
    subject, weight, slope = rounding(), torch.randn(6, 40, requires_grad=True), torch.randn(6, 40)
    subject(weight).backward(slope)
    v = weight.detach() / subject.start.unsqueeze(1)
    inside = v.round().abs() <= 7
    of_step = torch.where(inside, v.round() - v, 7 * v.sign())
    expected = (of_step * slope).sum(1) / (40 * 7) ** 0.5 * subject.start
    torch.testing.assert_close(weight.grad, slope * inside)
    torch.testing.assert_close(subject.gain.grad, expected)


@pytest.mark.parametrize("shape", [(6, 40), (6,)])
def test_traced_rounding_is_the_fused_one_with_its_gradients(shape):
    results = []
    weight, slope, subject = torch.randn(shape), torch.randn(shape), rounding()
    subject.gain.data.normal_(0, 0.3)
    for is_traced in (False, True):
        leaf = weight.clone().requires_grad_()
        with mock.patch("torch.compiler.is_exporting", return_value=is_traced):
            both = subject(leaf) + fake_quantize(leaf, scale=0.013, zero_point=100, low=0, high=255)
        results.append((both, *torch.autograd.grad(both, (leaf, subject.gain), slope)))
    for traced, fused in zip(*results, strict=True):
        torch.testing.assert_close(traced, fused, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("high", [1, 3, 7])
def test_fitted_steps_are_no_worse_than_the_largest_weights(high):
    weight, members = torch.randn(8, 50), torch.arange(8) // 4

    def error(steps: Tensor) -> Tensor:
        along = steps[members].unsqueeze(1)
        return ((weight / along).round().clamp(-high, high) * along - weight).square().sum()

    peaks = torch.stack([weight[:4].abs().max(), weight[4:].abs().max()]) / high
    assert error(fitted_steps(weight, members, 0, high)) < error(peaks)


@pytest.mark.parametrize(
    ("name", "rule", "message"),
    [
        ("nothing", {}, "names an initializer of the file, got 'nothing'"),
        ("2.weight", {"bits": 4}, "bits is for weights that the file rounds, got 4"),
        ("2.weight", {"transposed": True}, "needs a matrix"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(name, rule, message):
    with pytest.raises(ModelError, match=message):
        OnnxNetwork(exported("plain"), {name: WeightRule(**rule)})


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_lie_in_two_to_eight(bits):
    with pytest.raises(ModelError, match=rf"bits must lie in 2\.\.8, got {bits}"):
        WeightRule(bits=bits)
