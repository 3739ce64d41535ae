"""The integers that weights become."""

import numpy as np
import pytest
import torch
from onnx import ModelProto
from pass_examples import composed, layers_of
from test_file_weights import norms, norms_file
from tiny_exports import calibration_of, exported, machine, preprocess_of, quantized, run, seen
from tiny_models import tiny

from autocompress.export.file_weights import by_tensor, file_weights
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.export.round_weights import rounded_weights
from autocompress.export.write_file import draft
from autocompress.layers.constraint import Constraint
from autocompress.linalg.codebook import codebook
from autocompress.precision import INT8, Activations, FilePlan, Format, Precision
from autocompress.recipe import PassStep


def rounded_of(name: str, weights: Format, activations: Activations = Activations.FP32, *, reduce_range=False, **rest):
    proto = exported(name)
    plan = FilePlan(default=Precision(weights=weights, activations=activations, **rest))
    found = file_weights(proto, tiny(name), {})
    return OnnxGraph(proto), by_tensor(found), rounded_weights(proto, found, plan, reduce_range=reduce_range)


@pytest.mark.parametrize("name", ["grouped", "vit", "conv1d"])
@pytest.mark.parametrize("form", [Format.INT8, Format.INT5])
def test_integers_times_scales_are_the_weight_within_half_a_step(name, form):
    graph, weights, rounded = rounded_of(name, form)
    assert rounded.keys() == weights.keys()
    for tensor, each in rounded.items():
        error = np.abs(each.values(weights[tensor]) - graph.array(tensor))
        assert (error <= weights[tensor].along(each.scale, error.ndim) / 2 * (1 + 1e-5)).all()
        assert np.abs(each.integers.astype(int)).max() == 2 ** (form.bits - 1) - 1


def test_weights_that_are_tied_have_equal_integers_and_scales_with_the_signs_of_batch_norm():
    proto = norms_file()
    weights = file_weights(proto, norms(), {})
    rounded = rounded_weights(proto, weights, FilePlan(default=INT8), reduce_range=False)
    one, other = (rounded[weight.tensor] for weight in weights)
    np.testing.assert_array_equal(one.integers, other.integers)
    assert one.integers[0].any()  # though the first channel of the other is off
    assert (np.sign(one.scale).tolist(), np.sign(other.scale).tolist()) == ([1, -1, 1, 1], [1, 1, 1, -1])


@pytest.mark.parametrize("groups", [1, 2])
def test_a_codebook_is_few_integers_in_integer_arithmetic_and_none_in_float(groups):
    model, proto = tiny("mlp"), exported("mlp")
    book = codebook(model[0].weight, 4, groups=groups)
    model[0].weight.data = book.dense
    graph = OnnxGraph(proto)
    graph.put("0.weight", book.dense.numpy())
    constraint = Constraint(indices=book.indices, bits=2, groups=groups)
    weights = file_weights(proto, model, {"0": constraint})
    rounded = rounded_weights(proto, weights, FilePlan(default=INT8), reduce_range=False)["0.weight"]
    numbers = constraint.clusters().numpy()
    values = {number: np.unique(rounded.integers[numbers == number]) for number in np.unique(numbers)}
    assert len(values) == 4 * groups
    assert all(len(each) == 1 for each in values.values())
    in_float = rounded_weights(proto, weights, FilePlan(default=Precision(weights=Format.INT8)), reduce_range=False)
    assert "0.weight" not in in_float
    assert "3.weight" in in_float


def test_integer_arithmetic_that_would_saturate_gets_seven_bits():
    for activations, most in ((Activations.INT8, 63), (Activations.INT8_DYNAMIC, 63), (Activations.FP32, 127)):
        _, _, rounded = rounded_of("mlp", Format.INT8, activations, reduce_range=True)
        assert {int(np.abs(each.integers.astype(int)).max()) for each in rounded.values()} == {most}


def test_weights_that_go_in_blocks_are_left_and_the_others_of_the_plan_are_not():
    _, weights, rounded = rounded_of("vit", Format.INT4, block=32)
    assert weights.keys() - rounded.keys() == {weight.tensor for weight in weights.values() if weight.layer == "fc2"}


def test_our_integers_with_rescaled_biases_compute_what_the_tools_do():
    """At 8 bits both take the largest weight of a channel, so the files are one step apart at most."""
    for name in ("residual", "tied"):
        x = calibration_of(name)
        ours = draft(
            tiny(name), FilePlan(default=INT8), {}, seen(name), preprocess=preprocess_of(name), machine=machine()
        )
        theirs = run(quantized(name), x)
        assert np.abs(run(ours.proto, x) - theirs).max() < 0.012 * np.ptp(theirs)


def test_a_bias_fits_beside_a_channel_that_batch_norm_all_but_turns_off():
    """Its scale would ask for more than 32 bits."""
    model = tiny("grouped")
    norm = model.features[0][1]
    norm.weight.data[:3] = torch.tensor([1e-9, 0.0, -1e-12])
    norm.bias.data[:3] = torch.tensor([0.5, 0.4, 0.3])
    x = calibration_of("grouped")
    made = draft(
        model, FilePlan(default=INT8), {}, seen("grouped"), preprocess=preprocess_of("grouped"), machine=machine()
    )
    expected = model(x).detach().numpy()
    assert np.abs(run(made.proto, x) - expected).max() < 0.02 * np.ptp(expected)


def test_a_channel_of_zeros_leaves_its_bias_exact():
    model = tiny("mlp")
    model[5].weight.data[1] = 0
    model[5].bias.data[1] = 0.05
    x = calibration_of("mlp") * 100
    inputs = type(seen("mlp"))(inputs=x.numpy(), batch=1)
    made = draft(model, FilePlan(default=INT8), {}, inputs, preprocess=preprocess_of("mlp"), machine=machine())
    graph = OnnxGraph(made.proto)
    node = graph.nodes["5"]
    bias = graph.maker[node.input[2]]
    stored = graph.array(bias.input[0])[1] * graph.array(bias.input[1])[1]
    assert stored == pytest.approx(0.05, rel=0.02)


def test_shared_blocks_in_integers_are_stored_once():
    steps = [PassStep(name="share_layers", settings={"groups": [["features.2", "features.3", "features.4"]]})]
    alone, shared = composed("deep residual"), composed("deep residual", *steps)
    sizes = []
    for result in (alone, shared):
        made = draft(result.model, FilePlan(default=INT8), {}, seen("deep residual"),
                     preprocess=preprocess_of("deep residual"), machine=machine())  # fmt: skip
        file = made.finished()
        x = calibration_of("deep residual")
        expected = result.model(x).detach().numpy()
        assert np.abs(run(ModelProto.FromString(file), x) - expected).max() < 0.03 * np.ptp(expected)
        sizes.append(len(file))
    saved = 4 * 8 * 8 * 9  # two blocks of two kernels
    assert sizes[0] - sizes[1] > 0.9 * saved
    assert len(layers_of("deep residual")) == 8
