"""The words and numbers of the report: rows that the template only has to set in tables."""

import math
from dataclasses import dataclass, replace

from autocompress.budget import BudgetRow, Metric
from autocompress.measurement import Interval, ModelFacts
from autocompress.result import Result, TrialRecord
from autocompress.units import Kind, format_quantity

NOTHING = "—"
UNBROKEN = "\u00a0"
METRIC_WORDS = {
    Metric.LATENCY: "latency",
    Metric.SIZE: "size",
    Metric.RAM: "peak RAM",
    Metric.MACS: "MACs",
    Metric.PARAMS: "parameters",
    Metric.ENERGY: "energy (estimate)",
    Metric.ACCURACY: "accuracy",
    Metric.ACCURACY_DROP: "accuracy drop",
}


@dataclass(frozen=True, kw_only=True)
class BudgetLine:
    """One limit as the report states it."""

    metric: str
    asked: str
    limit: str
    value: str
    spare: str
    met: bool | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number with the smaller line below it: interval, samples or the exact count."""

    text: str = NOTHING
    below: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One quantity before and after; ``better`` is None where the number alone does not tell (a loss of accuracy)."""

    name: str
    source: str
    baseline: Cell
    best: Cell
    change: Cell
    better: bool | None


@dataclass(frozen=True, kw_only=True)
class Reach:
    """One metric of an infeasible budget: the limit beside the best that any candidate has, and what is calculated."""

    metric: str
    limit: str
    best: str
    estimated: str
    binding: bool


def quantity(value: float | None, kind: Kind) -> str:
    """``value`` as people read it, with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return format_quantity(value, kind).replace("-", "−")


def cost_ms(facts: ModelFacts | None) -> str:
    """The measured latency; a predicted one, where that is all there is, carries ``≈``."""
    if facts is None or (facts.latency_ms is None and facts.latency_predicted_ms is None):
        return NOTHING
    if facts.latency_ms is not None:
        return quantity(facts.latency_ms, Kind.TIME)
    return f"≈ {quantity(facts.latency_predicted_ms, Kind.TIME)}"


def trial_ms(trial: TrialRecord) -> str:
    """The latency of a trial, as ``cost_ms``; of one that was never built, what ruled it out."""
    if trial.facts is None and trial.forecast_ms is not None:
        return f"≈ {quantity(trial.forecast_ms, Kind.TIME)}"
    return cost_ms(trial.facts)


def budget_lines(result: Result) -> tuple[BudgetLine, ...]:
    """One line a limit, in the order of the budget."""
    return tuple(
        BudgetLine(
            metric=METRIC_WORDS[row.metric],
            asked=row.text,
            limit=bound(row),
            value=quantity(row.value, row.metric.kind),
            spare=_spare(row),
            met=row.met,
            note=row.note,
        )
        for row in result.budget
    )


def bound(row: BudgetRow) -> str:
    """The limit in units with its direction, ``≤ 5 ms``."""
    return f"{'≥' if row.metric.is_floor else '≤'} {quantity(row.limit, row.metric.kind)}"


def comparisons(result: Result) -> tuple[Comparison, ...]:
    """Baseline against best, every quantity of a model."""
    base, best = result.baseline, result.best
    return (
        _score(result, "validation", "val"),
        _score(result, "test", "test"),
        _with_share(_cost("latency, median", "measured", "faster slower", _latency(base), _latency(best)), best),
        _cost("latency, p95", "measured", "faster slower", *_pair(base, best, "latency_p95_ms", Kind.TIME)),
        _cost("size of the file", "counted", "smaller larger", *_pair(base, best, "size_bytes", Kind.BYTES)),
        _cost("peak RAM", "measured", "less more", *_pair(base, best, "peak_ram_bytes", Kind.BYTES)),
        _cost("MACs", "counted", "fewer more", *_pair(base, best, "macs", Kind.COUNT)),
        _cost("parameters", "counted", "fewer more", *_pair(base, best, "params", Kind.COUNT)),
    )


def headline(result: Result) -> tuple[Comparison, ...]:
    """The three changes that the verdict is about: accuracy, latency, size; empty without a model."""
    if result.best is None:
        return ()
    rows = comparisons(result)
    score = rows[1] if rows[1].change.text != NOTHING else rows[0]
    return tuple(row for row in (score, rows[2], rows[4]) if row.change.text != NOTHING)


def reaches(result: Result) -> tuple[Reach, ...]:
    """Every metric of the diagnosis beside its limit; binding ones first."""
    if result.diagnosis is None:
        return ()
    limits = {row.metric: bound(row) for row in result.budget}
    binding = result.diagnosis.binding
    reachable = result.diagnosis.reachable
    order = [*binding, *(metric for metric in reachable if metric not in binding)]
    return tuple(
        Reach(
            metric=METRIC_WORDS[metric],
            limit=limits.get(metric, NOTHING),
            best=quantity(reachable.get(metric), metric.kind),
            estimated=quantity(result.diagnosis.estimated.get(metric), metric.kind),
            binding=metric in binding,
        )
        for metric in order
    )


def last_line(trial: TrialRecord) -> str:
    """The line of a traceback that names the error."""
    lines = [line for line in (trial.error or "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def counted(number: int, one: str, many: str = "") -> str:
    """``1 trial``, ``2 trials``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _spare(row: BudgetRow) -> str:
    if row.value is None:
        return ""
    if row.metric.is_cost:
        share = row.value / row.limit - 1
        return f"{_percent(abs(share))} {'above' if share > 0 else 'below'} the limit" if share else "at the limit"
    over = row.value - row.limit if row.metric.is_floor else row.limit - row.value
    return f"{quantity(abs(over), Kind.FRACTION)} {'to spare' if over >= 0 else 'short'}"


def _percent(share: float) -> str:
    percent = share * 100
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def _interval(interval: Interval | None, kind: Kind) -> str:
    if interval is None:
        return ""
    low, high = (quantity(end, kind) for end in interval)
    unit = low.split(" ")[-1]
    start = low.removesuffix(f" {unit}") if high.endswith(f" {unit}") else low
    return f"[{start}, {high}]".replace(" ", UNBROKEN).replace(f",{UNBROKEN}", ", ")


def _score(result: Result, word: str, split: str) -> Comparison:
    def cell(facts: ModelFacts | None) -> Cell:
        value = getattr(facts, f"accuracy_{split}", None)
        return Cell(
            text=quantity(value, Kind.FRACTION),
            below=_interval(getattr(facts, f"accuracy_{split}_interval", None), Kind.FRACTION),
        )

    samples = result.samples.get(split)
    source = "evaluated" if samples is None else f"evaluated on {counted(samples, 'sample')}"
    before = getattr(result.baseline, f"accuracy_{split}")
    after = getattr(result.best, f"accuracy_{split}", None)
    difference = None if before is None or after is None else after - before
    return Comparison(
        name=f"{result.metric_name}, {word}",
        source=source,
        baseline=cell(result.baseline),
        best=cell(result.best),
        change=Cell() if difference is None else Cell(text=_signed(difference)),
        better=True if difference is not None and difference > 0 else None,
    )


def _signed(difference: float) -> str:
    text = quantity(difference, Kind.FRACTION)
    if difference == 0:
        return "unchanged"
    return text if text.startswith("−") else f"+{text}"


def _latency(facts: ModelFacts | None) -> tuple[float | None, Cell]:
    if facts is None:
        return None, Cell()
    interval = _interval(facts.latency_interval_ms, Kind.TIME)
    return facts.latency_ms, Cell(text=quantity(facts.latency_ms, Kind.TIME), below=interval)


def _pair(base: ModelFacts, best: ModelFacts | None, field: str, kind: Kind) -> tuple[tuple[float | None, Cell], ...]:
    return tuple(_plain(getattr(facts, field, None), kind) for facts in (base, best))


def _plain(value: float | None, kind: Kind) -> tuple[float | None, Cell]:
    exact = f"{value:,.0f}{UNBROKEN}B" if value is not None and kind is Kind.BYTES and value >= 1000 else ""
    return value, Cell(text=quantity(value, kind), below=exact)


def _cost(
    name: str, source: str, words: str, base: tuple[float | None, Cell], best: tuple[float | None, Cell]
) -> Comparison:
    before, after = base[0], best[0]
    return Comparison(
        name=name,
        source=source,
        baseline=base[1],
        best=best[1],
        change=_ratio(before, after, words),
        better=None if before is None or after is None else after <= before,
    )


def _with_share(row: Comparison, best: ModelFacts | None) -> Comparison:
    """With the interval of the share, which is narrower than those of both times: they were taken round by round."""
    share = None if best is None else best.latency_share_interval
    if share is None or not row.change.below:
        return row
    low, high = (_percent(end) for end in share)
    return replace(row, change=replace(row.change, below=f"{row.change.below} [{low}, {high}]"))


def _ratio(before: float | None, after: float | None, words: str) -> Cell:
    """``3.4× smaller`` with the share of the baseline below it; ``words`` name both directions."""
    if not before or not after:
        return Cell()
    less, more = words.split()
    share = f"{_percent(after / before)} of baseline"
    factor = max(before / after, after / before)
    if factor < 1.005:
        return Cell(text="unchanged")
    shown = f"{factor:.0f}" if factor >= 20 else f"{factor:.1f}" if factor >= 1.1 else f"{factor:.2f}"
    return Cell(text=f"{shown}× {less if after < before else more}", below=share)
