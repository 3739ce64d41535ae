"""Unstructured and N:M sparsity: single weights become zero, stay zero, and are not stored."""

from contextlib import nullcontext
from enum import StrEnum
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from autocompress.facts import Facts
from autocompress.graph.layer_table import WEIGHTED
from autocompress.layers.constraint import Constraint
from autocompress.linalg.sparsity import kept_by_pattern, kept_by_share
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, require_layers
from autocompress.passes.gradients import gradients

PATTERNS = {"1:4": (1, 4), "2:4": (2, 4), "2:8": (2, 8), "4:8": (4, 8)}
MOST_SPARSE = 0.99


class WeightCriterion(StrEnum):
    """How single weights are ranked."""

    MAGNITUDE = "magnitude"
    TAYLOR = "taylor"


class Sparsity(Facts):
    """How many weights of one layer become zero: a share of all, or all but n of every m along the inputs."""

    sparsity: float | None = None
    pattern: str | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.sparsity is None) == (self.pattern is None):
            raise ValueError("a layer has either a sparsity or a pattern")
        if self.sparsity is not None and not 0 <= self.sparsity <= MOST_SPARSE:
            nearest = min(max(self.sparsity, 0.0), MOST_SPARSE)
            raise ValueError(f"sparsity must lie in [0, {MOST_SPARSE}], got {self.sparsity}; nearest: {nearest}")
        if self.pattern is not None and self.pattern not in PATTERNS:
            raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, got {self.pattern!r}; nearest: 2:4")
        return self

    def kept(self, scores: Tensor) -> Tensor:
        """Which weights stay; ``ValueError`` where the layer does not fit the pattern."""
        if self.pattern is not None:
            return kept_by_pattern(scores, *PATTERNS[self.pattern])
        return kept_by_share(scores, self.sparsity or 0.0)

    def __str__(self) -> str:
        return self.pattern or f"{self.sparsity:.0%}"


class PruneWeights(Pass):
    """Set the least important weights of a layer to zero and keep them there.

    The file holds where the weights that are left lie, and their values. A layer that is factorized later hands its
    sparsity on to its factors.

    Source: Han et al. 2015, https://arxiv.org/abs/1506.02626 (magnitude); Molchanov et al. 2019,
    https://arxiv.org/abs/1906.10771 (Taylor), here for single weights.
    """

    name: ClassVar[str] = "prune_weights"
    stage: ClassVar[Stage] = Stage.SPARSITY
    source: ClassVar[str] = "https://arxiv.org/abs/1506.02626"
    saves: ClassVar[str] = "bytes"

    layers: dict[str, Sparsity] = Field(default_factory=dict)
    criterion: WeightCriterion = WeightCriterion.MAGNITUDE

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:
        """Zero weights in place; the constraints of the outcome keep them zero."""
        require_layers(model, list(self.layers), "prune_weights.layers")
        outcome = Outcome()
        needed = self.criterion is WeightCriterion.TAYLOR
        with gradients(model, context, "prune_weights.criterion") if needed else nullcontext():
            treated: dict[int, str] = {}
            for name, wanted in self.layers.items():
                layer = model.get_submodule(name)
                reason = why_no_constraint(layer, name, treated)
                if reason:
                    outcome.skipped[name] = reason
                else:
                    self._prune(name, layer, wanted, outcome)
        return outcome

    def _prune(self, name: str, layer: nn.Module, wanted: Sparsity, outcome: Outcome) -> None:
        try:
            kept = _zero_the_rest(layer, wanted)
        except ValueError as error:
            outcome.skipped[name] = str(error)
            return
        if kept.all():
            outcome.skipped[name] = f"a sparsity of {wanted} takes none of its {kept.numel()} weights"
            return
        outcome.constraints[name] = Constraint(kept=kept, pattern=wanted.pattern)
        outcome.changed[name] = f"{wanted} sparse: {kept.numel()} → {int(kept.sum())} weights"


def why_no_constraint(layer: nn.Module, name: str, treated: dict[int, str]) -> str:
    """Why the weight of ``layer`` cannot be held to anything; empty when it can.

    ``treated`` maps weights (by identity) to the layer that has had its turn, and gains this one.
    """
    if not isinstance(layer, WEIGHTED):
        return f"a {type(layer).__name__} has no single weight; linear layers and convolutions do"
    first = treated.setdefault(id(layer.weight), name)
    return "" if first == name else f"it shares its weight with {first}"


def passed_on(constraint: Constraint, parts: dict[str, nn.Module]) -> dict[str, Constraint]:
    """The sparsity of a layer for the layers that take its place: the same share or pattern of each.

    A factor that does not fit the pattern gets its share instead. Weights are zeroed in place.
    """
    if constraint.kept is None:
        return {}
    share = Sparsity(sparsity=min(MOST_SPARSE, round(1 - float(constraint.kept.float().mean()), 6)))
    wanted = Sparsity(pattern=constraint.pattern) if constraint.pattern else share
    found = {}
    for name, part in parts.items():
        try:
            found[name] = Constraint(kept=_zero_the_rest(part, wanted), pattern=constraint.pattern)
        except ValueError:
            found[name] = Constraint(kept=_zero_the_rest(part, share))
    return found


def _zero_the_rest(layer: nn.Module, wanted: Sparsity) -> Tensor:
    """Which weights stay; the others are zero then. ``ValueError`` where the layer does not fit the pattern."""
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    kept = wanted.kept(_scores(weight))
    with torch.no_grad():
        weight.mul_(kept)
    return kept


def _scores(weight: nn.Parameter) -> Tensor:
    """Importance of each weight: how much the loss changes without it where gradients are there, else its magnitude."""
    scores = weight.detach().abs()
    return scores if weight.grad is None else scores * weight.grad.abs()
