"""The rows of the table of techniques: recipes of one technique each, for a whole network."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import nn

from autocompress.graph.blocks import residual_blocks
from autocompress.graph.channel_groups import ChannelGroup
from autocompress.graph.layer_table import layer_table
from autocompress.graph.shared_weights import sharable_blocks
from autocompress.graph.surgery import example_input
from autocompress.layers.factor_forms import FORMS, Method
from autocompress.passes.factorize import weights_of
from autocompress.recipe import PassStep
from autocompress.trial import Bench

PARTS = 64  # of a layer's full rank
CP_SHARE = 1 / 8  # of a layer's weights: alternating least squares at the rank of a half takes minutes a layer
DROPPED = slice(1, None, 3)  # of the droppable blocks: every third, not the first
NOT_HERE = {"student architecture": "not in this table: it is another network, not a recipe of passes"}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What recipes name of a network."""

    model: nn.Module
    layers: tuple[str, ...]
    groups: tuple[ChannelGroup, ...]
    blocks: tuple[str, ...]
    siblings: tuple[tuple[str, ...], ...]
    channel_block: int


def parts_of(bench: Bench) -> Parts:
    """The parts of the bench's base."""
    example = example_input(bench.task.preprocess.shape, bench.task.preprocess.dtype)
    return Parts(
        model=bench.base,
        layers=tuple(facts.name for facts in layer_table(bench.base, example)),
        groups=bench.groups or (),
        blocks=tuple(block.name for block in residual_blocks(bench.base, example) if not block.reason),
        siblings=sharable_blocks(bench.base),
        channel_block=bench.machine.channel_block,
    )


Settings = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One technique: its recipe's passes for a network, and what its recovery has other than all rows' have."""

    name: str
    settings: Callable[[Parts], Settings]
    recovery: dict[str, Any] = field(default_factory=dict)

    def passes(self, parts: Parts) -> tuple[PassStep, ...]:
        """The passes of the row's recipe."""
        return tuple(PassStep(name=name, settings=settings) for name, settings in self.settings(parts).items())


def _channels(criterion: str) -> Callable[[Parts], Settings]:
    def settings(parts: Parts) -> Settings:
        ratios = {group.name: 0.5 for group in parts.groups}
        return {"prune_channels": {"ratios": ratios, "criterion": criterion, "align": parts.channel_block}}

    return settings


def _blocks(parts: Parts) -> Settings:
    return {"drop_blocks": {"blocks": parts.blocks[DROPPED]}}


def _every_layer(name: str, **layer: object) -> Callable[[Parts], Settings]:
    return lambda parts: {name: {"layers": dict.fromkeys(parts.layers, layer)}}


def _factors(method: Method, share: float = 0.5) -> Callable[[Parts], Settings]:
    def settings(parts: Parts) -> Settings:
        layers = {name: _ranks(parts.model.get_submodule(name), method, share) for name in parts.layers}
        return {"factorize": {"layers": layers, "gain": "smaller"}}

    return settings


def _ranks(layer: nn.Module, method: Method, share: float) -> dict[str, object]:
    """The most of the rank at which the chain has at most ``share`` of the layer's weights; 1 where there is none."""
    form = FORMS[method]
    ranks = (1, 1) if method is Method.TUCKER2 else (1,)
    if not form.takes(layer):
        most, limit = form.most(layer), share * weights_of(layer)

        def at(part: int) -> tuple[int, ...]:
            return tuple(max(1, rank * part // PARTS) for rank in most)

        place = bisect_right(range(1, PARTS + 1), limit, key=lambda part: weights_of(form.empty(layer, at(part))))
        ranks = at(max(1, place))
    key = {"ranks": ranks} if method is Method.TUCKER2 else {"rank": ranks[0]}
    return {"method": method.value, **key}


def _pairs(parts: Parts) -> Settings:
    """Neighbours two by two: half of the weights of each row of siblings, as in the other rows."""
    groups = [pair for group in parts.siblings for pair in list(pairwise(group))[::2]]
    return {"share_layers": {"groups": groups}}


def _precision(weights: str, activations: str = "fp32", *, block: int | None = None, **more: object) -> Callable:
    default = {"weights": weights, "activations": activations, "block": block}
    return lambda _parts: {"quantize": {"default": default, **more}}


def _int8_with_codebooks(parts: Parts) -> Settings:
    return _every_layer("share_weights", bits=4)(parts) | _precision("int8", "int8")(parts)


LABELS = {"distill": {"logits": 0.0}}
FEATURES = {"distill": {"features": 1.0}}
AWARE = {"quantize_aware": True}
CAREFUL = {"calibration": "mse", "correct_bias": True, "equalize": True}

ROWS = (
    Row(name="none: recovery alone", settings=lambda _parts: {}),
    Row(name="channels 1/2, L1", settings=_channels("l1")),
    Row(name="channels 1/2, Taylor", settings=_channels("taylor")),
    Row(name="channels 1/2, L1, no distillation", settings=_channels("l1"), recovery=LABELS),
    Row(name="channels 1/2, L1, features distilled too", settings=_channels("l1"), recovery=FEATURES),
    Row(name="blocks dropped, 1/3", settings=_blocks),
    Row(name="weights 90 % sparse", settings=_every_layer("prune_weights", sparsity=0.9)),
    Row(name="weights 2:4", settings=_every_layer("prune_weights", pattern="2:4")),
    Row(name="SVD, 1/2 of the weights", settings=_factors(Method.SVD)),
    Row(name="Tucker-2, 1/2 of the weights", settings=_factors(Method.TUCKER2)),
    Row(name="CP, 1/8 of the weights", settings=_factors(Method.CP, CP_SHARE)),
    Row(name="spatial SVD, 1/2 of the weights", settings=_factors(Method.SPATIAL_SVD)),
    Row(name="layers shared in pairs", settings=_pairs),
    Row(name="codebook 4 bit", settings=_every_layer("share_weights", bits=4)),
    Row(name="codebook 2 bit", settings=_every_layer("share_weights", bits=2)),
    Row(name="int8 static", settings=_precision("int8", "int8")),
    Row(name="int8 static, MSE, bias, equalized", settings=_precision("int8", "int8", **CAREFUL)),
    Row(name="int8 static, quantization-aware", settings=_precision("int8", "int8"), recovery=AWARE),
    Row(name="int8 dynamic", settings=_precision("int8", "int8_dynamic")),
    Row(name="int4 in blocks of 32", settings=_precision("int4", block=32), recovery=AWARE),
    Row(name="weights fp16", settings=_precision("fp16")),
    Row(name="weights int8", settings=_precision("int8")),
    Row(name="weights int4", settings=_precision("int4"), recovery=AWARE),
    Row(name="weights int3", settings=_precision("int3"), recovery=AWARE),
    Row(name="weights int2", settings=_precision("int2"), recovery=AWARE),
    Row(name="int8 static, weights int4", settings=_precision("int4", "int8"), recovery=AWARE),
    Row(name="int8 static, codebook 4 bit", settings=_int8_with_codebooks, recovery=AWARE),
)
