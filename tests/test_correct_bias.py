"""Biases that make good what rounding does to the mean."""

import numpy as np
import pytest
from tiny_exports import calibration_of, exported, run, seen
from tiny_models import tiny

from autocompress.export.correct_bias import correct_biases
from autocompress.export.file_weights import by_tensor, file_weights
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.export.round_weights import place_integers, rounded_weights
from autocompress.precision import FilePlan, Format, Precision


@pytest.mark.parametrize("name", ["plain", "grouped", "depthwise", "conv1d", "vit", "mlp", "tied"])
def test_the_mean_error_of_the_outputs_falls(name):
    """Of convolutions whole, grouped and depthwise, with and without bias, Gemm, MatMul and addition, one run twice."""
    source, x = exported(name), calibration_of(name)
    weights = file_weights(source, tiny(name), {})
    plan = FilePlan(default=Precision(weights=Format.INT4))
    rounded = rounded_weights(source, weights, plan, reduce_range=False)
    expected, errors = run(source, x), []
    for corrects in (False, True):
        proto = exported(name)
        if corrects:
            correct_biases(proto, weights, rounded, seen(name))
        place_integers(proto, source, weights, rounded)
        errors.append(np.abs((run(proto, x) - expected).mean(0)).max())
    assert errors[1] < 0.5 * errors[0]


def test_a_single_linear_layer_has_its_mean_exactly():
    name = "mlp"
    source = exported(name)
    weights = file_weights(source, tiny(name), {})[:1]
    plan = FilePlan(default=Precision(weights=Format.INT2))
    rounded = rounded_weights(source, weights, plan, reduce_range=False)
    correct_biases(source, weights, rounded, seen(name))
    x = calibration_of(name).numpy()
    graph, layer = OnnxGraph(source), tiny(name)[0]
    first = by_tensor(weights)["0.weight"]
    outputs = x @ rounded["0.weight"].values(first).T + graph.array(graph.nodes["0"].input[2])
    expected = layer(calibration_of(name)).detach().numpy()
    np.testing.assert_allclose(outputs.mean(0), expected.mean(0), atol=1e-6)
