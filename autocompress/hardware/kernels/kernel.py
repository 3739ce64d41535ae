"""One kernel of the runtime's optimized graph."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

Shape = tuple[int, ...]
Attribute = int | float | str | tuple[int, ...] | tuple[float, ...]
VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Constant", "Shape"}
BYTES = {
    "float": 4, "double": 8, "float16": 2, "int8": 1, "uint8": 1, "int32": 4, "int64": 8, "bool": 1, "uint32": 4,
    "int16": 2, "uint16": 2, "bfloat16": 2, "uint64": 8, "int4": 0.5, "uint4": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """What goes into a kernel or comes out: ``dtype`` by the runtime's name; ``stored``: a constant of the file."""

    dtype: str
    shape: Shape
    stored: bool = False

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @cached_property
    def bytes(self) -> float:
        """Bytes of all elements."""
        return self.size * BYTES.get(self.dtype, 4)


LEFT_OUT = Tensor("", ())


@dataclass(frozen=True)
class Kernel:
    """An operator with all that its time can depend on.

    ``op`` has the domain before it where that is not ONNX's own: ``nchwc.Conv``, ``microsoft.QLinearConv``. An optional
    input that is left out is ``LEFT_OUT``, a tensor of no type.
    """

    op: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()

    def to_data(self) -> list[object]:
        """The kernel as JSON; ``from_data`` gives an equal one back."""
        tensors = ([[t.dtype, list(t.shape), int(t.stored)] for t in group] for group in (self.inputs, self.outputs))
        return [self.op, *tensors, dict(self.attributes)]

    @classmethod
    def from_data(cls, data: Sequence[Any]) -> "Kernel":
        """The kernel that ``to_data`` wrote.

        Raises:
            ValueError: a shape that is none, or too much or too little of something else.
        """
        op, inputs, outputs, attributes = data
        return cls(
            op,
            tuple(Tensor(dtype, _shape(shape), bool(stored)) for dtype, shape, stored in inputs),
            tuple(Tensor(dtype, _shape(shape), bool(stored)) for dtype, shape, stored in outputs),
            tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in attributes.items())),
        )

    def attribute(self, name: str, default: Attribute) -> Attribute:
        """An attribute's value."""
        return self._attributes.get(name, default)

    def integer(self, name: str, default: int) -> int:
        """The value of an attribute that is one number; ``default`` where it is missing or something else."""
        value = self._attributes.get(name, default)
        return int(value) if isinstance(value, int | float) else default

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """The value of an attribute that lists numbers; ``default`` where it is missing or something else."""
        value = self._attributes.get(name, default)
        return tuple(map(int, value)) if isinstance(value, tuple) else default

    def input(self, place: int) -> Tensor:
        """An input, ``LEFT_OUT`` beyond the last."""
        return self.inputs[place] if place < len(self.inputs) else LEFT_OUT

    @cached_property
    def _attributes(self) -> dict[str, Attribute]:
        return dict(self.attributes)

    @cached_property
    def operator(self) -> str:
        """The operator without its domain."""
        return self.op.rpartition(".")[2]

    @cached_property
    def stored_bytes(self) -> float:
        """Bytes of the constants that it reads."""
        return sum(tensor.bytes for tensor in self.inputs if tensor.stored)

    @cached_property
    def moved_bytes(self) -> float:
        """Bytes of the activations that it reads and makes."""
        return sum(tensor.bytes for tensor in (*self.inputs, *self.outputs) if not tensor.stored)

    @cached_property
    def signature(self) -> str:
        """The kernel in one line; equal for equal kernels."""
        tensors = ";".join(
            ",".join(f"{'=' * t.stored}{t.dtype}:{'x'.join(map(str, t.shape))}" for t in group)
            for group in (self.inputs, self.outputs)
        )
        return f"{self.op}|{tensors}|{','.join(f'{name}={value}' for name, value in self.attributes)}"


def _shape(dims: Sequence[Any]) -> Shape:
    if not all(type(dim) is int and dim >= 0 for dim in dims):
        raise ValueError(f"a shape is of integers >= 0, got {dims}")
    return tuple(dims)


def digest(signature: str) -> str:
    """A short name for a kernel's signature."""
    return hashlib.blake2b(signature.encode(), digest_size=8).hexdigest()
