"""What integers follow from: simple rules on widths and ranks, those that no sample has contradicted.

Of all simple rules those are kept that hold for every sample. Where the rules that are left disagree about an integer,
it is not known.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from operator import itemgetter

Symbols = Sequence[int]
Value = Callable[[Symbols], int | None]


@dataclass(frozen=True)
class Rule:
    """An integer as ``up / down`` times the sum of symbols, rounded up to a multiple of ``block``, plus a constant.

    What lies below ``least`` is not rounded: the runtime pads the inputs of a convolution from one block on.
    """

    symbols: tuple[int, ...] = ()
    up: int = 1
    down: int = 1
    block: int = 1
    plus: int = 0
    least: int = 0

    def value(self, symbols: Symbols) -> int | None:
        """None where it is no integer."""
        total = 0
        for index in self.symbols:
            total += symbols[index]
        total, rest = divmod(total * self.up, self.down)
        if rest:
            return None
        return (total if total < self.least else -(-total // self.block) * self.block) + self.plus

    @cached_property
    def quick(self) -> Value:
        """``value``; faster for constants and for multiples of one symbol, which most rules are."""
        if not self.symbols:
            return lambda _: self.plus
        if self.down > 1 or len(self.symbols) > 1:
            return self.value
        (at,), up, block, plus, least = self.symbols, self.up, self.block, self.plus, self.least
        if block > 1:
            return lambda s: (s[at] * up if s[at] * up < least else -(-s[at] * up // block) * block) + plus
        return itemgetter(at) if (up, plus) == (1, 0) else lambda s: s[at] * up + plus


@dataclass(frozen=True, kw_only=True)
class Language:
    """The rules that are considered: which symbols, multiplied by what, rounded up to which block."""

    symbols: tuple[int, ...]
    factors: tuple[Fraction, ...] = (Fraction(1),)
    block: int = 16

    def simple(self) -> Iterable[Rule]:
        """Multiples of one symbol, and one symbol rounded up."""
        for index in self.symbols:
            yield from (Rule((index,), factor.numerator, factor.denominator) for factor in self.factors)
            if self.block == 1:
                continue
            yield Rule(symbols=(index,), block=self.block)
            yield Rule(symbols=(index,), block=self.block, least=self.block)

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
                    yield Rule((index,), factor.numerator, factor.denominator, plus=int(plus))


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
        for name in ("used", "_different"):
            self.__dict__.pop(name, None)
        if len(self.samples) == 1:
            self.rules = self._first(symbols, integers)
            return
        self.rules = [
            [rule for rule in rules if rule.value(symbols) == value] or self._again(place)
            for place, (rules, value) in enumerate(zip(self.rules, integers, strict=True))
        ]

    @cached_property
    def used(self) -> tuple[int, ...]:
        """The symbols that any rule names."""
        return tuple(sorted({i for rules in self.rules for rule in rules for i in rule.symbols}))

    @cached_property
    def _different(self) -> tuple[list[list[Value]], Callable[[Sequence[int]], tuple[int, ...]]]:
        """Many integers have the same rules: the different ones, and what gives each integer the value of its own."""
        place: dict[tuple[Rule, ...], int] = {}
        which = [place.setdefault(tuple(rules), len(place)) for rules in self.rules]
        values = [[rule.quick for rule in rules] for rules in place]
        if len(which) > 1:
            return values, itemgetter(*which)
        return values, lambda values: tuple(values[at] for at in which)

    def integers(self, symbols: Symbols) -> tuple[int, ...] | None:
        """The integers for ``symbols``; None where one of them has no rule, or rules that disagree."""
        different, of_each = self._different
        found: list[int] = []
        for rules in different:
            values = {rule(symbols) for rule in rules}
            value = values.pop() if len(values) == 1 else None
            if value is None:
                return None
            found.append(value)
        return of_each(found)

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
