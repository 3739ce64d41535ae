"""One node of a file as the operators see it: what it does, its constants, and where its inputs carry the batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autocompress.errors import ModelError

Shape = tuple[int, ...]
Function = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Node:
    """What is known of a node before it runs; ``constants``, ``shapes`` and ``batch_axes`` go by input.

    ``shapes`` are those at the file's own batch. An input whose size does not follow the batch has the batch axis None.
    """

    op: str
    name: str
    attributes: dict[str, Any]
    constants: tuple[NDArray[Any] | None, ...]
    shapes: tuple[Shape | None, ...]
    batch_axes: tuple[int | None, ...]
    batch: int
    n_outputs: int

    def get(self, attribute: str, default: Any) -> Any:
        """The attribute, else ONNX's default for it."""
        return self.attributes.get(attribute, default)

    def constant(self, place: int) -> NDArray[Any] | None:
        """The value of an input that never changes; None where the input is left out."""
        return self.constants[place] if place < len(self.constants) else None

    def shape(self, place: int = 0) -> Shape:
        """The input's shape at the file's batch."""
        found = self.shapes[place]
        assert found is not None
        return found

    def axis(self, default: int = 0) -> int:
        """The attribute ``axis``, counted from the front."""
        axis = int(self.get("axis", default))
        return axis % len(self.shape())

    def axes(self, place: int) -> list[int] | None:
        """Axes given as an input (new files) or as an attribute (old ones), as they are written."""
        given = self.constant(place)
        listed = self.get("axes", None) if given is None else given
        return None if listed is None else [int(axis) for axis in np.atleast_1d(listed)]

    def refuse(self, what: str) -> ModelError:
        """The error that says which node cannot be trained and why."""
        return ModelError(f"node {self.name!r} ({self.op}) cannot be trained: {what}; keep this layer out of training")

    def require(self, attribute: str, allowed: tuple[Any, ...]) -> None:
        """Raise a ModelError where the attribute has a value that torch does not compute."""
        value = self.get(attribute, allowed[0])
        if value not in allowed:
            raise self.refuse(f"{attribute} must be one of {allowed}, got {value!r}")
