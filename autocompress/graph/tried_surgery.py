"""Whether channels can really go: surgery is tried on a copy, and compared with zeroing the same channels.

That finds what no tracer sees, such as a shortcut that pads a hard-coded number of channels.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.graph.coupling import Member, remove, zero

NORMS_OVER_CHANNELS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# Of the largest output. Sums in another order differ by 1e-15 and 1e-6 of it.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A network of the model's structure to try surgery on, and an input for it."""

    model: nn.Module
    example: Tensor

    def why_not(self, members: Sequence[Member], shrink: Callable[[nn.Module], None]) -> str:
        """Why removing what ``members`` lose would be wrong; empty when it is sound.

        ``shrink`` adjusts what else the cut model must know. Cost: two copies and two forward passes.
        """
        try:
            cut, shapes = self._cut(members, shrink)
            masked = self._masked(members, shapes)
        except Exception as error:  # whatever surgery breaks is the reason
            return f"the network does not run without channels of this group: {_first_line(error)}"
        if cut.shape != masked.shape:
            return "its channels are the model's output"
        scale = float(masked.abs().max()) + 1e-300
        if not float((cut - masked).abs().max()) <= _TOLERANCE[masked.dtype] * scale:
            return "removing its channels is not the same as zeroing them: the forward pass uses them in a way not traced"
        return ""

    def _cut(self, members: Sequence[Member], shrink: Callable[[nn.Module], None]) -> tuple[Tensor, dict[str, Any]]:
        """The output without the channels, and each norm of the group with the shape that it then normalizes."""
        model = copy.deepcopy(self.model)
        remove(model, members)
        shrink(model)
        norms: dict[str, Any] = {}

        def note(name: str) -> Callable[..., None]:
            return lambda module, inputs: norms.__setitem__(name, (module, inputs[0].shape))

        for member in members:
            module = model.get_submodule(member.name) if _is_module(model, member.name) else None
            if isinstance(module, NORMS_OVER_CHANNELS):
                module.register_forward_pre_hook(note(member.name))
        return _run(model, self.example), norms

    def _masked(self, members: Sequence[Member], norms: dict[str, Any]) -> Tensor:
        """The output with the channels at zero; norms take their means over the other channels only."""
        model = copy.deepcopy(self.model)
        zero(model, members)
        for member in members:
            if member.name in norms:
                norm, shape = norms[member.name]
                model.get_submodule(member.name).register_forward_hook(_over_the_others(norm, shape, member.indices))
        return _run(model, self.example)


def trial_of(model: nn.Module, example: Tensor) -> Trial:
    """A copy in eval mode with random weights of like size, in double precision where the network runs in it.

    Random, because a layer scale of 1e-6 or a BatchNorm that starts at zero would hide what surgery breaks; the
    model's own weights where the network makes no finite numbers of random ones.
    """
    wide = example.double() if example.is_floating_point() else example
    for lively in (True, False):
        for dtype, x in ((torch.float64, wide), (torch.float32, example)):
            tried = copy.deepcopy(model).eval().to(dtype)
            tried.requires_grad_(False)
            if lively:
                _enliven(tried)
            try:
                if bool(_run(tried, x).isfinite().all()):
                    return Trial(model=tried.requires_grad_(True), example=x)
            except RuntimeError:
                continue  # a layer that insists on single precision
    return Trial(model=copy.deepcopy(model).eval(), example=example)


def _enliven(model: nn.Module) -> None:
    """Weights whose outputs are of the size of their inputs, gains near one, biases that are not zero."""
    generator = torch.Generator().manual_seed(0)

    def fill(tensor: Tensor, made: Tensor) -> None:
        tensor.copy_(made.to(tensor))

    for parameter in model.parameters():
        if parameter.dim() > 1:
            fan = parameter.numel() / len(parameter)
            fill(parameter, torch.randn(parameter.shape, generator=generator) / math.sqrt(fan))
        elif parameter.is_floating_point():
            fill(parameter, torch.rand(parameter.shape, generator=generator) + 0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            fill(module.running_mean, torch.randn(module.num_features, generator=generator) * 0.2)
            fill(module.running_var, torch.rand(module.num_features, generator=generator) + 0.5)


def _over_the_others(norm: nn.Module, shape: torch.Size, zeroed: Sequence[int]) -> Callable[..., Tensor]:
    """A hook that puts ``norm`` of the kept channels in their places, and zero in the others'."""

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        x = inputs[0]
        dim = next(place for place, (a, b) in enumerate(zip(x.shape, shape, strict=True)) if a != b)
        kept = torch.tensor(sorted(set(range(x.shape[dim])) - set(zeroed)))
        return torch.zeros_like(x).index_copy(dim, kept, norm(x.index_select(dim, kept)))

    return hook


@torch.no_grad()
def _run(model: nn.Module, x: Tensor) -> Tensor:
    out = model(x)
    assert isinstance(out, Tensor)
    return out


def _is_module(model: nn.Module, name: str) -> bool:
    parent, _, last = name.rpartition(".")
    return last in dict(model.get_submodule(parent).named_children())


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__
