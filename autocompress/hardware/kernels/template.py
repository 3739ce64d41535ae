"""Kernels whose numbers are filled in.

A *skeleton* is all of some kernels but their integers; the integers are the dimensions of tensors and the integer
attributes, which follow from widths and ranks by ``rules``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from autocompress.hardware.kernels.kernel import Attribute, Kernel, Tensor
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


Place = int | slice


@dataclass(frozen=True)
class Blank:
    """A kernel without its integers: which of them fill each tensor's shape and each attribute that counts.

    ``own`` are the kernel's integers among those of all, places are counted from its first one.
    """

    op: str
    own: slice
    inputs: tuple[tuple[str, slice, bool], ...]
    outputs: tuple[tuple[str, slice, bool], ...]
    attributes: tuple[tuple[str, Attribute, Place | None], ...]
    _made: dict[tuple[int, ...], Kernel] = field(default_factory=dict, repr=False, compare=False)

    def filled(self, integers: tuple[int, ...]) -> Kernel:
        """The kernel with its own of these; the same one whenever they are the same."""
        own = integers[self.own]
        found = self._made.get(own)
        if found is None:
            found = self._made[own] = Kernel(
                self.op,
                tuple([Tensor(dtype, own[place], stored) for dtype, place, stored in self.inputs]),
                tuple([Tensor(dtype, own[place], stored) for dtype, place, stored in self.outputs]),
                tuple([(name, like if at is None else own[at]) for name, like, at in self.attributes]),
            )
        return found


def blanks(example: Iterable[Kernel]) -> tuple[Blank, ...]:
    """The kernels without their integers, which are looked for in the order of ``integers_of``."""
    found, end = [], 0
    for kernel in example:
        blank, count = _blank(kernel, end)
        found.append(blank)
        end += count
    return tuple(found)


def _blank(kernel: Kernel, first: int) -> tuple[Blank, int]:
    """One kernel's, and how many integers it has; ``first`` of them all is its own first."""
    end = 0

    def after(count: int) -> slice:
        nonlocal end
        end += count
        return slice(end - count, end)

    def tensors(group: Iterable[Tensor]) -> tuple[tuple[str, slice, bool], ...]:
        return tuple((t.dtype, after(len(t.shape)), t.stored) for t in group)

    def place(name: str, like: Attribute) -> Place | None:
        if not _counts(name, like):
            return None
        return after(len(like)) if isinstance(like, tuple) else after(1).start

    inputs, outputs = tensors(kernel.inputs), tensors(kernel.outputs)
    attributes = tuple((name, like, place(name, like)) for name, like in kernel.attributes)
    own = slice(first, first + end)
    return Blank(op=kernel.op, own=own, inputs=inputs, outputs=outputs, attributes=attributes), end


def filled(blank: Iterable[Blank], integers: Sequence[int]) -> tuple[Kernel, ...]:
    """Kernels with the skeleton that ``blank`` is of."""
    found = tuple(integers)
    return tuple([each.filled(found) for each in blank])


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
        return None if integers is None else filled(self._blanks, integers)

    @cached_property
    def _blanks(self) -> tuple[Blank, ...]:
        return blanks(self.example)
