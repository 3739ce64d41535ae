"""Settings of every pass that fit a tiny model, and the passes applied to it."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from tiny_models import inputs_of, tiny
from tiny_tasks import task_for
from torch import nn

from autocompress.graph.blocks import Block, residual_blocks
from autocompress.graph.channel_groups import ChannelGroup, channel_groups
from autocompress.graph.layer_table import WEIGHTED
from autocompress.graph.shared_weights import sharable_blocks
from autocompress.layers.low_rank import most_rank
from autocompress.passes import PassContext
from autocompress.passes.compose import Composed, compose
from autocompress.recipe import PassStep, Recipe
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import training_losses
from autocompress.students.family import families_for, load_family, smallest

Settings = dict[str, Any]


@cache
def groups_of(name: str) -> tuple[ChannelGroup, ...]:
    return channel_groups(tiny(name), inputs_of(name, 1))


@cache
def blocks_of(name: str) -> tuple[Block, ...]:
    return residual_blocks(tiny(name), inputs_of(name, 1))


def layers_of(name: str) -> dict[str, nn.Module]:
    return {key: module for key, module in tiny(name).named_modules() if isinstance(module, WEIGHTED)}


def dropping(name: str) -> list[Settings]:
    """The last block and a layer that is none."""
    return [{"blocks": [*(block.name for block in blocks_of(name)[-1:]), next(iter(layers_of(name)))]}]


def pruning(name: str) -> list[Settings]:
    """Every group, those that cannot be treated included, by each criterion."""
    ratios = {group.name: 0.5 for group in groups_of(name)}
    return [{"ratios": ratios, "criterion": criterion, "align": 4} for criterion in ("l1", "taylor", "random")]


def paying_rank(layer: nn.Module) -> int:
    """The largest rank at which a low-rank pair has fewer weights than ``layer``; 0 when none has."""
    rows, columns = layer.weight.shape[0], layer.weight[0].numel()
    return (rows * columns - 1) // (rows + columns)


def factorizing(name: str) -> list[Settings]:
    """Every layer, those that a method cannot treat included, by each method; for bytes, and where it is faster."""
    layers = layers_of(name)
    by_svd = {key: {"rank": max(1, min(paying_rank(layer), most_rank(layer) // 4))} for key, layer in layers.items()}
    others = [
        {"method": "spatial_svd", "rank": 1},
        {"method": "tucker2", "ranks": [1, 1]},
        {"method": "cp", "rank": 2},
    ]
    mixed = {key: others[place % 3] for place, key in enumerate(layers)}
    return [{"layers": by_svd, "gain": "smaller"}, {"layers": by_svd}, {"layers": mixed, "gain": "smaller"}]


def sharing(name: str) -> list[Settings]:
    """Every group of blocks; two layers that differ where there is none."""
    groups = sharable_blocks(tiny(name)) or [tuple(layers_of(name))[:2]]
    return [{"groups": [list(group) for group in groups]}]


def zeroing(name: str) -> list[Settings]:
    """Every layer, by share and by pattern, those that do not fit included."""
    layers = layers_of(name)
    return [
        {"layers": {key: {"sparsity": 0.6} for key in layers}},
        {"layers": {key: {"pattern": "2:4"} for key in layers}, "criterion": "taylor"},
    ]


def clustering(name: str) -> list[Settings]:
    """Every layer, those too small for a table included."""
    return [
        {"layers": {key: {"bits": 2 + place % 3, "groups": 1 + place % 2} for place, key in enumerate(layers_of(name))}}
    ]


def quantizing(name: str) -> list[Settings]:
    """All layers, all but the first, and what the runtime has for linear layers only."""
    first = next(iter(layers_of(name)))
    return [
        {"calibration": "mse", "correct_bias": True, "equalize": True},
        {"layers": {first: {"weights": "fp32", "activations": "fp32"}}},
        {
            "default": {"weights": "int4", "block": 16},
            "layers": {first: {"weights": "int8", "activations": "int8_dynamic"}},
        },
    ]


@cache
def studying(name: str) -> list[Settings]:
    """The smallest of one family that takes the model's inputs, in turns over the models."""
    fitting = families_for(tuple(inputs_of(name, 1).shape[1:]))
    each = smallest(load_family(fitting[len(name) % len(fitting)]))
    return [{"family": each.family, "values": each.values}]


EXAMPLES: dict[str, Callable[[str], list[Settings]]] = {
    "student": studying,
    "drop_blocks": dropping,
    "prune_channels": pruning,
    "prune_weights": zeroing,
    "factorize": factorizing,
    "share_layers": sharing,
    "share_weights": clustering,
    "quantize": quantizing,
}
# The layers that settings name, each of which is changed or skipped.
NAMED: dict[str, Callable[[Settings], set[str]]] = {
    "student": lambda settings: {settings["family"]},
    "drop_blocks": lambda settings: set(settings["blocks"]),
    "prune_channels": lambda settings: set(settings["ratios"]),
    "prune_weights": lambda settings: set(settings["layers"]),
    "factorize": lambda settings: set(settings["layers"]),
    "share_layers": lambda settings: {name for group in settings["groups"] for name in group[1:]},
    "share_weights": lambda settings: set(settings["layers"]),
    "quantize": lambda settings: {key for key, each in settings.get("layers", {}).items() if each["weights"] != "fp32"},
}
UNKNOWN_LAYER: dict[str, Settings] = {
    "drop_blocks": {"blocks": ["hea"]},
    "share_layers": {"groups": [["head", "hea"]]},
    "prune_channels": {"ratios": {"hea": 0.5}},
    "prune_weights": {"layers": {"hea": {"sparsity": 0.5}}},
    "factorize": {"layers": {"hea": {"rank": 1}}},
    "share_weights": {"layers": {"hea": {"bits": 4}}},
    "quantize": {"layers": {"hea": {}}},
}


def context_of(name: str, seed: int = 0) -> PassContext:
    stream = SampleStream(task_for(name), 0)
    return PassContext(
        example=inputs_of(name, 1),
        seed=seed,
        losses=lambda model: training_losses(model, stream, batches=2, batch=8),
        groups=groups_of(name),
        blocks=blocks_of(name),
    )


def composed(name: str, *steps: PassStep, seed: int = 0) -> Composed:
    torch.manual_seed(seed)
    return compose(tiny(name), Recipe(passes=steps), context_of(name, seed))


def composed_once(name: str, step: PassStep) -> Composed:
    """For tests that leave it as it is: the same for all of them."""
    return _composed_once(name, step.model_dump_json())


@cache
def _composed_once(name: str, step: str) -> Composed:
    return composed(name, PassStep.model_validate_json(step))
