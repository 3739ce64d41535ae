"""An estimate of what a layer costs, for decisions that must be the same in every run; nothing here is measured."""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum

from autocompress.graph.layer_table import LayerFacts

# ONNX Runtime reorders into its blocked layout by so many channels; other widths stay in the plain layout
# (NchwcTransformer in onnxruntime/core/optimizer/nchwc_transformer.cc).
REORDERED = 4


class Term(StrEnum):
    """What time is spent on. Arithmetic counts in vector steps: one multiply-accumulate on each channel of a block."""

    BLOCKED = "blocked"  # steps of convolutions in the blocked layout
    PLAIN_INPUT = "plain_input"  # steps of those that read fewer channels than a block, from the plain layout
    DEPTHWISE = "depthwise"  # steps of one-channel groups
    MATRIX = "matrix"  # steps of matrix products: linear layers, and convolutions outside the blocked layout
    UNFOLDED = "unfolded"  # values that such a convolution writes out as a matrix first
    WEIGHTS = "weights"  # weights read
    KERNELS = "kernels"  # starts of a kernel


# Fitted by tests/benchmarks/layer_cost.py and rounded: AMD EPYC (Zen 5, AVX-512, blocks of 16), ONNX Runtime 1.31, one
# thread. It printed 0.148, 0.319, 0.306, 0.154, 0.103, 0.031 and 900. Traffic of activations had its own term at first
# and came out as 0: at those sizes they fit into the second-level cache.
NANOSECONDS: Mapping[Term, float] = {
    Term.BLOCKED: 0.15,
    Term.PLAIN_INPUT: 0.32,
    Term.DEPTHWISE: 0.3,
    Term.MATRIX: 0.15,
    Term.UNFOLDED: 0.1,
    Term.WEIGHTS: 0.03,
    Term.KERNELS: 900.0,
}


def estimated_time(layers: Iterable[LayerFacts], channel_block: int) -> float:
    """The estimated time of one sample through ``layers``, in nanoseconds of the machine that the constants are from.

    Made to compare layers with their factors in float arithmetic on one thread; only ratios mean something elsewhere.
    """
    return sum(
        NANOSECONDS[term] * amount for layer in layers for term, amount in cost_terms(layer, channel_block).items()
    )


def cost_terms(layer: LayerFacts, channel_block: int) -> dict[Term, float]:
    """How much of each term a layer takes.

    Channels count in whole blocks. ``channel_block``: see ``Machine.channel_block``.
    """
    window = math.prod(layer.kernel)
    terms = {
        Term.KERNELS: 1.0,
        Term.WEIGHTS: float(layer.c_out * (layer.c_in // layer.groups) * window),
    }
    blocks = math.ceil(layer.c_out / channel_block)
    if _is_depthwise(layer):
        return terms | {Term.DEPTHWISE: float(layer.positions * blocks * window)}
    if _is_blocked(layer, channel_block):
        steps = layer.positions * blocks * window
        if layer.c_in < channel_block:
            return terms | {Term.PLAIN_INPUT: float(steps * layer.c_in)}
        per_group = math.ceil(layer.c_in // layer.groups / channel_block) * channel_block
        return terms | {Term.BLOCKED: float(steps * per_group)}
    blocks = math.ceil(layer.c_out / layer.groups / channel_block) * layer.groups
    steps = layer.positions * blocks * (layer.c_in // layer.groups) * window
    unfolded = layer.positions * layer.c_in * window if layer.kernel else 0
    return terms | {Term.MATRIX: float(steps), Term.UNFOLDED: float(unfolded)}


def _is_depthwise(layer: LayerFacts) -> bool:
    return layer.groups == layer.c_in == layer.c_out > 1 and layer.kind == "Conv2d" and layer.c_out % REORDERED == 0


def _is_blocked(layer: LayerFacts, channel_block: int) -> bool:
    if layer.kind != "Conv2d":
        return False
    c_in, c_out = layer.c_in // layer.groups, layer.c_out // layer.groups
    if layer.groups > 1:
        return c_in % channel_block == 0 == c_out % channel_block
    return c_in < channel_block or c_in % REORDERED == 0
