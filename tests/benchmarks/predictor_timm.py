"""A timm model as a file: settled, perhaps pruned to odd widths, factorized, rounded."""

import zlib

import numpy as np
import timm
import torch
from predictor_nets import Net
from torch import nn

from autocompress.export.calibrate import Seen
from autocompress.export.write_file import draft
from autocompress.graph.channel_groups import channel_groups
from autocompress.graph.layer_table import LayerFacts, layer_table
from autocompress.graph.surgery import example_input, modules_of
from autocompress.hardware.machine import this_machine
from autocompress.passes import PassContext
from autocompress.passes.compose import compose
from autocompress.recipe import PassStep, Recipe
from autocompress.task import Layout, Preprocess

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
LEAST, MOST = 0.25, 0.65  # share of the channels of a group that go


def file_of(net: Net) -> bytes:
    """The ONNX file of ``net``; the same for the same row."""
    seed = zlib.crc32(net.about.name.encode())
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shape = (3, net.size, net.size)
    model = settled(create(net.model, net.size), example_input(shape, batch=2))
    example = example_input(shape)
    passes: list[PassStep] = []
    if net.treatment.startswith("odd"):
        passes.append(odd_widths(model, example, rng))
    if net.treatment.startswith("low"):
        passes.append(low_ranks(model, example, rng))
    if net.treatment.endswith("8"):
        passes.append(PassStep(name="quantize", settings={"default": {"weights": "int8", "activations": "int8"}}))
    composed = compose(model, Recipe(passes=tuple(passes)), PassContext(example=example))
    expected = [step.name for step in passes if step.name != "quantize"]
    if expected and not composed.changed:
        raise ValueError(f"{expected[0]} must change {net.about.name}; skipped: {composed.skipped}")
    preprocess = Preprocess(layout=Layout.IMAGE, shape=shape, mean=(0.5,) * 3, std=(0.25,) * 3)
    seen = Seen(inputs=rng.standard_normal((1, *shape)).astype(np.float32), batch=1)
    return draft(
        composed.model, composed.plan, composed.constraints, seen, preprocess=preprocess, machine=this_machine()
    ).finished()


def create(name: str, size: int) -> nn.Module:
    """The timm model for a square input, with ten classes."""
    try:
        return timm.create_model(name, num_classes=10, img_size=size).eval()
    except TypeError:  # convolutional ones take any size
        return timm.create_model(name, num_classes=10).eval()


@torch.no_grad()
def settled(model: nn.Module, example: torch.Tensor) -> nn.Module:
    """``model`` with normalizations as after training: no zeros, no activations that vanish or grow, in place."""
    for _, norm in modules_of(model, NORMS):
        norm.reset_running_stats()
        norm.momentum = 1.0
        norm.train()
        if norm.affine:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.1)
    try:
        model(example)
    except ValueError:  # a single value per channel has no variance
        for _, norm in modules_of(model, NORMS):
            norm.reset_running_stats()
    return model.eval()


def odd_widths(model: nn.Module, example: torch.Tensor, rng: np.random.Generator) -> PassStep:
    """A quarter to two thirds of the channels of each group go, and an odd number stays."""
    ratios = {}
    groups = [group for group in channel_groups(model, example) if not group.reason and group.width > 4]
    for group in groups:
        kept = int(group.width * (1 - rng.uniform(LEAST, MOST))) | 1
        ratios[group.name] = round(1 - kept / group.width, 6)
    return PassStep(name="prune_channels", settings={"ratios": ratios, "align": 1})


def low_ranks(model: nn.Module, example: torch.Tensor, rng: np.random.Generator) -> PassStep:
    """Three of four layers that can be factorized, by a method that suits them, at any rank."""
    layers = {}
    for layer in layer_table(model, example):
        if layer.groups == 1 and layer.kind != "Conv1d" and min(layer.c_in, layer.c_out) >= 8 and rng.random() < 0.75:
            layers[layer.name] = _factors(layer, rng)
    return PassStep(name="factorize", settings={"layers": layers, "gain": "smaller"})


def _factors(layer: LayerFacts, rng: np.random.Generator) -> dict[str, object]:
    def rank(most: int) -> int:
        return max(1, round(most * rng.uniform(0.15, 0.5)))

    window = int(np.prod(layer.kernel)) if layer.kernel else 1
    method = str(rng.choice(["tucker2", "spatial_svd", "svd"])) if window > 1 else "svd"
    if method == "tucker2":
        return {"method": method, "ranks": [rank(layer.c_out), rank(layer.c_in)]}
    if method == "spatial_svd":
        return {"method": method, "rank": rank(min(layer.c_out, layer.c_in) * layer.kernel[0])}
    return {"method": "svd", "rank": rank(min(layer.c_out, layer.c_in * window))}
