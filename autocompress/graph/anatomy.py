"""What a search needs to know of a network: its layers, stages, coupled channels and blocks."""

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from autocompress.graph.blocks import Block, residual_blocks
from autocompress.graph.channel_groups import ChannelGroup, channel_groups
from autocompress.graph.layer_table import LayerFacts, layer_table
from autocompress.graph.shared_weights import sharable_blocks
from autocompress.graph.stages import stages_of


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Layers in order of execution, the stages they form, and every channel group, treatable or not.

    ``blocks`` are the residual blocks, those that must stay included; None where they were not looked for.
    ``alike`` are blocks of equal structure. ``copies`` maps layers that hold the weight of an earlier one to that.
    ``stage_of_group`` says to which stage each channel group belongs; None leaves it to the group's first layer.
    """

    layers: tuple[LayerFacts, ...]
    stages: tuple[tuple[str, ...], ...]
    groups: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...] | None = None
    alike: tuple[tuple[str, ...], ...] = ()
    copies: dict[str, str] = field(default_factory=dict)
    stage_of_group: dict[str, int] | None = None

    @cached_property
    def stage_of(self) -> dict[str, int]:
        """Layer → index of its stage."""
        return {layer: index for index, stage in enumerate(self.stages) for layer in stage}

    def groups_of_stage(self, stage: int) -> tuple[ChannelGroup, ...]:
        """The treatable groups whose first layer lies in a stage; of a recurrent layer, the first that reads it."""
        return tuple(group for group in self.groups if not group.reason and self._stage_of_group(group) == stage)

    def _stage_of_group(self, group: ChannelGroup) -> int | None:
        if self.stage_of_group is not None:
            return self.stage_of_group.get(group.name)
        return next((self.stage_of[name] for name in (*group.outs, *group.ins) if name in self.stage_of), None)

    def layers_in(self, block: str) -> tuple[LayerFacts, ...]:
        """The layers of the module ``block``, in order of execution."""
        return tuple(layer for layer in self.layers if lies_in(layer.name, block))

    def droppable(self, stage: int) -> tuple[str, ...]:
        """The blocks without which the network runs and whose first layer lies in a stage, in definition order."""
        return tuple(name for name, first in self._stage_of_block.items() if first == stage)

    @cached_property
    def _stage_of_block(self) -> dict[str, int]:
        """Block without which the network runs → the stage of its first layer, in definition order."""
        firsts = {block.name: self.layers_in(block.name)[:1] for block in self.blocks or () if not block.reason}
        return {name: self.stage_of[first[0].name] for name, first in firsts.items() if first}

    def widths_after(self, layer: LayerFacts, kept: dict[str, int]) -> tuple[int, int]:
        """Input and output channels of ``layer`` when each group in ``kept`` keeps that many."""
        own = self._made_by.get(layer.name)
        c_out = layer.c_out if own is None or own.name not in kept else kept[own.name] * own.makes.get(layer.name, 1)
        if layer.groups == layer.c_in == layer.c_out > 1:  # depthwise: in and out are the same channels
            return c_out, c_out
        read = [group for group in self._read_by.get(layer.name, ()) if group.name in kept]
        gone = sum((group.width - kept[group.name]) * group.feeds[layer.name] for group in read)
        return layer.c_in - gone, c_out

    @cached_property
    def _made_by(self) -> dict[str, ChannelGroup]:
        """Layer → the group whose channels its outputs are, the first where it has several."""
        return {name: group for group in reversed(self.groups) for name in group.outs}

    @cached_property
    def _read_by(self) -> dict[str, list[ChannelGroup]]:
        """Layer → the groups that it reads."""
        found: dict[str, list[ChannelGroup]] = {}
        for group in self.groups:
            for name in group.feeds:
                found.setdefault(name, []).append(group)
        return found


def anatomy_of(model: nn.Module, example: Tensor, *, blocks: bool = True) -> Anatomy:
    """Look at ``model`` once; it is left alone. Cost: that of ``channel_groups`` and, if asked, ``residual_blocks``.

    Raises:
        ModelError: ``torch.export`` cannot trace the model, which residual blocks need.
    """
    layers = layer_table(model, example)
    return Anatomy(
        layers=layers,
        stages=stages_of(layers),
        groups=channel_groups(model, example),
        blocks=residual_blocks(model, example) if blocks else None,
        alike=sharable_blocks(model),
        copies=_copies(model, layers),
    )


def lies_in(name: str, module: str) -> bool:
    """Whether the module ``name`` is ``module`` or inside it."""
    return name == module or name.startswith(f"{module}.")


def _copies(model: nn.Module, layers: tuple[LayerFacts, ...]) -> dict[str, str]:
    owners: dict[int, str] = {}
    weights = {layer.name: model.get_parameter(f"{layer.name}.weight") for layer in layers}
    firsts = {name: owners.setdefault(id(weight), name) for name, weight in weights.items()}
    return {name: first for name, first in firsts.items() if first != name}
