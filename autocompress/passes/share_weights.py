"""Codebooks: a layer's weights take a few values, stored as packed indices and a table."""

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import nn

from autocompress.facts import Facts
from autocompress.layers.constraint import Constraint
from autocompress.linalg.codebook import codebook
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, require_layers
from autocompress.passes.prune_weights import why_no_constraint

LEAST_BITS, MOST_BITS = 2, 8


class Codebook(Facts):
    """How one layer's weights are clustered: ``2**bits`` values for each of ``groups`` parts of its output channels."""

    bits: int = 4
    groups: int = Field(1, ge=1)

    @field_validator("bits")
    @classmethod
    def _can_be_indexed(cls, bits: int) -> int:
        if not LEAST_BITS <= bits <= MOST_BITS:
            nearest = min(max(bits, LEAST_BITS), MOST_BITS)
            raise ValueError(f"bits must lie in [{LEAST_BITS}, {MOST_BITS}], got {bits}; nearest: {nearest}")
        return bits


class ShareWeights(Pass):
    """Cluster the weights of a layer by k-means; recovery trains the shared values.

    Zeros of a sparse layer stay out of the codebook. In int8 arithmetic the table itself is int8, so the layer runs at
    int8's speed with the bytes of its indices.

    Source: Han et al. 2016, sec. 3, https://arxiv.org/abs/1510.00149; the initial values are those of k-means on the
    whole weight, not linear ones.
    """

    name: ClassVar[str] = "share_weights"
    stage: ClassVar[Stage] = Stage.CLUSTER
    source: ClassVar[str] = "https://arxiv.org/abs/1510.00149"
    saves: ClassVar[str] = "bytes"

    layers: dict[str, Codebook] = Field(default_factory=dict)

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:
        """Round weights to their codebooks in place; the constraints of the outcome keep them there."""
        require_layers(model, list(self.layers), "share_weights.layers")
        outcome = Outcome()
        treated: dict[int, str] = {}
        for name, wanted in self.layers.items():
            layer = model.get_submodule(name)
            before = context.constraints.get(name, Constraint())
            reason = why_no_constraint(layer, name, treated) or _why_not(layer, wanted, before)
            if reason:
                outcome.skipped[name] = reason
                continue
            weight = layer.weight
            assert isinstance(weight, nn.Parameter)
            indices = torch.zeros_like(weight, dtype=torch.uint8)
            if not context.shapes_only:
                book = codebook(weight, 2**wanted.bits, kept=before.kept, groups=wanted.groups)
                indices = book.indices
                with torch.no_grad():
                    weight.copy_(book.dense)
            outcome.constraints[name] = replace(before, indices=indices, bits=wanted.bits, groups=wanted.groups)
            groups = f" in each of {wanted.groups} groups" if wanted.groups > 1 else ""
            outcome.changed[name] = f"{2**wanted.bits} shared values{groups} for {weight.numel()} weights"
        return outcome


def _why_not(layer: nn.Module, wanted: Codebook, before: Constraint) -> str:
    assert isinstance(layer.weight, nn.Parameter)
    c_out = layer.weight.shape[0]
    numbers = layer.weight.numel() if before.kept is None else int(before.kept.sum())
    if wanted.groups > c_out:
        return f"{wanted.groups} groups need as many output channels, it has {c_out}"
    if not saves_bytes(numbers, wanted.bits, wanted.groups):
        return f"a table of {wanted.groups * 2**wanted.bits} values is no smaller than its {numbers} weights"
    return ""


def saves_bytes(weights: int, bits: int, groups: int = 1) -> bool:
    """Whether indices of ``bits`` and ``groups`` tables of 32-bit values take fewer bytes than the weights in fp32."""
    return (groups << bits) * 32 + weights * bits < weights * 32
