"""What every way to factorize a layer offers, and the parts that they share."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Ranks = tuple[int, ...]
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Form:
    """A chain of thin layers in the place of one layer.

    ``takes`` says why a plain layer has no such chain; empty when it has one. ``most`` gives the largest value of each
    rank. ``empty`` makes the chain with weights of zero: what it costs is known before anything is decomposed. ``fill``
    gives it the weights that stand for the layer, and returns words on how near they come (may be empty).
    """

    takes: Callable[[nn.Module], str]
    most: Callable[[nn.Module], Ranks]
    empty: Callable[[nn.Module, Ranks], nn.Sequential]
    fill: Callable[[nn.Sequential, nn.Module, Ranks], str]

    def make(self, layer: nn.Module, *ranks: int) -> nn.Sequential:
        """The filled chain.

        Raises:
            ValueError: the layer has no such chain, or a rank lies outside its range.
        """
        if reason := self.takes(layer):
            raise ValueError(f"no factors: {reason}")
        chain = self.empty(layer, ranks)
        self.fill(chain, layer, ranks)
        return chain


def chain_of(layer: nn.Module, **parts: nn.Module) -> nn.Sequential:
    """Named thin layers in a row, with the device, number format and mode of ``layer``."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return nn.Sequential(OrderedDict(parts)).to(weight.device, weight.dtype).train(layer.training)


def zero_linear(n_in: int, n_out: int, *, bias: bool = False) -> nn.Linear:
    """A linear layer of zeros; draws no random numbers."""
    return _zero(nn.Linear(n_in, n_out, bias=bias, device="meta"))


def zero_conv(c_in: int, c_out: int, kernel_size: int | tuple[int, ...] = 1, **settings: Any) -> nn.Conv2d:
    """A 2-d convolution of zeros, without bias unless asked for; draws no random numbers."""
    return _zero(nn.Conv2d(c_in, c_out, kernel_size, device="meta", **{"bias": False} | settings))  # type: ignore[arg-type]


def zero_conv1d(c_in: int, c_out: int, kernel_size: int | tuple[int, ...] = 1, **settings: Any) -> nn.Conv1d:
    """A 1-d convolution of zeros, without bias unless asked for; draws no random numbers."""
    return _zero(nn.Conv1d(c_in, c_out, kernel_size, device="meta", **{"bias": False} | settings))  # type: ignore[arg-type]


@torch.no_grad()
def fill(chain: nn.Sequential, layer: nn.Module, **weights: Tensor) -> None:
    """Copy ``weights`` into the parts of those names, and the bias of ``layer`` into the last part."""
    for name, weight in weights.items():
        part = chain.get_submodule(name).weight
        assert isinstance(part, Tensor)
        part.copy_(weight.reshape(part.shape))
    bias, last = layer.bias, chain[-1].bias
    if isinstance(bias, Tensor) and isinstance(last, Tensor):
        last.copy_(bias)


def takes_kernels(layer: nn.Module) -> str:
    """Why a layer cannot be split along its kernel's axes: it must be an ungrouped 2-d convolution wider than 1×1."""
    if not isinstance(layer, nn.Conv2d):
        return f"a {type(layer).__name__} has no 2-d kernel; svd factorizes it"
    if layer.groups != 1:
        return "it is a grouped convolution"
    if max(layer.kernel_size) == 1:
        return "its kernel is 1×1; svd factorizes it"
    return ""


def down(layer: nn.Conv2d) -> dict[str, Any]:
    """The settings of ``layer`` for a part that filters its columns alone: kernel ``(k_h, 1)``."""
    return _along_one_axis(layer, axis=0)


def along(layer: nn.Conv2d) -> dict[str, Any]:
    """The settings of ``layer`` for a part that filters its rows alone: kernel ``(1, k_w)``."""
    return _along_one_axis(layer, axis=1)


def _along_one_axis(layer: nn.Conv2d, axis: int) -> dict[str, Any]:
    def only(values: tuple[int, ...], other: int) -> tuple[int, int]:
        return (values[0], other) if axis == 0 else (other, values[1])

    return {
        "kernel_size": only(layer.kernel_size, 1),
        "stride": only(layer.stride, 1),
        "padding": layer.padding if isinstance(layer.padding, str) else only(layer.padding, 0),
        "dilation": only(layer.dilation, 1),
        "padding_mode": layer.padding_mode,
    }


def whole_window(layer: nn.Conv1d | nn.Conv2d) -> dict[str, Any]:
    """The settings of ``layer`` for a part that keeps its whole kernel."""
    return {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "padding_mode": layer.padding_mode,
    }


def _zero(module: M) -> M:
    module.to_empty(device="cpu")
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
