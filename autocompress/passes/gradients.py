"""Gradients of the training loss, for criteria that rank by them."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from autocompress.errors import RecipeError
from autocompress.passes.base import PassContext


@contextmanager
def gradients(model: nn.Module, context: PassContext, where: str) -> Iterator[None]:
    """Every parameter of ``model`` has its gradient, summed over the context's losses, for as long as the block lasts.

    Raises:
        RecipeError: there is no training data; ``where`` names the setting.
    """
    if context.losses is None:
        raise RecipeError(f"{where} taylor needs training data; use another criterion where there is none")
    model.zero_grad(set_to_none=True)
    try:
        for loss in context.losses(model):
            loss.backward()  # type: ignore[no-untyped-call]
        yield
    finally:
        model.zero_grad(set_to_none=True)
