"""Structured pruning: whole channels go, and every layer coupled to them shrinks."""

from contextlib import nullcontext
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from autocompress.errors import RecipeError
from autocompress.graph.channel_groups import ChannelGroup, channel_groups, find_group, remove_channels
from autocompress.graph.channel_scores import Criterion, channel_scores
from autocompress.graph.coupling import trace
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, require_layers
from autocompress.passes.gradients import gradients

__all__ = ["MOST_PRUNED", "Criterion", "PruneChannels", "kept_width"]

MOST_PRUNED = 0.95


class PruneChannels(Pass):
    """Remove the least important channels of coupled groups.

    ``ratios`` names a group by any layer whose output channels it holds and gives the share of channels to remove.
    What is kept is a multiple of ``align`` where the group is wide enough, since kernels work on blocks of channels.
    Where channels go by whole heads, the share is of heads, and a head counts the sum over its channels.

    Source: dependency graph, Fang et al. 2023, https://arxiv.org/abs/2301.12900; L1, Li et al. 2017,
    https://arxiv.org/abs/1608.08710; Taylor, Molchanov et al. 2019, https://arxiv.org/abs/1906.10771, here
    summed over the coupled layers.
    """

    name: ClassVar[str] = "prune_channels"
    stage: ClassVar[Stage] = Stage.STRUCTURE
    source: ClassVar[str] = "https://arxiv.org/abs/2301.12900"
    saves: ClassVar[str] = "ms, bytes, RAM"

    ratios: dict[str, float] = Field(default_factory=dict)
    criterion: Criterion = Criterion.L1
    align: int = Field(8, ge=1, le=64, description="channels that a kernel treats at once")

    @field_validator("ratios")
    @classmethod
    def _are_shares(cls, ratios: dict[str, float]) -> dict[str, float]:
        for layer, ratio in ratios.items():
            if not 0 <= ratio <= MOST_PRUNED:
                nearest = min(max(ratio, 0.0), MOST_PRUNED)
                raise ValueError(
                    f"the pruned ratio of {layer} must lie in [0, {MOST_PRUNED}], got {ratio}; nearest: {nearest}"
                )
        return ratios

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:
        """Prune in place; groups that cannot be treated are skipped with their reason."""
        require_layers(model, list(self.ratios), "prune_channels.ratios")
        outcome = Outcome()
        groups = context.groups if context.groups is not None else channel_groups(model, context.example)
        ranks_by_gradient = self.criterion is Criterion.TAYLOR
        with gradients(model, context, "prune_channels.criterion") if ranks_by_gradient else nullcontext():
            self._prune(model, context, groups, outcome)
        return outcome

    def _prune(
        self, model: nn.Module, context: PassContext, groups: tuple[ChannelGroup, ...], outcome: Outcome
    ) -> None:
        named: dict[str, str] = {}
        for layer, ratio in self.ratios.items():
            group = find_group(groups, layer)
            if group is not None and named.setdefault(group.name, layer) != layer:
                raise RecipeError(
                    f"prune_channels.ratios gives each group one ratio; {named[group.name]} and {layer} are of one "
                    "group; keep one of them"
                )
            if group is None or group.reason:
                outcome.skipped[layer] = group.reason if group else "its output channels belong to no group"
                continue
            kept = kept_width(group, ratio, self.align)
            if kept < group.width:
                traced = trace(model, context.example)
                scores = channel_scores(traced, group, self.criterion, context.seed)
                remove_channels(traced, group, _least(group, scores, kept))
                outcome.changed[group.name] = _change(group, kept)


def _least(group: ChannelGroup, scores: Tensor, kept: int) -> list[int]:
    """The channels that go: in every chunk, those of the units of the least summed score."""
    of_units = scores.reshape(group.chunks, group.units, group.unit).sum(2)
    drop = (group.width - kept) // group.chunks // group.unit
    least = of_units.argsort(dim=1)[:, :drop] + torch.arange(group.chunks)[:, None] * group.units
    return sorted((least.flatten()[:, None] * group.unit + torch.arange(group.unit)).flatten().tolist())


def _change(group: ChannelGroup, kept: int) -> str:
    if group.unit > 1:
        return f"{group.width // group.unit} → {kept // group.unit} heads"
    return f"{group.width} → {kept} channels"


def kept_width(group: ChannelGroup, ratio: float, align: int) -> int:
    """How many channels of ``group`` remain when ``ratio`` of them should go.

    A multiple of ``align`` per chunk; of its largest halving that leaves at least four steps where the group is
    narrower. At least one step remains. Where channels go by several at a time, the step is one such unit.
    """
    step = align if group.unit == 1 else 1
    while step > 1 and group.units < 4 * step:
        step //= 2
    steps = max(1, round(group.units * (1 - ratio) / step))
    return min(group.units, steps * step) * group.unit * group.chunks
