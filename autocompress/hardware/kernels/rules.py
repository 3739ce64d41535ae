"""What integers follow from: simple rules on widths and ranks, those that no sample has contradicted.

Of all simple rules those are kept that hold for every sample. Where the rules that are left disagree about an integer,
it is not known.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations

Symbols = Sequence[int]


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
class Rules:
    """A fixed number of integers, each with the rules that may explain it."""

    language: Language
    samples: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    rules: list[list[Rule]] = field(default_factory=list)

    def learn(self, symbols: Symbols, integers: tuple[int, ...]) -> None:
        """Take away the rules that a sample contradicts."""
        sample = (tuple(symbols), integers)
        if sample in self.samples:
            return
        self.samples.append(sample)
        if len(self.samples) == 1:
            self.rules = self._first(symbols, integers)
            return
        self.rules = [
            [rule for rule in rules if rule.value(symbols) == value] or self._again(place)
            for place, (rules, value) in enumerate(zip(self.rules, integers, strict=True))
        ]

    @property
    def used(self) -> tuple[int, ...]:
        """The symbols that any rule names."""
        return tuple(sorted({i for rules in self.rules for rule in rules for i in rule.symbols}))

    def integers(self, symbols: Symbols) -> tuple[int, ...] | None:
        """The integers for ``symbols``; None where one of them has no rule, or rules that disagree."""
        found = []
        for rules in self.rules:
            values = {rule.value(symbols) for rule in rules}
            value = values.pop() if len(values) == 1 else None
            if value is None:
                return None
            found.append(value)
        return tuple(found)

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
