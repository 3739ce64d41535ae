"""Budgets: the grammar, what they resolve to, and what they say of a model."""

import math
import re

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, composite, floats, lists, sampled_from

from autocompress.budget import Budget, Limit, Metric
from autocompress.errors import BudgetError
from autocompress.measurement import ModelFacts
from autocompress.units import Kind

BASE = ModelFacts(
    accuracy_val=0.95,
    accuracy_test=0.94,
    latency_ms=4.0,
    size_bytes=1000,
    peak_ram_bytes=5000,
    macs=200,
    params=100,
)


def limits_of(text: str) -> list[tuple[str, float, bool]]:
    return [(limit.metric.value, limit.amount, limit.relative) for limit in Budget.parse(text).limits]


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("latency<=5ms", [("latency", 5, False)]),
        ("size<=2MB", [("size", 2e6, False)]),
        ("ram<=64MiB", [("ram", 64 * 2**20, False)]),
        ("macs<=100M", [("macs", 1e8, False)]),
        ("params<=1M", [("params", 1e6, False)]),
        ("energy<=3mJ", [("energy", 3, False)]),
        ("accuracy>=0.9", [("accuracy", 0.9, False)]),
        ("accuracy>=90%", [("accuracy", 0.9, True)]),
        ("accuracy_drop<=1%", [("accuracy_drop", 0.01, False)]),
        ("accuracy_drop<=0.01", [("accuracy_drop", 0.01, False)]),
        ("latency=50%", [("latency", 0.5, True)]),
        ("accuracy=0.9", [("accuracy", 0.9, False)]),
        ("size<=33.3%", [("size", 0.333, True)]),
        (" latency <= 5 ms , SIZE <= 50 % ,", [("latency", 5, False), ("size", 0.5, True)]),
    ],
)
def test_the_grammar(text, limits):
    assert limits_of(text) == limits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a budget needs at least one limit, for example 'latency<=5ms,size<=50%,accuracy_drop<=1%'"),
        (" , ", "a budget needs at least one limit, for example"),
        ("latency", "a limit is METRIC<=AMOUNT, got 'latency'; for example 'latency<=5ms"),
        (
            "latencie<=5ms",
            (
                "a budget limits latency, size, ram, macs, params, energy, accuracy, accuracy_drop; got 'latencie' in "
                "'latencie<=5ms'; near: latency"
            ),
        ),
        ("latency>=5ms", "latency is limited with '<=' (or '='), got '>=' in 'latency>=5ms'; write latency<=5ms"),
        ("latency<5ms", "latency is limited with '<=' (or '='), got '<' in 'latency<5ms'; write latency<=5ms"),
        ("latency==5ms", "latency is limited with '<=' (or '='), got '==' in 'latency==5ms'; write latency<=5ms"),
        ("accuracy<=0.9", "accuracy is limited with '>=' (or '='), got '<=' in 'accuracy<=0.9'; write accuracy>=0.9"),
        ("latency<=5", "in 'latency<=5': '5' lacks its unit; use one of: ns, us, µs, ms, s; for example"),
        ("latency<=5MB", "in 'latency<=5MB': 'MB' in '5MB' is not a unit of this quantity; use one of: ns, us"),
        ("size<=small%", "in 'size<=small%': 'small' is not a number with a unit; for example"),
        ("size<=", "in 'size<=': '' is not a number with a unit (B, kB"),
        ("size<=0B", "the amount of a limit must be above zero, got 'size<=0B'; no model can meet it"),
        ("size<=-5%", "the amount of a limit must be above zero, got 'size<=-5%'; no model can meet it"),
        ("size<=1e999B", "the amount of a limit must be finite, got 'size<=1e999B'; leave the limit out"),
        ("size<=1e999%", "the amount of a limit must be finite, got 'size<=1e999%'; leave the limit out"),
        ("accuracy>=97", "accuracy lies between 0 and 1 (or 0% and 100%), got 97; write for example accuracy>=0.9"),
        ("accuracy_drop<=2", "accuracy_drop lies between 0 and 1 (or 0% and 100%), got 2; write for example"),
        (
            "size<=1MB,size<=50%",
            "a budget limits each metric once, got size<=1MB and size<=50%; keep the one you mean",
        ),
    ],
)
def test_what_breaks_the_grammar_is_refused_with_the_rule(text, message):
    with pytest.raises(BudgetError, match="^" + re.escape(message)):
        Budget.parse(text)


def test_keywords_text_mappings_and_budgets_make_the_same_budget():
    budget = Budget.parse("latency<=5ms,size<=50%")
    assert Budget(latency="5ms", size="50%") == budget
    assert Budget.parse({"latency": "5ms", "size": "50%"}) == budget
    assert Budget.parse(budget) is budget


def test_numbers_as_keywords_are_in_the_plain_unit():
    numbers = Budget(latency=5, size=1000, ram=2000, macs=7, params=8, energy=1.5, accuracy=0.9, accuracy_drop=0.01)
    text = "latency<=5ms,size<=1kB,ram<=2kB,macs<=7,params<=8,energy<=1.5mJ,accuracy>=0.9,accuracy_drop<=1%"
    assert numbers == Budget.parse(text)
    assert str(numbers) == text


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"speed": "5ms"}, "got 'speed' in 'speed=5ms'"),
        ({"latency": float("nan")}, "in \"latency=nan\": 'nanms' is not a number with a unit"),
        ({"latency": -1}, "the amount of a limit must be above zero, got 'latency=-1'"),
        ({"limits": "x"}, "a budget looks like 'latency<=5ms,size<=50%,accuracy_drop<=1%'; "),
        ({}, "a budget needs at least one limit"),
    ],
)
def test_wrong_keywords_are_refused(metrics, message):
    with pytest.raises(BudgetError, match=re.escape(message).replace('"', "['\"]")):
        Budget(**metrics)


@composite
def some_limit(draw, metric):
    if metric in (Metric.ACCURACY, Metric.ACCURACY_DROP):
        amount = draw(floats(min_value=1e-12, max_value=1))
    else:
        amount = draw(floats(min_value=1e-9, max_value=1e15))
    relative = metric is not Metric.ACCURACY_DROP and draw(booleans())
    return Limit(metric=metric, amount=amount, relative=relative)


@composite
def some_budget(draw):
    metrics = draw(lists(sampled_from(Metric), min_size=1, unique=True))
    return Budget(limits=[draw(some_limit(metric)) for metric in metrics])


@given(budget=some_budget())
def test_a_budget_is_read_back_from_its_text_and_its_json(budget):
    assert Budget.parse(str(budget)) == budget
    assert Budget.from_json(budget.to_json()) == budget
    assert Budget.from_yaml(budget.to_yaml()) == budget


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("latency<=5ms", 5),
        ("latency<=50%", 2),
        ("size<=10%", 100),
        ("ram<=20%", 1000),
        ("macs<=50%", 100),
        ("params<=200%", 200),
        ("accuracy>=50%", 0.475),
        ("accuracy_drop<=1%", 0.01),
    ],
)
def test_percent_is_of_the_baseline(text, bound):
    (limit,) = Budget.parse(text).limits
    assert limit.resolve(BASE) == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "metric"), [("latency<=50%", "latency"), ("energy<=50%", "energy"), ("accuracy>=50%", "accuracy")]
)
def test_percent_of_a_value_that_is_not_known_is_refused(text, metric):
    (limit,) = Budget.parse(text).limits
    unknown = ModelFacts(size_bytes=1, macs=1, params=1)
    with pytest.raises(
        BudgetError, match=f"^{text} is relative to the baseline, whose {metric} is not known; give it in units$"
    ):
        limit.resolve(unknown)


def test_rows_say_limit_value_and_whether_it_is_met():
    budget = Budget.parse("latency<=2ms,size<=50%,ram<=1kB,accuracy>=0.9,accuracy_drop<=1%")
    facts = ModelFacts(latency_ms=2.0, size_bytes=501, macs=1, params=1, accuracy_val=0.94, accuracy_test=0.89)
    rows = budget.rows(facts, BASE, "val")
    assert [(row.text, row.limit, row.value, row.met) for row in rows[:4]] == [
        ("latency<=2ms", 2.0, 2.0, True),
        ("size<=50%", 500.0, 501.0, False),
        ("ram<=1kB", 1000.0, None, None),
        ("accuracy>=0.9", 0.9, 0.94, True),
    ]
    assert rows[4].value == pytest.approx(0.01)
    assert rows[4].met is True  # 0.95 - 0.94 is 0.010000000000000009 in floating point
    assert [row.note for row in rows] == ["", "", "", "val split", "val split, baseline minus this"]
    assert [row.met for row in budget.rows(facts, BASE, "test")[3:]] == [False, False]
    assert [row.met for row in budget.rows(facts.model_copy(update={"accuracy_val": None}), BASE, "val")[3:]] == [
        None
    ] * 2


def test_a_relative_accuracy_floor_is_of_the_split_that_counts():
    rows = [Budget.parse("accuracy>=50%").rows(BASE, BASE, split)[0] for split in ("val", "test")]
    assert [row.limit for row in rows] == pytest.approx([0.475, 0.47])


def test_violation_is_the_share_over_the_limit():
    budget = Budget.parse("latency<=2ms,size<=2kB,ram<=1kB,accuracy>=0.9")
    facts = BASE.model_copy(update={"peak_ram_bytes": None})
    assert budget.violation(facts, BASE) == {Metric.LATENCY: 1.0, Metric.SIZE: -0.5, Metric.RAM: math.inf}


def test_costs_are_what_is_known_before_training():
    budget = Budget.parse("latency<=2ms,accuracy>=0.9")
    assert [limit.metric for limit in budget.costs] == [Metric.LATENCY]
    assert budget.has_accuracy_floor
    assert not Budget.parse("latency<=2ms").has_accuracy_floor
    assert [row.metric for row in budget.cost_rows(BASE, BASE)] == [Metric.LATENCY]


def test_every_metric_has_a_kind_and_every_cost_but_energy_a_value():
    assert all(isinstance(metric.kind, Kind) for metric in Metric)
    without = {metric for metric in Metric if metric.of(BASE) is None}
    assert without == {Metric.ENERGY, Metric.ACCURACY, Metric.ACCURACY_DROP}


def test_a_latency_that_was_only_predicted_counts_with_its_upper_end_and_says_so():
    facts = BASE.model_copy(update={"latency_ms": None}).with_prediction(1.8, (1.5, 2.2))
    (row,) = Budget.parse("latency<=2ms").cost_rows(facts, BASE)
    assert (row.value, row.met, row.note) == (2.2, False, "predicted, the upper end of its interval")
    measured = facts.model_copy(update={"latency_ms": 1.9})
    (row,) = Budget.parse("latency<=2ms").cost_rows(measured, BASE)
    assert (row.value, row.met, row.note) == (1.9, True, "")
