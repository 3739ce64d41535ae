"""What the layers with weights do in one forward pass."""

import pytest
import torch
from tiny_models import TINY_MODELS, inputs_of, tiny
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autocompress.graph.layer_table import WEIGHTED, LayerFacts, layer_table

# A layer that runs twice is listed once; products of activations and recurrent cells are in no layer of the table.
UNCOUNTED = ("tied", "vit", "vit blocks", "lstm", "gru")


@pytest.mark.parametrize("name", [name for name in TINY_MODELS if name not in UNCOUNTED])
def test_the_macs_are_those_that_torch_counts(name):
    """Reference: torch's own counter of floating-point operations, two to a multiply-accumulate."""
    model, x = tiny(name), inputs_of(name, 3)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert sum(layer.macs for layer in layer_table(model, x)) * 2 * len(x) == counter.get_total_flops()


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_layer_is_listed_once_with_its_sizes(name):
    model = tiny(name)
    layers = {layer.name: layer for layer in layer_table(model, inputs_of(name, 1))}
    expected = {key: module for key, module in model.named_modules() if isinstance(module, WEIGHTED)}
    assert layers.keys() == expected.keys()
    for key, module in expected.items():
        found = layers[key]
        assert found.kind == type(module).__name__
        assert found.c_out == len(module.weight)
        assert found.c_in // found.groups == module.weight.shape[1]
        assert found.params == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", TINY_MODELS)
def test_the_batch_does_not_matter(name):
    assert layer_table(tiny(name), inputs_of(name, 1)) == layer_table(tiny(name), inputs_of(name, 5))


def test_layers_come_in_the_order_in_which_they_run_and_idle_ones_are_left_out():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.last, self.first = nn.Linear(2, 2), nn.Linear(3, 2), nn.Linear(4, 3)

        def forward(self, x):
            return self.last(self.first(x))

    assert [layer.name for layer in layer_table(Backwards(), torch.zeros(1, 4))] == ["first", "last"]


def test_a_linear_layer_on_tokens_runs_once_per_token():
    (layer,) = layer_table(nn.Sequential(nn.Linear(4, 6)), torch.zeros(2, 7, 4))
    assert (layer.positions, layer.macs, layer.kernel) == (7, 7 * 24, ())


def test_the_model_keeps_its_mode_and_loses_the_hooks():
    model = tiny("residual")
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layer_table(model, inputs_of("residual", 2))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("kernel", "groups", "text"),
    [((3, 3), 1, "Conv2d 64→128 3×3"), ((1, 7), 4, "Conv2d 64→128 1×7 /4"), ((), 1, "Conv2d 64→128")],
)
def test_a_layer_reads_as_kind_and_shape(kernel, groups, text):
    layer = LayerFacts(name="a", kind="Conv2d", c_in=64, c_out=128, kernel=kernel, groups=groups, positions=1, params=1)
    assert str(layer) == text


def test_each_module_keeps_its_own_mode():
    model = tiny("residual").train()
    model.head.eval()
    layer_table(model, inputs_of("residual", 1))
    assert model.training
    assert not model.head.training
