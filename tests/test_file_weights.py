"""Where weights lie in a file, and what the export did to them."""

from functools import cache

import numpy as np
import torch
from onnx import ModelProto
from tiny_exports import exported
from tiny_models import tiny
from torch import nn

from autocompress.export.file_weights import by_own_weight, channel_scale, file_weights, own_values
from autocompress.export.onnx_file import to_onnx
from autocompress.export.onnx_graph import OnnxGraph
from autocompress.layers.constraint import Constraint
from autocompress.task import Layout, Preprocess


class Norms(nn.Module):
    """Two convolutions with one kernel, each with a BatchNorm: one turns a channel round, the other turns one off."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(3, 4, 3, bias=False)
        self.other.weight = self.one.weight
        self.norm_one, self.norm_other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.norm_one.weight.data = torch.tensor([1.0, -0.5, 2.0, 0.3])
        self.norm_other.weight.data = torch.tensor([0.0, 1.5, 0.7, -1.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.norm_one(self.one(x)), self.norm_other(self.other(x))], 1).mean((2, 3))


@cache
def norms() -> nn.Module:
    torch.manual_seed(0)
    return Norms().eval()


@cache
def _norms_file() -> bytes:
    return to_onnx(norms(), Preprocess(layout=Layout.AS_STORED, shape=(3, 8, 8)), 1).SerializeToString()


def norms_file() -> ModelProto:
    return ModelProto.FromString(_norms_file())


def test_factors_of_batch_norm_are_found_with_their_signs():
    weights = {weight.layer: weight for weight in file_weights(norms_file(), norms(), {})}
    factors = norms().norm_one.weight.detach().numpy() / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(weights["one"].channel_scale, factors, rtol=1e-5)
    assert (weights["other"].channel_scale < 0).tolist() == [False, False, False, True]
    assert {weight.tied_to for weight in weights.values()} == {"one"}


def test_the_networks_own_weight_is_found_again_though_a_channel_is_off():
    proto = norms_file()
    weights = file_weights(proto, norms(), {})
    graph = OnnxGraph(proto)
    (uses,) = by_own_weight(weights)
    own = norms().one.weight.detach().numpy()
    np.testing.assert_allclose(own_values(graph, uses), own, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        own_values(graph, uses[1:]), own, rtol=1e-5, atol=1e-7
    )  # alone: its first channel is off
    assert np.abs(graph.array(uses[1].tensor)[0]).max() < 1e-6


def test_what_is_neither_tied_nor_clustered_has_no_factors():
    weights = file_weights(exported("residual"), tiny("residual"), {})
    assert len(weights) == 7
    assert all(weight.channel_scale is None and weight.tied_to is None for weight in weights)


def test_clustered_layers_have_factors_and_sparse_ones_need_none():
    model = tiny("residual")
    indices = torch.zeros_like(model.features[0][0].weight, dtype=torch.uint8)
    kept = torch.ones_like(model.features[2].conv1[0].weight, dtype=torch.bool)
    constraints = {"features.0.0": Constraint(indices=indices), "features.2.conv1.0": Constraint(kept=kept)}
    weights = {weight.layer: weight for weight in file_weights(exported("residual"), model, constraints)}
    assert weights["features.0.0"].channel_scale is not None
    assert weights["features.2.conv1.0"].constraint is constraints["features.2.conv1.0"]
    assert weights["features.2.conv1.0"].channel_scale is None


def test_matrices_of_tokens_lie_transposed():
    model = tiny("vit")
    proto = exported("vit")
    for weight in file_weights(proto, model, {}):
        own = model.get_parameter(f"{weight.layer}.weight").detach().numpy()
        stored = OnnxGraph(proto).array(weight.tensor)
        assert weight.transposed == (weight.layer not in {"embed", "head"})
        np.testing.assert_array_equal(weight.as_layer(stored), own)
        assert weight.along(np.arange(len(own)), stored.ndim).shape[weight.axis] == len(own)


def test_a_layer_that_runs_twice_has_two_uses_of_one_constant():
    weights = file_weights(exported("tied"), tiny("tied"), {})
    uses = [weight for weight in weights if weight.layer == "again"]
    assert len(uses) == 2
    assert uses[0].tensor == uses[1].tensor
    assert uses[0].node != uses[1].node
    assert len(by_own_weight(weights)) == 4  # stem, again, one with other, head


def test_there_are_no_factors_where_the_weight_is_another():
    own = np.random.default_rng(0).normal(size=(3, 4)).astype("f")
    factors = np.array([1, -2, 0], "f")
    np.testing.assert_allclose(channel_scale(own * factors[:, None], own), factors, rtol=1e-6)
    assert channel_scale(own + 0.01, own) is None
