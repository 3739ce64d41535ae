"""One set of weights for several blocks."""

from itertools import combinations
from typing import ClassVar

from pydantic import Field, field_validator
from torch import nn

from autocompress.graph.shared_weights import first_difference, matrices_of, share_matrices
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, count_parameters, require_layers

Groups = tuple[tuple[str, ...], ...]


class ShareLayers(Pass):
    """Let the later blocks of a group hold the very matrices and kernels of its first one.

    They stay one parameter through recovery. Biases, norms and running statistics stay each block's own: activations
    have another mean and scale at each depth, and these few numbers let a block fit them.

    Source: Lan et al. 2020, sec. 3.1, https://arxiv.org/abs/1909.11942, who share biases and norms too and train from
    the beginning; here the first block's trained weights are where recovery starts.
    """

    name: ClassVar[str] = "share_layers"
    stage: ClassVar[Stage] = Stage.SHARE
    source: ClassVar[str] = "https://arxiv.org/abs/1909.11942"
    saves: ClassVar[str] = "bytes"

    groups: Groups = Field(default=(), description="blocks of equal structure, the giver of the weights first")

    @field_validator("groups")
    @classmethod
    def _lie_apart(cls, groups: Groups) -> Groups:
        for group in groups:
            if len(group) < 2:
                raise ValueError(f"a group has at least two blocks, {list(group)} has {len(group)}")
        names = [name for group in groups for name in group]
        for one, other in combinations(names, 2):
            if one == other:
                raise ValueError(f"a block belongs to one group, once; {one} is named twice")
            inner, outer = (one, other) if one.startswith(f"{other}.") else (other, one)
            if inner.startswith(f"{outer}."):
                raise ValueError(f"blocks lie apart, {inner} lies in {outer}; name one of them")
        return groups

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:  # noqa: ARG002  # needs no data
        """Share in place; blocks of another structure than the first of their group are skipped."""
        require_layers(model, [name for group in self.groups for name in group], "share_layers.groups")
        outcome = Outcome()
        for first, *others in self.groups:
            giver = model.get_submodule(first)
            for name in others:
                block = model.get_submodule(name)
                reason = first_difference(giver, block, first) or _why_nothing_is_saved(model, giver, name)
                if reason:
                    outcome.skipped[name] = reason
                    continue
                before = count_parameters(model)
                share_matrices(giver, block)
                outcome.changed[name] = (
                    f"has the weights of {first}, {before - count_parameters(model):,} parameters fewer"
                )
        return outcome


def _why_nothing_is_saved(model: nn.Module, giver: nn.Module, name: str) -> str:
    """Why the block ``name`` has no weights that would go; empty when it has."""
    block = model.get_submodule(name)
    matrices = matrices_of(giver)
    if not matrices:
        return "it has no matrices or kernels to share"
    named = model.named_parameters(remove_duplicate=False)
    outside = {id(parameter) for place, parameter in named if not place.startswith(f"{name}.")}
    if all(id(block.get_parameter(matrix)) in outside for matrix in matrices):
        return "its weights are used elsewhere too, so that sharing saves nothing"
    return ""
