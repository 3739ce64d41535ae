"""Coupled channels: which layers must lose the same channels together, and whether surgery there is sound.

A group is found by tracing (``coupling``) and tried on a copy (``tried_surgery``): removing channels must give the same
outputs as setting them to zero. Where it does not, whole heads are tried, with the numbers that a module keeps of them.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from autocompress.facts import Facts
from autocompress.graph.coupling import (
    MIXING,
    Member,
    Traced,
    all_groups,
    group_at,
    is_depthwise,
    recurrent_members,
    remove,
    trace,
    traced_members,
)
from autocompress.graph.recurrent import RECURRENT
from autocompress.graph.surgery import modules_of
from autocompress.graph.tried_surgery import Trial, first_line, trial_of


class ChannelGroup(Facts):
    """Channels that go together. ``reason`` says why a group cannot be treated; it is empty for the others.

    ``outs`` lose output channels, the first of them names the group; ``ins`` lose the inputs that those fed.
    ``feeds`` counts how many inputs of each of the ``ins`` one channel feeds: several after a flatten. ``makes`` counts
    how many outputs of one of the ``outs`` a channel is, where it is several: three in a layer that makes queries, keys
    and values, in as many parts. Channels come in ``chunks`` equal parts (grouped convolutions, group norms), which
    must all keep the same number, and go by ``unit`` neighbours at a time (heads). ``sizes`` names the numbers that
    modules keep of the width, each with how many channels it counts as one.
    """

    name: str
    width: int
    chunks: int = 1
    unit: int = 1
    outs: tuple[str, ...]
    ins: tuple[str, ...]
    feeds: dict[str, int] = Field(default_factory=dict)
    makes: dict[str, int] = Field(default_factory=dict)
    sizes: dict[str, int] = Field(default_factory=dict)
    reason: str = ""

    @property
    def units(self) -> int:
        """How many units a chunk has."""
        return self.width // self.chunks // self.unit


def channel_groups(model: nn.Module, example: Tensor) -> tuple[ChannelGroup, ...]:
    """Every coupled group of ``model`` in definition order, each tried on a copy; the model is left alone.

    Cost: two forward passes and a copy of the model per group, more for those that fail as they are.
    """
    trial = trial_of(model, example)
    traced = trace(trial.model, trial.example)
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    found = [_describe(traced, group, order) for group in all_groups(traced)]
    found += [_describe_units(traced, name) for name, _ in modules_of(trial.model, RECURRENT)]
    return tuple(_tried(trial, traced, group) for group in sorted(found, key=lambda group: order[group.name]))


def find_group(groups: tuple[ChannelGroup, ...], layer: str) -> ChannelGroup | None:
    """The group whose output channels ``layer`` has."""
    return next((group for group in groups if layer in group.outs), None)


def remove_channels(traced: Traced, group: ChannelGroup, channels: Sequence[int]) -> None:
    """Take ``channels`` of ``group`` out of the model, in place; it must be traced again before more go."""
    remove(traced.model, _members(traced, group, channels))
    _shrink(group, len(channels), traced.model)


def _describe(traced: Traced, coupled: Any, order: dict[str, int]) -> ChannelGroup:
    outs: dict[str, set[int]] = {}
    fed: dict[str, set[int]] = {}
    modules = dict(traced.model.named_modules())
    parts = [1]
    for member in traced_members(traced, coupled):
        module = modules.get(member.name)
        if module is None:
            continue
        parts.append(_parts_of(module))
        if isinstance(module, (*MIXING, *RECURRENT)):
            (outs if member.out else fed).setdefault(member.name, set()).update(member.indices)
    ordered = sorted(outs, key=order.__getitem__)
    width = _own_width(traced, ordered[0], len(outs[ordered[0]]))
    return ChannelGroup(
        name=ordered[0],
        width=width,
        chunks=math.lcm(*parts),
        outs=tuple(ordered),
        ins=tuple(sorted(fed, key=order.__getitem__)),
        feeds={name: len(fed[name]) // width for name in sorted(fed, key=order.__getitem__)},
        makes={name: len(outs[name]) // width for name in ordered if len(outs[name]) > width},
    )


def _own_width(traced: Traced, name: str, outputs: int) -> int:
    """How many of a layer's outputs are free: a third where each is tied to one a third further, and so on."""
    (tied, *_) = (sorted(indices) for _, indices in group_at(traced, name, [0]))
    width = outputs // len(tied)
    return width if tied == list(range(0, outputs, width)) else outputs


def _describe_units(traced: Traced, name: str) -> ChannelGroup:
    module = traced.model.get_submodule(name)
    assert isinstance(module, RECURRENT)
    try:
        members = recurrent_members(traced, name, range(module.hidden_size))
    except Exception as error:  # a network that takes one sample at a time, say
        reason = f"who reads its hidden units cannot be found: {first_line(error)}"
        return ChannelGroup(name=name, width=module.hidden_size, outs=(name,), ins=(), reason=reason)
    readers = [member for member in members if not member.out]
    return ChannelGroup(
        name=name,
        width=module.hidden_size,
        outs=(name,),
        ins=tuple(member.name for member in readers),
        feeds={member.name: len(member.indices) // module.hidden_size for member in readers},
        makes={name: 2} if module.bidirectional else {},
    )


def _parts_of(module: nn.Module) -> int:
    """Into how many equal parts ``module`` cuts its channels."""
    if isinstance(module, nn.GroupNorm):
        return module.num_groups
    return 1 if is_depthwise(module) else int(getattr(module, "groups", 1))


def _tried(trial: Trial, traced: Traced, group: ChannelGroup) -> ChannelGroup:
    """``group`` with the reason why it cannot be treated, or in the units in which it can."""
    if group.reason:
        return group
    reason = _why_not(trial, traced, group)
    if not reason or group.chunks > 1:
        return group.model_copy(update={"reason": reason})
    for changes in _otherwise(trial.model, group):
        candidate = group.model_copy(update=changes)
        if not _why_not(trial, traced, candidate):
            return candidate
    return group.model_copy(update={"reason": reason})


def _otherwise(model: nn.Module, group: ChannelGroup) -> Iterator[dict[str, Any]]:
    """Other ways to see the group: the module that holds it keeps its width as a number, or its count of heads."""
    owner = _owner(group)
    numbers = {
        f"{owner}.{key}".lstrip("."): value
        for key, value in vars(model.get_submodule(owner)).items()
        if type(value) is int and 1 < value <= group.width and group.width % value == 0
    }
    widths = {name: 1 for name, value in numbers.items() if value == group.width}
    if widths:
        yield {"sizes": widths}
    for name, value in numbers.items():
        if value < group.width:
            unit = group.width // value
            yield {"unit": unit, "sizes": {**widths, name: unit}}


def _owner(group: ChannelGroup) -> str:
    """The innermost module that holds all layers of ``group``."""
    paths = [name.split(".")[:-1] for name in (*group.outs, *group.ins)]
    shared = takewhile(lambda steps: len(set(steps)) == 1, zip(*paths, strict=False))
    return ".".join(steps[0] for steps in shared)


def _why_not(trial: Trial, traced: Traced, group: ChannelGroup) -> str:
    channels = _every_other(group)
    if not channels:
        things = "heads" if group.unit > 1 else "channels"
        parts = f" in {group.chunks} parts" if group.chunks > 1 else ""
        return f"has only {group.width // group.unit} {things}{parts}"
    members = _members(traced, group, channels)
    first = next(member for member in members if member.name == group.name)
    if len(first.indices) != len(channels) * group.makes.get(group.name, 1) and not _is_recurrent(trial.model, group):
        return "some of its channels hang on others of its channels"
    return trial.why_not(members, partial(_shrink, group, len(channels)))


def _every_other(group: ChannelGroup) -> list[int]:
    """Every other unit of each chunk, but not the same ones in neighbouring chunks."""
    firsts = (
        chunk * group.units + i + chunk % 2 for chunk in range(group.chunks) for i in range(0, group.units - 1, 2)
    )
    return [first * group.unit + i for first in firsts for i in range(group.unit)]


def _members(traced: Traced, group: ChannelGroup, channels: Sequence[int]) -> list[Member]:
    if _is_recurrent(traced.model, group):
        return recurrent_members(traced, group.name, channels)
    copies = group.makes.get(group.name, 1)
    outputs = [part * group.width + channel for part in range(copies) for channel in channels]
    return traced_members(traced, group_at(traced, group.name, outputs))


def _is_recurrent(model: nn.Module, group: ChannelGroup) -> bool:
    return isinstance(model.get_submodule(group.name), RECURRENT)


def _shrink(group: ChannelGroup, gone: int, model: nn.Module) -> None:
    """Lower the numbers that modules keep of the width, now that ``gone`` channels are."""
    for name, channels in group.sizes.items():
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        setattr(module, key, getattr(module, key) - gone // channels)
