"""Depth pruning: whole residual blocks go."""

import copy
from typing import ClassVar

from pydantic import Field, field_validator
from torch import nn

from autocompress.graph.blocks import Block, residual_blocks, why_it_stays
from autocompress.graph.surgery import replace_module
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, count_parameters, require_layers


class DropBlocks(Pass):
    """Put ``nn.Identity`` in the place of residual blocks; all other layers keep their names.

    What a block adds to its input is a refinement, so that the network still works, somewhat worse, without it.
    Channels that the block coupled may come apart: passes that follow look for channel groups anew.

    Source: Huang et al. 2016, https://arxiv.org/abs/1603.09382, whose networks train while random blocks are
    bypassed; removal for latency, Elkerdawy et al. 2020, https://arxiv.org/abs/2007.05667, who rank layers by the
    importance of their filters, where the blocks are arguments here.
    """

    name: ClassVar[str] = "drop_blocks"
    stage: ClassVar[Stage] = Stage.STRUCTURE
    source: ClassVar[str] = "https://arxiv.org/abs/2007.05667"
    saves: ClassVar[str] = "ms, bytes, RAM"

    blocks: tuple[str, ...] = Field(default=(), description="residual blocks to remove")

    @field_validator("blocks")
    @classmethod
    def _are_named_once(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        twice = [block for place, block in enumerate(blocks) if block in blocks[:place]]
        if twice:
            raise ValueError(f"a block is named once, {twice[0]} is named twice")
        return blocks

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:
        """Remove blocks in place; those without which the network does not run are skipped with the reason."""
        require_layers(model, list(self.blocks), "drop_blocks.blocks")
        outcome = Outcome()
        if not self.blocks:
            return outcome
        known = context.blocks if context.blocks is not None else residual_blocks(model, context.example)
        tried = copy.deepcopy(model)
        for name in self.blocks:
            reason = _why_no_block(known, name) or why_it_stays(tried, name, context.example)
            if reason:
                outcome.skipped[name] = reason
                continue
            block = model.get_submodule(name)
            before = count_parameters(model)
            replace_module(tried, name, nn.Identity())
            replace_module(model, name, nn.Identity().train(block.training))
            outcome.changed[name] = f"removed, {before - count_parameters(model):,} parameters fewer"
        outcome.rewired = bool(outcome.changed)
        return outcome


def _why_no_block(known: tuple[Block, ...], name: str) -> str:
    """Why the module ``name`` cannot be dropped by itself; empty when it can."""
    found = next((block for block in known if block.name == name), None)
    if found is not None:
        return found.reason
    inner = [block.name for block in known if block.name.startswith(f"{name}.")]
    if inner:
        return f"it holds the residual blocks {', '.join(inner)}; name those"
    return "it is no residual block, whose output has its input's shape and is that input with something added"
