"""Kernels whose numbers are filled in.

A *skeleton* is all of some kernels but their integers; the integers are the dimensions of tensors and the integer
attributes, which follow from widths and ranks by ``rules``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autocompress.hardware.kernels.kernel import Attribute, Kernel, Shape, Tensor
from autocompress.hardware.kernels.rules import Rules, Symbols

Skeleton = tuple[tuple[object, ...], ...]
_ORDERS = {"axes", "axis", "perm"}  # integers that count nothing: where they differ, the graph is another


def skeleton_of(kernels: Iterable[Kernel]) -> Skeleton:
    """What of kernels does not count: operators, types, which tensors are stored, attributes that are no integers."""
    return tuple(
        (
            kernel.op,
            *(tuple((t.dtype, len(t.shape), t.stored) for t in group) for group in (kernel.inputs, kernel.outputs)),
            tuple((name, _kind(name, value)) for name, value in kernel.attributes),
        )
        for kernel in kernels
    )


def integers_of(kernels: Iterable[Kernel]) -> tuple[int, ...]:
    """The integers that a skeleton leaves out, in a fixed order."""
    found: list[int] = []
    for kernel in kernels:
        for tensor in (*kernel.inputs, *kernel.outputs):
            found += tensor.shape
        for name, value in kernel.attributes:
            if _counts(name, value):
                found += (value,) if isinstance(value, int) else value  # type: ignore[arg-type]
    return tuple(found)


def filled(example: Sequence[Kernel], integers: Sequence[int]) -> tuple[Kernel, ...]:
    """Kernels with the skeleton of ``example`` and other integers."""
    rest = iter(integers)

    def shape(like: Shape) -> Shape:
        return tuple(next(rest) for _ in like)

    def attribute(name: str, like: Attribute) -> Attribute:
        if not _counts(name, like):
            return like
        return next(rest) if isinstance(like, int) else tuple(next(rest) for _ in like)  # type: ignore[union-attr]

    return tuple(
        Kernel(
            kernel.op,
            tuple(Tensor(t.dtype, shape(t.shape), t.stored) for t in kernel.inputs),
            tuple(Tensor(t.dtype, shape(t.shape), t.stored) for t in kernel.outputs),
            tuple((name, attribute(name, value)) for name, value in kernel.attributes),
        )
        for kernel in example
    )


def _counts(name: str, value: Attribute) -> bool:
    if name in _ORDERS:
        return False
    return isinstance(value, int) or (isinstance(value, tuple) and all(isinstance(item, int) for item in value))


def _kind(name: str, value: Attribute) -> object:
    if not _counts(name, value):
        return value
    return int if isinstance(value, int) else (int, len(value))  # type: ignore[arg-type]


@dataclass
class Template:
    """Some kernels of one skeleton with the rules of their integers, learned from samples."""

    rules: Rules
    example: tuple[Kernel, ...]

    def learn(self, symbols: Symbols, kernels: Sequence[Kernel]) -> None:
        """Take in a sample."""
        self.rules.learn(symbols, integers_of(kernels))

    def kernels(self, symbols: Symbols) -> tuple[Kernel, ...] | None:
        """The kernels for ``symbols``, where all integers are known."""
        integers = self.rules.integers(symbols)
        return None if integers is None else filled(self.example, integers)
