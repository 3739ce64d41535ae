"""Coupled channels: which layers must lose the same channels together, and whether surgery there is sound.

The coupling is traced by torch-pruning's dependency graph (Fang et al. 2023, https://arxiv.org/abs/2301.12900). Each
group is then tried on a copy: removing channels must give the same outputs as setting them to zero. That finds what no
tracer sees, such as a shortcut that pads a hard-coded number of channels.
"""

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch_pruning as tp
from pydantic import Field
from torch import Tensor, nn

from autocompress.facts import Facts

_ROOTS = (nn.Conv1d, nn.Conv2d, nn.Linear)
_NORMS_OVER_CHANNELS = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.RMSNorm)
_TOLERANCE = 1e-3  # of the largest output; fp32 sums in another order differ by about 1e-6


class ChannelGroup(Facts):
    """Channels that go together. ``reason`` says why a group cannot be treated; it is empty for the others.

    ``outs`` lose output channels, the first of them names the group; ``ins`` lose the inputs that those fed.
    ``feeds`` counts how many inputs of each of the ``ins`` one channel feeds: several after a flatten. Channels come in
    ``chunks`` equal parts (grouped convolutions, group norms), which must all keep the same number.
    """

    name: str
    width: int
    chunks: int = 1
    outs: tuple[str, ...]
    ins: tuple[str, ...]
    feeds: dict[str, int] = Field(default_factory=dict)
    reason: str = ""


def channel_groups(model: nn.Module, example: Tensor) -> tuple[ChannelGroup, ...]:
    """Every coupled group of ``model`` in definition order, each tried on a copy; the model is left alone.

    Cost: two forward passes and one copy of the model per group.
    """
    graph = trace(model, example)
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    found = [_describe(model, group, order) for group in _all_groups(graph)]
    return tuple(
        group.model_copy(update={"reason": _why_not(model, group, example)})
        for group in sorted(found, key=lambda group: order[group.name])
    )


def trace(model: nn.Module, example: Tensor) -> tp.DependencyGraph:
    """The dependency graph of ``model``, which is left as it was.

    Its parameters require gradients and it is in eval mode for as long as tracing takes.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad]
    modes = [(module, module.training) for module in model.modules()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tp.DependencyGraph().build_dependency(model, example_inputs=example, verbose=False)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, training in modes:
            module.training = training


def remove_channels(graph: tp.DependencyGraph, model: nn.Module, group_name: str, channels: list[int]) -> None:
    """Take ``channels`` out of the group that ``group_name`` belongs to, in place."""
    group_at(graph, model, group_name, channels).prune()


def group_at(graph: tp.DependencyGraph, model: nn.Module, name: str, channels: list[int] | None = None) -> Any:
    """torch-pruning's group of the output channels of layer ``name``; all channels unless some are named."""
    module = model.get_submodule(name)
    prune = graph.get_pruner_of_module(module).prune_out_channels
    width = graph.get_out_channels(module)
    return graph.get_pruning_group(module, prune, list(range(width)) if channels is None else channels)


def _all_groups(graph: tp.DependencyGraph) -> Iterator[Any]:
    return iter(graph.get_all_groups(root_module_types=list(_ROOTS)))


def _describe(model: nn.Module, group: Any, order: dict[str, int]) -> ChannelGroup:
    names = {module: name for name, module in model.named_modules()}
    width = len(group[0].idxs)
    outs: set[str] = set()
    fed: dict[str, set[int]] = {}
    parts = [1]
    for dependency, indices in group:
        module = dependency.target.module
        if module not in names:
            continue
        parts.append(_parts_of(module))
        if isinstance(module, _ROOTS) and _removes_outputs(dependency):
            outs.add(names[module])
        elif isinstance(module, _ROOTS):
            fed.setdefault(names[module], set()).update(indices)
    ordered = sorted(outs, key=order.__getitem__)
    ins = sorted(fed, key=order.__getitem__)
    return ChannelGroup(
        name=ordered[0],
        width=width,
        chunks=math.lcm(*parts),
        outs=tuple(ordered),
        ins=tuple(ins),
        feeds={name: len(fed[name]) // width for name in ins},
    )


def _removes_outputs(dependency: Any) -> bool:
    return bool(
        getattr(dependency.handler, "__name__", "").startswith("prune_out") or _is_depthwise(dependency.target.module)
    )


def _parts_of(module: nn.Module) -> int:
    """Into how many equal parts ``module`` cuts its channels."""
    if isinstance(module, nn.GroupNorm):
        return module.num_groups
    return 1 if _is_depthwise(module) else _groups_of(module)


def _groups_of(module: nn.Module) -> int:
    return int(getattr(module, "groups", 1))


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == module.in_channels > 1


def _why_not(model: nn.Module, group: ChannelGroup, example: Tensor) -> str:
    """Why removing channels of ``group`` would be wrong; empty when it is sound."""
    channels = _every_other(group)
    if not channels:
        return f"has only {group.width} channels" + (f" in {group.chunks} parts" if group.chunks > 1 else "")
    try:
        kept, expected = _masked_and_cut(model, group, channels, example)
    except Exception as error:  # whatever surgery breaks is the reason
        return f"the network does not run without channels of this group: {_first_line(error)}"
    if kept.shape != expected.shape:
        return "its channels are the model's output"
    if group_normalizes(model, group, example):
        return ""
    scale = float(expected.abs().max()) + 1e-12
    if float((kept - expected).abs().max()) > _TOLERANCE * scale:
        return "removing its channels is not the same as zeroing them: the forward pass uses them in a way not traced"
    return ""


def _every_other(group: ChannelGroup) -> list[int]:
    size = group.width // group.chunks
    return [chunk * size + i for chunk in range(group.chunks) for i in range(0, size - 1, 2)]


@torch.no_grad()
def _masked_and_cut(
    model: nn.Module, group: ChannelGroup, channels: list[int], example: Tensor
) -> tuple[Tensor, Tensor]:
    cut = copy.deepcopy(model).eval()
    with torch.enable_grad():
        graph = trace(cut, example)
        remove_channels(graph, cut, group.name, channels)
    masked = copy.deepcopy(model).eval()
    with torch.enable_grad():
        coupled = group_at(trace(masked, example), masked, group.name, channels)
    for dependency, indices in coupled:
        _zero(dependency, indices)
    return cut(example), masked(example)


def _zero(dependency: Any, indices: list[int]) -> None:
    module = dependency.target.module
    if isinstance(module, nn.Parameter):
        if module.dim() > 0:
            module.data.index_fill_(_channel_dim(dependency, module), torch.tensor(indices), 0.0)
    elif _removes_outputs(dependency):
        for parameter in module.parameters(recurse=False):
            parameter.data[indices] = 0.0
    elif isinstance(module, _ROOTS) and _groups_of(module) == 1:
        module.weight.data[:, indices] = 0.0


def _channel_dim(dependency: Any, parameter: nn.Parameter) -> int:
    return int(getattr(dependency.target, "pruning_dim", 0) or 0) % parameter.dim()


def group_normalizes(model: nn.Module, group: ChannelGroup, example: Tensor) -> bool:
    """Whether a norm takes means over the group's channels; then cutting and zeroing differ, and both are right."""
    copied = copy.deepcopy(model)
    members = group_at(trace(copied, example), copied, group.name)
    return any(isinstance(dependency.target.module, _NORMS_OVER_CHANNELS) for dependency, _ in members)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__


def find_group(groups: tuple[ChannelGroup, ...], layer: str) -> ChannelGroup | None:
    """The group whose output channels ``layer`` has."""
    return next((group for group in groups if layer in group.outs), None)
