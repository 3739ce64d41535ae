"""Budgets: what a returned model must not exceed, in deployment units.

::

    budget  = limit {"," limit}
    limit   = metric op amount
    op      = "<=" | "=" | ">="          "=" reads as "<=", and as ">=" for accuracy
    amount  = number unit | number "%"   "%" is relative to the baseline

``accuracy_drop<=1%`` is a drop of at most one percentage point (0.01) of the metric.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, ValidationError, field_serializer, model_validator

from autocompress.errors import BudgetError, near
from autocompress.facts import Facts
from autocompress.measurement import ModelFacts
from autocompress.units import Kind, exact_quantity, parse_quantity

EXAMPLE = "latency<=5ms,size<=50%,accuracy_drop<=1%"
PREDICTED = "predicted, the upper end of its interval"


class Metric(StrEnum):
    """What can be limited."""

    LATENCY = "latency"
    SIZE = "size"
    RAM = "ram"
    MACS = "macs"
    PARAMS = "params"
    ENERGY = "energy"
    ACCURACY = "accuracy"
    ACCURACY_DROP = "accuracy_drop"

    @property
    def kind(self) -> Kind:
        """The quantity it is counted in."""
        return _KINDS[self]

    @property
    def is_floor(self) -> bool:
        """Whether more is better."""
        return self is Metric.ACCURACY

    @property
    def is_cost(self) -> bool:
        """Whether it is known before any training."""
        return self not in (Metric.ACCURACY, Metric.ACCURACY_DROP)

    def of(self, facts: ModelFacts) -> float | None:
        """The value of a cost metric in ``facts``.

        A latency that was not measured counts with the upper end of what was predicted.
        """
        field = _FIELDS.get(self)
        value = getattr(facts, field) if field else None
        if value is None and self is Metric.LATENCY and facts.latency_predicted_interval_ms is not None:
            value = facts.latency_predicted_interval_ms[1]
        return None if value is None else float(value)


_KINDS = {
    Metric.LATENCY: Kind.TIME,
    Metric.SIZE: Kind.BYTES,
    Metric.RAM: Kind.BYTES,
    Metric.MACS: Kind.COUNT,
    Metric.PARAMS: Kind.COUNT,
    Metric.ENERGY: Kind.ENERGY,
    Metric.ACCURACY: Kind.FRACTION,
    Metric.ACCURACY_DROP: Kind.FRACTION,
}
_FIELDS = {
    Metric.LATENCY: "latency_ms",
    Metric.SIZE: "size_bytes",
    Metric.RAM: "peak_ram_bytes",
    Metric.MACS: "macs",
    Metric.PARAMS: "params",
}
_LIMIT = re.compile(r"\s*([a-z_]*)\s*(<=|>=|==|=|<|>)\s*(.*?)\s*", re.IGNORECASE)


class Limit(Facts):
    """One row of a budget: ``amount`` in the metric's unit, or a share of the baseline's value."""

    metric: Metric
    amount: float = Field(gt=0)
    relative: bool = False

    def resolve(self, baseline: ModelFacts) -> float:
        """The limit in the metric's own unit.

        Raises:
            BudgetError: relative to a value that the baseline does not have.
        """
        if not self.relative:
            return self.amount
        base = baseline.accuracy_val if self.metric is Metric.ACCURACY else self.metric.of(baseline)
        if base is None:
            raise BudgetError(f"{self} is relative to the baseline, whose {self.metric} is not known; give it in units")
        return self.amount * base

    def __str__(self) -> str:
        op = ">=" if self.metric.is_floor else "<="
        if self.relative or self.metric is Metric.ACCURACY_DROP:
            # Decimal, because a hundredth of a float is seldom the float that was written
            return f"{self.metric}{op}{Decimal(repr(self.amount)).scaleb(2).normalize():f}%"
        return f"{self.metric}{op}{exact_quantity(self.amount, self.metric.kind)}"


class BudgetRow(Facts):
    """One limit beside the value that one model has; ``met`` is None when there is no value."""

    metric: Metric
    limit: float
    value: float | None
    met: bool | None
    text: str = Field(description="the limit as it was asked for")
    note: str = Field("", description="where the value comes from")


class Budget(Facts):
    """All limits that a model must meet at once.

    ``Budget(latency="5ms", size="50%")`` and ``Budget.parse("latency<=5ms,size<=50%")`` are the same budget.

    Raises:
        BudgetError: a limit that cannot be read, that nothing can meet, or two that contradict each other.
    """

    limits: tuple[Limit, ...]

    def __init__(self, limits: Any = None, **metrics: str | float) -> None:
        """Either ``limits``, or one keyword a metric with its amount as text (``latency="5ms"``) or number."""
        given = () if limits is None else tuple(limits)
        fields = {"limits": given + tuple(_keyword_limit(name, amount) for name, amount in metrics.items())}
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise BudgetError(f"a budget looks like {EXAMPLE!r}; {error.errors()[0]['msg']}") from error

    @classmethod
    def parse(cls, text: "str | Budget | Mapping[str, str | float]") -> "Budget":
        """The budget in ``text``; a mapping of metric to amount, or a budget, is taken too.

        Raises:
            BudgetError: with the rule, the piece that broke it and an example.
        """
        if isinstance(text, Budget):
            return text
        if isinstance(text, Mapping):
            return cls(**text)
        pieces = [piece for piece in text.split(",") if piece.strip()]
        return cls(limits=tuple(_parse_limit(piece.strip()) for piece in pieces))

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if not self.limits:
            raise BudgetError(f"a budget needs at least one limit, for example {EXAMPLE!r}")
        seen: dict[Metric, Limit] = {}
        for limit in self.limits:
            if limit.metric in seen:
                raise BudgetError(
                    f"a budget limits each metric once, got {seen[limit.metric]} and {limit}; keep the one you mean"
                )
            seen[limit.metric] = limit
            if limit.metric in (Metric.ACCURACY, Metric.ACCURACY_DROP) and limit.amount > 1:
                raise BudgetError(
                    f"{limit.metric} lies between 0 and 1 (or 0% and 100%), got {limit.amount:g}; "
                    f"write for example accuracy>=0.9 or accuracy_drop<=1%"
                )
        return self

    @field_serializer("limits")
    def _as_text(self, limits: tuple[Limit, ...]) -> list[dict[str, Any]]:
        return [limit.model_dump(mode="json") for limit in limits]

    def __str__(self) -> str:
        return ",".join(str(limit) for limit in self.limits)

    @property
    def costs(self) -> tuple[Limit, ...]:
        """The limits that are known before training."""
        return tuple(limit for limit in self.limits if limit.metric.is_cost)

    @property
    def has_accuracy_floor(self) -> bool:
        """Whether a limit asks for accuracy."""
        return len(self.costs) < len(self.limits)

    def cost_rows(self, facts: ModelFacts, baseline: ModelFacts) -> tuple[BudgetRow, ...]:
        """The rows that need no accuracy, for one model."""
        return tuple(self._cost_row(limit, facts, baseline) for limit in self.costs)

    def rows(self, facts: ModelFacts, baseline: ModelFacts, split: str) -> tuple[BudgetRow, ...]:
        """Every row for one model; ``split`` (``val`` or ``test``) says which accuracy counts."""
        return tuple(
            self._cost_row(limit, facts, baseline)
            if limit.metric.is_cost
            else _accuracy_row(limit, facts, baseline, split)
            for limit in self.limits
        )

    def violation(self, facts: ModelFacts, baseline: ModelFacts) -> dict[Metric, float]:
        """Per cost limit, value / limit - 1: at most 0 where it is met, infinite where the value is unknown."""
        return {
            row.metric: float("inf") if row.value is None else row.value / row.limit - 1
            for row in self.cost_rows(facts, baseline)
        }

    def _cost_row(self, limit: Limit, facts: ModelFacts, baseline: ModelFacts) -> BudgetRow:
        bound, value = limit.resolve(baseline), limit.metric.of(facts)
        met = None if value is None else value <= bound
        predicted = value is not None and limit.metric is Metric.LATENCY and facts.latency_ms is None
        note = PREDICTED if predicted else ""
        return BudgetRow(metric=limit.metric, limit=bound, value=value, met=met, text=str(limit), note=note)


def _accuracy_row(limit: Limit, facts: ModelFacts, baseline: ModelFacts, split: str) -> BudgetRow:
    value: float | None = getattr(facts, f"accuracy_{split}")
    base: float | None = getattr(baseline, f"accuracy_{split}")
    if limit.metric is Metric.ACCURACY:
        bound = limit.amount * base if limit.relative and base is not None else limit.amount
        met = None if value is None else value >= bound
        return BudgetRow(metric=limit.metric, limit=bound, value=value, met=met, text=str(limit), note=f"{split} split")
    drop = None if value is None or base is None else base - value
    met = None if drop is None else drop <= limit.amount + 1e-12
    return BudgetRow(
        metric=limit.metric,
        limit=limit.amount,
        value=drop,
        met=met,
        text=str(limit),
        note=f"{split} split, baseline minus this",
    )


def _parse_limit(piece: str) -> Limit:
    match = _LIMIT.fullmatch(piece)
    if match is None:
        raise BudgetError(f"a limit is METRIC<=AMOUNT, got {piece!r}; for example {EXAMPLE!r}")
    name, op, amount = match.group(1), match.group(2), match.group(3)
    metric = _metric(name, piece)
    wanted = ">=" if metric.is_floor else "<="
    if op not in (wanted, "="):
        raise BudgetError(
            f"{metric} is limited with {wanted!r} (or '='), got {op!r} in {piece!r}; write {metric}{wanted}{amount}"
        )
    return _limit(metric, amount, piece)


def _keyword_limit(name: str, amount: str | float) -> Limit:
    text = amount if isinstance(amount, str) else f"{amount!r}{_plain_unit(name)}"
    return _limit(_metric(name, f"{name}={amount}"), text, f"{name}={amount!r}")


def _plain_unit(name: str) -> str:
    return {"latency": "ms", "size": "B", "ram": "B", "energy": "mJ"}.get(name, "")


def _metric(name: str, piece: str) -> Metric:
    known = [metric.value for metric in Metric]
    if name.lower() not in known:
        raise BudgetError(f"a budget limits {', '.join(known)}; got {name!r} in {piece!r}{near(name.lower(), known)}")
    return Metric(name.lower())


def _limit(metric: Metric, text: str, piece: str) -> Limit:
    amount, relative = _amount(metric, text, piece)
    if amount <= 0:
        raise BudgetError(f"the amount of a limit must be above zero, got {piece!r}; no model can meet it")
    if math.isinf(amount):
        raise BudgetError(f"the amount of a limit must be finite, got {piece!r}; leave the limit out")
    return Limit(metric=metric, amount=amount, relative=relative)


def _amount(metric: Metric, text: str, piece: str) -> tuple[float, bool]:
    percent = text.endswith("%")
    kind = Kind.FRACTION if percent else metric.kind
    try:
        value = parse_quantity(text[:-1] if percent else text, kind)
    except ValueError as error:
        raise BudgetError(f"in {piece!r}: {error}; for example {EXAMPLE!r}") from error
    if not percent or math.isinf(value):
        return value, False
    return float(Decimal(text[:-1].strip()).scaleb(-2)), metric is not Metric.ACCURACY_DROP
