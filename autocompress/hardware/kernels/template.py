"""Kernels whose numbers are filled in: what stays the same of them, and what each number may follow from.

A *skeleton* is all of some kernels but their integers; the integers are the dimensions of tensors and the integer
attributes. Each is explained by *rules* on symbols (widths, ranks): of all simple rules, those that no sample has
contradicted. Where the rules that are left disagree, the number is not known.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations

from autocompress.hardware.kernels.kernel import Attribute, Kernel, Shape, Tensor

Skeleton = tuple[tuple[object, ...], ...]
Symbols = Sequence[int]


def skeleton_of(kernels: Iterable[Kernel]) -> Skeleton:
    """What of kernels does not count: operators, types, which tensors are stored, attributes that are no integers."""
    return tuple(
        (
            kernel.op,
            *(tuple((t.dtype, len(t.shape), t.stored) for t in group) for group in (kernel.inputs, kernel.outputs)),
            tuple((name, _kind(value)) for name, value in kernel.attributes),
        )
        for kernel in kernels
    )


def integers_of(kernels: Iterable[Kernel]) -> tuple[int, ...]:
    """The integers that a skeleton leaves out, in a fixed order."""
    found: list[int] = []
    for kernel in kernels:
        for tensor in (*kernel.inputs, *kernel.outputs):
            found += tensor.shape
        for _, value in kernel.attributes:
            if isinstance(value, int):
                found.append(value)
            elif _counts(value):
                found += [int(item) for item in value]  # type: ignore[union-attr]
    return tuple(found)


def filled(example: Sequence[Kernel], integers: Sequence[int]) -> tuple[Kernel, ...]:
    """Kernels with the skeleton of ``example`` and other integers."""
    rest = iter(integers)

    def shape(like: Shape) -> Shape:
        return tuple(next(rest) for _ in like)

    def attribute(like: Attribute) -> Attribute:
        if isinstance(like, int):
            return next(rest)
        return tuple(next(rest) for _ in like) if _counts(like) else like  # type: ignore[union-attr]

    return tuple(
        Kernel(
            kernel.op,
            tuple(Tensor(t.dtype, shape(t.shape), t.stored) for t in kernel.inputs),
            tuple(Tensor(t.dtype, shape(t.shape), t.stored) for t in kernel.outputs),
            tuple((name, attribute(value)) for name, value in kernel.attributes),
        )
        for kernel in example
    )


def _counts(value: Attribute) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, int) for item in value)


def _kind(value: Attribute) -> object:
    if isinstance(value, int):
        return int
    return (int, len(value)) if _counts(value) else value  # type: ignore[arg-type]


@dataclass(frozen=True)
class Rule:
    """An integer as ``times`` the sum of symbols, rounded up to a multiple of ``block``, and ``plus`` a constant."""

    symbols: tuple[int, ...] = ()
    times: Fraction = Fraction(1)
    block: int = 1
    plus: int = 0

    def value(self, symbols: Symbols) -> int | None:
        """None where it is no integer."""
        total = self.times * sum(symbols[index] for index in self.symbols)
        if total.denominator != 1:
            return None
        return math.ceil(int(total) / self.block) * self.block + self.plus


@dataclass(frozen=True, kw_only=True)
class Language:
    """The rules that are considered: which symbols, multiplied by what, rounded up to which block."""

    symbols: tuple[int, ...]
    factors: tuple[Fraction, ...] = (Fraction(1),)
    block: int = 16

    def simple(self) -> Iterable[Rule]:
        """Multiples of one symbol, and one symbol rounded up."""
        for index in self.symbols:
            yield from (Rule(symbols=(index,), times=factor) for factor in self.factors)
            yield Rule(symbols=(index,), block=self.block)

    def richer(self, symbols: Symbols, value: int) -> Iterable[Rule]:
        """Sums of up to three symbols, and one symbol with a constant, that give ``value``: joined tensors."""
        for count in (2, 3):
            for some in combinations(self.symbols, count):
                if sum(symbols[index] for index in some) == value:
                    yield Rule(symbols=some)
        for index in self.symbols:
            for factor in self.factors:
                plus = value - factor * symbols[index]
                if plus.denominator == 1:
                    yield Rule(symbols=(index,), times=factor, plus=int(plus))


@dataclass
class Template:
    """Some kernels of one skeleton with what their integers follow from, learned from samples."""

    language: Language
    example: tuple[Kernel, ...]
    samples: list[tuple[Symbols, tuple[int, ...]]] = field(default_factory=list)
    rules: list[list[Rule]] = field(default_factory=list)
    used: tuple[int, ...] = ()

    def learn(self, symbols: Symbols, kernels: Sequence[Kernel]) -> None:
        """Take away the rules that a sample contradicts."""
        integers = integers_of(kernels)
        if (tuple(symbols), integers) in self.samples:
            return
        self.samples.append((tuple(symbols), integers))
        if len(self.samples) == 1:
            self.rules = self._first(symbols, integers)
        else:
            self.rules = [
                [rule for rule in rules if rule.value(symbols) == value] or self._again(place)
                for place, (rules, value) in enumerate(zip(self.rules, integers, strict=True))
            ]
        self.used = tuple(sorted({i for rules in self.rules for rule in rules for i in rule.symbols}))

    def integers(self, symbols: Symbols) -> tuple[int, ...] | None:
        """The integers for ``symbols``; None where one of them has no rule, or rules that disagree."""
        found = []
        for rules in self.rules:
            values = {rule.value(symbols) for rule in rules}
            if len(values) != 1:
                return None
            found.append(values.pop())
        return tuple(found)  # type: ignore[arg-type]

    def kernels(self, symbols: Symbols) -> tuple[Kernel, ...] | None:
        """The kernels for ``symbols``, where all integers are known."""
        integers = self.integers(symbols)
        return None if integers is None else filled(self.example, integers)

    def _first(self, symbols: Symbols, integers: Sequence[int]) -> list[list[Rule]]:
        by_value: dict[int | None, list[Rule]] = {}
        for rule in self.language.simple():
            by_value.setdefault(rule.value(symbols), []).append(rule)
        return [[Rule(plus=value), *by_value.get(value, ())] for value in integers]

    def _again(self, place: int) -> list[Rule]:
        """Rules of more than one symbol, for an integer that none of the simple ones explains."""
        first_symbols, first = self.samples[0]
        return [
            rule
            for rule in self.language.richer(first_symbols, first[place])
            if all(rule.value(symbols) == integers[place] for symbols, integers in self.samples)
        ]


