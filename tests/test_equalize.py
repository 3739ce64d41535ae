"""Channels of neighbouring convolutions brought to one range."""

import numpy as np
import pytest
import torch
from tiny_exports import calibration_of, exported, preprocess_of, run
from tiny_models import tiny

from autocompress.export.equalize import equalize
from autocompress.export.file_weights import file_weights
from autocompress.export.onnx_file import to_onnx
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.layers.constraint import Constraint

PAIRS = {"plain": 1, "residual": 2, "grouped": 2, "depthwise": 1, "conv1d": 1, "deep residual": 3}
NONE = ["tied", "concat", "vit", "group norm"]  # runs twice, joins, products, norms


def spread_of_channels(proto, first: str) -> float:
    graph = OnnxGraph(proto)
    weight = graph.array(graph.nodes[first].input[1])
    each = np.abs(weight.reshape(len(weight), -1)).max(1)
    return float(each.max() / each.min())


@pytest.mark.parametrize("name", [*PAIRS, *NONE])
def test_the_network_computes_the_same(name):
    proto, x = exported(name), calibration_of(name)
    expected = run(proto, x)
    assert equalize(proto, file_weights(proto, tiny(name), {})) == PAIRS.get(name, 0)
    np.testing.assert_allclose(run(proto, x), expected, atol=1e-5 * np.ptp(expected))


def test_ranges_are_even_afterwards():
    """The largest weights of a channel are equal on both sides (eq. 11 of the paper)."""
    model = tiny("plain")
    factors = torch.logspace(-1.5, 1.5, 8)
    model[0].weight.data *= factors.reshape(-1, 1, 1, 1)
    proto = to_onnx(model, preprocess_of("plain"), 1)
    before = spread_of_channels(proto, "0")
    equalize(proto, file_weights(proto, model, {}))
    graph = OnnxGraph(proto)
    out = np.abs(graph.array("0.weight")).max((1, 2, 3))
    inward = np.abs(graph.array("2.weight")).max((0, 2, 3))
    np.testing.assert_allclose(out, inward, rtol=0.02)
    assert spread_of_channels(proto, "0") < before**0.5 * 2


def test_what_keeps_to_a_codebook_is_left():
    model, proto = tiny("plain"), exported("plain")
    indices = torch.zeros_like(model[2].weight, dtype=torch.uint8)
    assert equalize(proto, file_weights(proto, model, {"2": Constraint(indices=indices)})) == 0
    assert proto == exported("plain")


def test_zeros_stay_zeros():
    model = tiny("plain")
    kept = torch.rand_like(model[2].weight) > 0.5
    model[2].weight.data *= kept
    proto = to_onnx(model, preprocess_of("plain"), 1)
    assert equalize(proto, file_weights(proto, model, {"2": Constraint(kept=kept)})) == 1
    np.testing.assert_array_equal(OnnxGraph(proto).array("2.weight") == 0, ~kept.numpy())
