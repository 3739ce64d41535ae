"""Finding and replacing modules by name."""

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def modules_of(model: nn.Module, kind: type[M] | tuple[type[M], ...]) -> Iterator[tuple[str, M]]:
    """Name and module of every module of ``kind``, in definition order."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, kind))


def replace_module(model: nn.Module, name: str, replacement: nn.Module) -> None:
    """Put ``replacement`` where ``name`` was, in place."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, replacement)


def example_input(
    model_input_shape: tuple[int, ...], dtype: str = "float32", batch: int = 1, seed: int = 0
) -> torch.Tensor:
    """A batch of the shape that the model takes: normal noise for floats, small whole numbers for integers."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *model_input_shape)
    if dtype.startswith("float"):
        return torch.randn(shape, generator=generator)
    return torch.randint(0, 2, shape, generator=generator, dtype=getattr(torch, dtype))
