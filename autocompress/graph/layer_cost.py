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
    DEPTHWISE = "depthwise"  # steps of one-channel groups
    MATRIX = "matrix"  # steps of matrix products: linear layers, and convolutions outside the blocked layout
    UNFOLDED = "unfolded"  # values that such a convolution writes out as a matrix first
    WEIGHTS = "weights"  # weights read
    ACTIVATIONS = "activations"  # values read and written
    KERNELS = "kernels"  # starts of a kernel


NANOSECONDS: Mapping[Term, float] = {
    Term.BLOCKED: 0.1,
    Term.DEPTHWISE: 0.2,
    Term.MATRIX: 0.1,
    Term.UNFOLDED: 0.1,
    Term.WEIGHTS: 0.02,
    Term.ACTIVATIONS: 0.05,
    Term.KERNELS: 1000.0,
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
    values = layer.positions * (layer.c_in + layer.c_out)
    terms = {
        Term.KERNELS: 1.0,
        Term.ACTIVATIONS: float(values),
        Term.WEIGHTS: float(layer.c_out * (layer.c_in // layer.groups) * window),
    }
    blocks = math.ceil(layer.c_out / channel_block)
    if _is_depthwise(layer):
        return terms | {Term.DEPTHWISE: float(layer.positions * blocks * window)}
    if _is_blocked(layer, channel_block):
        c_in = layer.c_in if layer.c_in < channel_block else math.ceil(layer.c_in / channel_block) * channel_block
        return terms | {Term.BLOCKED: float(layer.positions * blocks * c_in * window)}
    per_group = math.ceil(layer.c_out / layer.groups / channel_block) * layer.groups
    steps = layer.positions * per_group * (layer.c_in // layer.groups) * window
    unfolded = layer.positions * layer.c_in * window if layer.kernel else 0
    return terms | {Term.MATRIX: float(steps), Term.UNFOLDED: float(unfolded)}


def _is_depthwise(layer: LayerFacts) -> bool:
    return layer.groups == layer.c_in == layer.c_out > 1 and layer.kind == "Conv2d"


def _is_blocked(layer: LayerFacts, channel_block: int) -> bool:
    if layer.kind != "Conv2d":
        return False
    c_in, c_out = layer.c_in // layer.groups, layer.c_out // layer.groups
    if layer.groups > 1:
        return c_in % channel_block == 0 == c_out % channel_block
    return c_in < channel_block or c_in % REORDERED == 0
