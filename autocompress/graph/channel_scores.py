"""How much each channel of a group matters."""

from collections.abc import Callable
from enum import StrEnum

import torch
import torch_pruning as tp
from torch import Tensor, nn

from autocompress.errors import RecipeError
from autocompress.graph.channel_groups import ChannelGroup
from autocompress.graph.coupling import Traced, group_at, recurrent_members
from autocompress.graph.recurrent import RECURRENT, unit_scores


class Criterion(StrEnum):
    """How channels are ranked."""

    L1 = "l1"
    TAYLOR = "taylor"
    RANDOM = "random"  # a control


def channel_scores(traced: Traced, group: ChannelGroup, criterion: Criterion, seed: int) -> Tensor:
    """``[group.width]``: the larger, the more a channel matters; comparable within the group only.

    Taylor reads the gradients that the parameters hold.
    """
    if criterion is Criterion.RANDOM:
        return torch.rand(group.width, generator=torch.Generator().manual_seed(seed))
    if isinstance(traced.model.get_submodule(group.name), RECURRENT):
        return _of_units(traced, group, _taylor if criterion is Criterion.TAYLOR else torch.abs)
    importance = (
        tp.importance.GroupTaylorImportance()
        if criterion is Criterion.TAYLOR
        else tp.importance.GroupMagnitudeImportance(p=1)
    )
    scores: Tensor | None = importance(group_at(traced, group.name))
    if scores is None or len(scores) % group.width:
        raise RecipeError(f"{group.name} has no {criterion} importance; use the criterion l1 or random")
    return scores.detach().cpu().reshape(-1, group.width).sum(0)  # over the parts that a channel is made in


def _of_units(traced: Traced, group: ChannelGroup, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Gates and readers, weight by weight."""
    module = traced.model.get_submodule(group.name)
    assert isinstance(module, nn.RNNBase)
    total = unit_scores(module, score)
    for member in recurrent_members(traced, group.name, range(group.width)):
        reader = traced.model.get_submodule(member.name)
        if not member.out and isinstance(reader, nn.Linear):
            of_inputs = score(reader.weight).detach().sum(0).cpu()
            total += of_inputs[list(member.indices)].reshape(-1, group.width).sum(0)
    return total


def _taylor(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else (parameter * parameter.grad).abs()
