"""What the quantize pass refuses, and what it says of layers that do not get all that is asked."""

import re
from functools import cache

import numpy as np
import pytest
import timm
import torch
import yaml
from onnx import ModelProto
from pass_examples import Settings, composed
from tiny_exports import machine, run

from autocompress.errors import RecipeError
from autocompress.export.calibrate import Seen
from autocompress.export.write_file import draft
from autocompress.passes import PassContext
from autocompress.passes.compose import Composed, compose
from autocompress.recipe import PassStep, Recipe
from autocompress.task import Layout, Preprocess

ZEROS = PassStep(name="prune_weights", settings={"layers": {"fc1": {"sparsity": 0.5}}})
ONE = "a layer has one of them: nearest: {} (in quantize, after {})"
CLUSTERS = PassStep(name="share_weights", settings={"layers": {"fc1": {"bits": 3}}})


def quantize(**settings: object) -> PassStep:
    return PassStep(name="quantize", settings=settings)


@pytest.mark.parametrize(
    ("before", "entry", "message"),
    [
        (
            CLUSTERS,
            {"weights": "int4", "activations": "int8"},
            "quantize.layers.fc1 stores weights as int4, share_weights as a codebook of 3 bits; "
            + ONE.format("weights int8 without block", "share_weights"),
        ),
        (
            ZEROS,
            {"weights": "int4", "block": 16},
            "quantize.layers.fc1 keeps weights in blocks, prune_weights leaves most of them out; "
            + ONE.format("the same weights without block", "prune_weights"),
        ),
    ],
)
def test_two_formats_for_one_layer_are_refused_with_the_nearest(before, entry, message):
    with pytest.raises(RecipeError, match=f"^{re.escape(message)}$"):
        composed("vit", before, quantize(layers={"fc1": entry}))


def test_a_codebook_goes_with_integer_arithmetic():
    assert composed("vit", CLUSTERS, quantize()).changed["quantize: fc1"] == "int8/int8"


@pytest.mark.parametrize(
    ("before", "default", "layer", "reason"),
    [
        (
            (),
            {"weights": "int8", "activations": "int8_dynamic"},
            "embed",
            "for linear layers.*weights are stored as int8",
        ),
        ((), {"weights": "int4", "block": 16}, "embed", "no such convolution; its weights are stored as int4 with one"),
        (
            (),
            {"weights": "int4", "block": 32},
            "fc1",
            "its 16 inputs are less than a block of 32; its weights are stored",
        ),
        (
            (ZEROS,),
            {"weights": "int4", "block": 16},
            "fc1",
            "this layer is sparse; its weights are stored as int4 with",
        ),
        ((CLUSTERS,), {"weights": "int4"}, "fc1", "its weights are a codebook of 3 bits already, stored as such"),
        ((CLUSTERS,), {"weights": "int8"}, "fc1", "codebook of 3 bits"),
        ((CLUSTERS,), {"weights": "fp16"}, "fc1", "codebook of 3 bits"),
    ],
)
def test_a_layer_that_gets_less_says_why_and_what_it_gets(before, default, layer, reason):
    result = composed("vit", *before, quantize(default=default))
    assert re.search(reason, result.skipped[f"quantize: {layer}"])
    assert f"quantize: {layer}" not in result.changed


def test_recurrent_layers_stay_in_floats_and_tied_ones_follow_the_first():
    assert composed("lstm", quantize()).skipped == {"quantize: recurrent": "a LSTM is computed and stored in fp32"}
    floats: Settings = {"weights": "fp32", "activations": "fp32"}
    skipped = composed("tied", quantize(layers={"other": floats})).skipped
    assert skipped == {"quantize: other": "it shares its weight with one, which is int8/int8"}


EXAMPLE = """
schema: 1
passes:
  - drop_blocks: {blocks: [layer3.1]}
  - prune_channels: {ratios: {layer1.0.conv1: 0.25, layer2.1.conv1: 0.5}, criterion: taylor}
  - prune_weights: {layers: {layer2.0.conv1: {sparsity: 0.9}, fc: {pattern: "2:4"}}}
  - factorize: {layers: {layer4.1.conv2: {method: tucker2, ranks: [64, 48]}, fc: {method: svd, rank: 32}}}
  - share_layers: {groups: [[layer1.0, layer1.1]]}
  - share_weights: {layers: {layer4.0.conv1: {bits: 4}}}
  - quantize: {default: {weights: int8, activations: int8}, layers: {conv1: {weights: fp32, activations: fp32}, layer4.0.conv2: {weights: int4, activations: int8}}}
recovery: {steps: 600, distill: {logits: 0.9, temperature: 2.0}, quantize_aware: true}
seed: 0
"""  # noqa: E501


@cache
def resnet() -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=100).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1)  # timm turns the last norm of each block off
    return model


@cache
def example() -> Composed:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    context = PassContext(example=x[:1], losses=lambda model: iter([model(x).square().mean()]))
    return compose(resnet(), Recipe.model_validate(yaml.safe_load(EXAMPLE)), context)


def test_all_techniques_compose_on_a_resnet():
    result = example()
    passes = ["drop_blocks", "prune_channels", "prune_weights", "factorize", "share_weights", "quantize"]
    assert list(dict.fromkeys(key.partition(": ")[0] for key in result.changed)) == passes
    assert list(result.skipped) == ["share_layers: layer1.1"]  # one of the two is narrower inside by now
    assert {"layer2.0.conv1", "layer4.0.conv1"} <= result.constraints.keys()
    assert sum(name.startswith("fc.") for name in result.constraints) == 2


def test_all_techniques_are_in_the_file_of_a_resnet():
    x = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype("f")
    result = example()
    preprocess = Preprocess(layout=Layout.AS_STORED, shape=(3, 32, 32))
    made = draft(
        result.model, result.plan, result.constraints, Seen(inputs=x, batch=1), preprocess=preprocess, machine=machine()
    )
    file = made.finished()
    expected = result.model(torch.from_numpy(x)).detach().numpy()
    assert np.abs(run(ModelProto.FromString(file), x) - expected).max() < 0.2 * np.ptp(expected)
    parameters = sum(p.numel() for p in result.model.parameters())
    saved_bits = 256 * 512 * 9 * 4 + 512 * 512 * 9 * 4 + 64 * 128 * 9 * 6.5  # a codebook, int4, and zeros
    assert len(file) < parameters - saved_bits / 8 + 64 * 3 * 49 * 3 + 70_000  # the stem has floats; nodes, scales
