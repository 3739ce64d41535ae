"""A recipe like another one whose widths and ranks are others: the same kernels with other numbers."""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

from autocompress.graph.channel_groups import ChannelGroup
from autocompress.passes.prune_channels import MOST_PRUNED, Criterion, kept_width
from autocompress.recipe import PassStep, Recipe
from autocompress.search.topology import Topology, group_class, rank_class

Settings = Mapping[str, Any]


def varied(recipe: Recipe, topology: Topology, draw: random.Random) -> Recipe:
    """Every group with another width, drawn alone, of the same class where a layout asks for it; ranks likewise.

    Channels are ranked by a criterion that needs no training samples: which of them go does not change a kernel.
    """
    settings = {step.name: step.settings for step in recipe.passes}
    anatomy, block = topology.anatomy, topology.block
    gone, strict = topology.gone(recipe), topology.with_layout(recipe)
    align = settings.get("prune_channels", {}).get("align", 8)
    asked = {
        topology.group_of[name]: ratio for name, ratio in settings.get("prune_channels", {}).get("ratios", {}).items()
    }
    kept: dict[str, int] = {}
    ratios: dict[str, float] = {}
    taken: set[int] = set()
    for at, group in enumerate(anatomy.groups):
        here = next((name for name in group.outs if name not in gone), None)
        if group.reason or here is None:
            continue
        now = kept_width(group, asked[at], align) if at in asked else group.width
        has_layout = bool(strict.intersection((*group.outs, *group.ins)))
        class_of = partial(group_class, group, block=block, has_layout=has_layout)
        ratios[here], kept[group.name] = _another(group, now, class_of, taken, draw)
        taken.add(kept[group.name])
    found = dict(settings)
    found.pop("prune_channels", None)
    if any(kept[group.name] < group.width for group in anatomy.groups if group.name in kept):
        found["prune_channels"] = {"ratios": ratios, "criterion": Criterion.L1.value, "align": 1}
    if "factorize" in settings:
        found["factorize"] = _other_ranks(settings["factorize"], topology, kept, strict, draw)
    order = (
        "drop_blocks",
        "prune_channels",
        *(name for name in settings if name not in {"drop_blocks", "prune_channels"}),
    )
    steps = tuple(PassStep(name=name, settings=found[name]) for name in order if name in found)
    return recipe.model_copy(update={"passes": steps})


def plainly_ranked(recipe: Recipe) -> Recipe:
    """The same widths by a criterion that needs no training samples."""
    return recipe.model_copy(
        update={
            "passes": tuple(
                step.model_copy(update={"settings": {**step.settings, "criterion": Criterion.L1.value}})
                if step.name == "prune_channels"
                else step
                for step in recipe.passes
            )
        }
    )


def _another(
    group: ChannelGroup, now: int, class_of: Callable[[int], object], taken: set[int], draw: random.Random
) -> tuple[float, int]:
    """A ratio and the width that it leaves: one of the class of ``now``, that no other group has if there are some.

    Where there is one only, the same width every time would look like a constant, or like a multiple of any other.
    """
    steps = [step / group.units for step in range(int(MOST_PRUNED * group.units) + 1)]
    choices = {kept_width(group, ratio, 1): round(ratio, 6) for ratio in steps}
    alike = [width for width in choices if class_of(width) == class_of(now)] or [group.width]
    fresh = [width for width in alike if width not in taken and width != group.width]
    width = draw.choice(fresh if len(fresh) > 1 else alike)
    return choices[width], width


def _other_ranks(
    settings: Settings, topology: Topology, kept: dict[str, int], strict: set[str], draw: random.Random
) -> dict[str, Any]:
    """Ranks of the same class that still save weights, where there are others."""
    found, anatomy, block = {}, topology.anatomy, topology.block
    layers = {layer.name: layer for layer in anatomy.layers}
    for name, factor in settings["layers"].items():
        found[name] = factor
        layer = layers.get(name)
        if layer is None or factor.get("rank") is None or factor.get("method", "svd") != "svd":
            continue
        c_in, c_out = anatomy.widths_after(layer, kept)
        columns = c_in // layer.groups * prod(layer.kernel)
        most = min(c_out * columns // (c_out + columns), min(c_out, columns) - 1)
        like = rank_class(factor["rank"], block)
        same = [rank for rank in range(1, most + 1) if name not in strict or rank_class(rank, block) == like]
        fresh: Sequence[int] = [rank for rank in same if rank not in {c_in, c_out}] or same
        if fresh:
            found[name] = {**factor, "rank": draw.choice(fresh)}
        elif factor["rank"] > most:
            found[name] = {**factor, "rank": max(1, most)}
    return {**settings, "layers": found}
