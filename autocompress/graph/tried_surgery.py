"""Whether channels can really go: surgery is tried on a copy, and compared with zeroing the same channels.

That finds what no tracer sees, such as a shortcut that pads a hard-coded number of channels.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.graph.coupling import Member, remove, zeroed_members

NORMS_OVER_CHANNELS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# How far two outputs may lie apart, of the largest: sums in another order differ by about 1e-6 and 1e-15 of it.
_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
Shrink = Callable[[nn.Module], None]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A network of the model's structure to try surgery on, and an input for it."""

    model: nn.Module
    example: Tensor

    def why_not(self, members: Sequence[Member], shrink: Shrink) -> str:
        """Why removing what ``members`` lose would be wrong; empty when it is sound.

        ``shrink`` adjusts what else the cut model must know. Cost: a copy of the model and two forward passes; more, in
        double precision, where single precision finds a difference.
        """
        try:
            outputs = self._outputs(members, shrink, torch.float32)
        except Exception as error:  # whatever surgery breaks is the reason
            return f"the network does not run without channels of this group: {first_line(error)}"
        if outputs[0].shape != outputs[1].shape:
            return "its channels are the model's output"
        if _equal(*outputs) or self._equal_in_double(members, shrink):
            return ""
        return "removing its channels is not the same as zeroing them: the forward pass uses them in a way not traced"

    def _equal_in_double(self, members: Sequence[Member], shrink: Shrink) -> bool:
        try:
            return _equal(*self._outputs(members, shrink, torch.float64))
        except RuntimeError:  # a layer that insists on single precision
            return False

    def _outputs(self, members: Sequence[Member], shrink: Shrink, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Without the channels, and with the channels at zero."""
        double = dtype is torch.float64
        x = self.example.to(dtype) if self.example.is_floating_point() else self.example
        cut = copy.deepcopy(self.model).to(dtype)
        masked = copy.deepcopy(self.model).to(dtype) if double else self.model  # copies of modules are slow
        remove(cut, members)
        shrink(cut)
        norms = {member.name: member.indices for member in members if _is_norm(cut, member.name)}
        hooks = [
            masked.get_submodule(name).register_forward_hook(_over_the_others(cut.get_submodule(name), zeroed))
            for name, zeroed in norms.items()
        ]
        try:
            with zeroed_members(masked, members):
                return _run(cut, x), _run(masked, x)
        finally:
            for handle in hooks:
                handle.remove()


def trial_of(model: nn.Module, example: Tensor) -> Trial:
    """A copy in eval mode with random weights of like size.

    Random, because a layer scale of 1e-6 or a BatchNorm that starts at zero would hide what surgery breaks; the
    model's own weights where the network makes no finite numbers of random ones.
    """
    tried = copy.deepcopy(model).eval()
    with torch.no_grad():
        _enliven(tried)
    if bool(_run(tried, example).isfinite().all()):
        return Trial(model=tried, example=example)
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


def _over_the_others(norm: nn.Module, zeroed: Sequence[int]) -> Callable[..., Tensor]:
    """A hook that puts ``norm`` (the cut network's) of the kept channels in their places, and zero in the others'.

    The cut network must run first, so that the shapes tell where the channels are.
    """
    shapes: list[torch.Size] = []
    norm.register_forward_pre_hook(lambda _module, inputs: shapes.append(inputs[0].shape))

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        x = inputs[0]
        dim = next(place for place, (a, b) in enumerate(zip(x.shape, shapes[0], strict=True)) if a != b)
        kept = torch.tensor(sorted(set(range(x.shape[dim])) - set(zeroed)))
        return torch.zeros_like(x).index_copy(dim, kept, norm(x.index_select(dim, kept)))

    return hook


def _equal(one: Tensor, other: Tensor) -> bool:
    """Never true of what is not a number."""
    return bool((one - other).abs().max() <= _TOLERANCE[other.dtype] * other.abs().max())


@torch.no_grad()
def _run(model: nn.Module, x: Tensor) -> Tensor:
    out = model(x)
    assert isinstance(out, Tensor)
    return out


def _is_norm(model: nn.Module, name: str) -> bool:
    parent, _, last = name.rpartition(".")
    return isinstance(getattr(model.get_submodule(parent), last), NORMS_OVER_CHANNELS)


def first_line(error: Exception) -> str:
    """What kind of error, and the start of what it says."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__
