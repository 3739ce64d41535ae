"""Who loses what when channels go: the members of a group, and their surgery.

The coupling is traced by torch-pruning's dependency graph (Fang et al. 2023, https://arxiv.org/abs/2301.12900), that
of hidden units of recurrent layers by ``recurrent``.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from autocompress.graph.pruners import pruners
from autocompress.graph.recurrent import RECURRENT, hide_cells, readers_of, remove_units, zero_inputs, zero_units
from autocompress.graph.surgery import modules_of

MIXING = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A module or parameter that loses channels: its outputs (``out``) or what it reads.

    ``cut`` does it in place, or gives back the new parameter; ``dim`` is where a parameter has its channels.
    """

    name: str
    out: bool
    indices: tuple[int, ...]
    cut: Callable[[Any, list[int]], Any]
    dim: int = 0


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A model, an input for it, and its dependency graph: good until the model is cut."""

    model: nn.Module
    example: Tensor
    graph: tp.DependencyGraph


def trace(model: nn.Module, example: Tensor) -> Traced:
    """``model`` with its dependency graph; the model is left as it was.

    Its parameters require gradients and it is in eval mode for as long as tracing takes.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad]
    modes = [(module, module.training) for module in model.modules()]
    hooks = [module.register_forward_hook(hide_cells) for _, module in modules_of(model, RECURRENT)]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph = tp.DependencyGraph().build_dependency(
                model,
                example_inputs=example,
                verbose=False,
                customized_pruners=pruners(),
            )
            return Traced(model=model, example=example, graph=graph)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, training in modes:
            module.training = training


def group_at(traced: Traced, name: str, outputs: Sequence[int] | None = None) -> Any:
    """torch-pruning's group of the outputs of layer ``name``; all of them unless some are named."""
    module = traced.model.get_submodule(name)
    prune = traced.graph.get_pruner_of_module(module).prune_out_channels
    width = traced.graph.get_out_channels(module)
    return traced.graph.get_pruning_group(module, prune, list(range(width)) if outputs is None else list(outputs))


def all_groups(traced: Traced) -> Iterator[Any]:
    """torch-pruning's groups of all outputs of convolutions and linear layers."""
    return iter(traced.graph.get_all_groups(root_module_types=list(MIXING)))


def traced_members(traced: Traced, coupled: Any) -> list[Member]:
    """The members of a group of torch-pruning's."""
    names: dict[Any, str] = {module: name for name, module in traced.model.named_modules()}
    names |= {parameter: name for name, parameter in traced.model.named_parameters()}
    return [
        Member(
            name=names[dependency.target.module],
            out=_loses_outputs(dependency),
            indices=tuple(indices),
            cut=dependency.handler,
            dim=int(getattr(dependency.target, "pruning_dim", 0) or 0),
        )
        for dependency, indices in coupled
        if dependency.target.module in names
    ]


def recurrent_members(traced: Traced, name: str, units: Sequence[int]) -> list[Member]:
    """Hidden ``units`` of the recurrent layer ``name``, and who reads them."""
    members = [Member(name=name, out=True, indices=tuple(units), cut=remove_units)]
    for reader, fed in readers_of(traced.model, name, traced.example).items():
        module = traced.model.get_submodule(reader)
        mixes = isinstance(module, (*MIXING, *RECURRENT))
        pruner = traced.graph.get_pruner_of_module(module)
        cut = pruner.prune_in_channels if mixes else pruner.prune_out_channels
        indices = tuple(sorted({index for unit in units for index in fed[unit]}))
        members.append(Member(name=reader, out=not mixes, indices=indices, cut=cut, dim=-1))
    return members


def remove(model: nn.Module, members: Sequence[Member]) -> None:
    """Take what the members lose out of ``model``, in place."""
    for member in members:
        target = _target(model, member.name)
        if isinstance(target, nn.Conv1d | nn.Conv2d) and not member.out and target.groups > 1:
            _remove_grouped_inputs(target, member.indices)
            continue
        if (pruner := getattr(member.cut, "__self__", None)) is not None:
            pruner.pruning_dim = member.dim
        made = member.cut(target, list(member.indices))
        if isinstance(target, nn.Parameter):
            parent, _, last = member.name.rpartition(".")
            setattr(model.get_submodule(parent), last, made)


@contextmanager
def zeroed_members(model: nn.Module, members: Sequence[Member]) -> Iterator[None]:
    """For as long as the context lasts, what the members lose is silent."""
    targets = {member.name: _target(model, member.name) for member in members}
    touched = [
        parameter
        for target in targets.values()
        for parameter in ([target] if isinstance(target, nn.Parameter) else target.parameters(recurse=False))
    ]
    before = [parameter.detach().clone() for parameter in touched]
    try:
        _zero(model, members)
        yield
    finally:
        for parameter, values in zip(touched, before, strict=True):
            parameter.data.copy_(values)


@torch.no_grad()
def _zero(model: nn.Module, members: Sequence[Member]) -> None:
    for member in members:
        target, indices = _target(model, member.name), list(member.indices)
        if isinstance(target, nn.Parameter):
            if target.dim() > 0:
                target.index_fill_(member.dim % target.dim(), torch.tensor(indices), 0.0)
        elif isinstance(target, RECURRENT):
            (zero_units if member.out else zero_inputs)(target, indices)
        elif member.out:
            for parameter in target.parameters(recurse=False):
                if len(parameter) > 1:  # a PReLU may have one slope for all channels
                    parameter[indices] = 0.0
        elif isinstance(target, MIXING):
            parts = int(getattr(target, "groups", 1))
            weight = target.weight.view(parts, -1, *target.weight.shape[1:])
            for index in indices:
                weight[index // weight.shape[2], :, index % weight.shape[2]] = 0.0


def is_depthwise(module: nn.Module) -> bool:
    """Whether every output channel of a convolution is made of its own input channel."""
    return isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == module.in_channels > 1


def _target(model: nn.Module, name: str) -> nn.Module | nn.Parameter:
    parent, _, last = name.rpartition(".")
    found = getattr(model.get_submodule(parent), last) if last else model
    assert isinstance(found, nn.Module | nn.Parameter)
    return found


def _loses_outputs(dependency: Any) -> bool:
    return bool(
        getattr(dependency.handler, "__name__", "").startswith("prune_out") or is_depthwise(dependency.target.module)
    )


def _remove_grouped_inputs(conv: nn.Conv1d | nn.Conv2d, indices: Sequence[int]) -> None:
    """Each group of the convolution loses inputs of its own; torch-pruning would take the first group's from all."""
    size = conv.in_channels // conv.groups
    kept = [[i for i in range(size) if part * size + i not in set(indices)] for part in range(conv.groups)]
    chosen = torch.tensor(kept, device=conv.weight.device)  # [groups, kept]

    def cut(weight: Tensor) -> Tensor:
        parts = weight.detach().view(conv.groups, -1, *weight.shape[1:])
        return torch.stack([part.index_select(1, those) for part, those in zip(parts, chosen, strict=True)]).flatten(
            0, 1
        )

    made = nn.Parameter(cut(conv.weight), conv.weight.requires_grad)
    if conv.weight.grad is not None:
        made.grad = cut(conv.weight.grad)
    conv.weight = made
    conv.in_channels -= len(indices)
