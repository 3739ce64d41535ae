"""What the Pareto plots show: every scored model as a point, and the part of the plane worth looking at."""

import html
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from autocompress.budget import Metric
from autocompress.delivery.report_text import METRIC_WORDS, bound, quantity
from autocompress.measurement import ModelFacts
from autocompress.result import ControlRow, Result, Status, TrialKind, TrialRecord, TrialState

LOG_FROM_RATIO = 12.0  # a linear axis leaves the small models in the left tenth beyond this spread
FENCE = 2.5  # interquartile ranges below the lower quartile at which a score counts as off the scale
KB_BELOW_BYTES = 2_000_000
PADDING = 0.07
HOVER_COLUMNS = 44


class Series(StrEnum):
    """What a point stands for; the value is the key of its colour and its legend symbol."""

    SEARCH = "search"
    FINALIST = "finalist"
    CONTROL = "control"
    EXPORTED = "exported"
    BASELINE = "baseline"
    RETURNED = "returned"


LEGEND = {
    Series.SEARCH: "search trial",
    Series.FINALIST: "finalist",
    Series.CONTROL: "control",
    Series.EXPORTED: "exported to pareto/",
    Series.BASELINE: "baseline",
    Series.RETURNED: "returned model",
}
_SERIES_OF = {
    TrialKind.SEARCH: Series.SEARCH,
    TrialKind.FINALIST: Series.FINALIST,
    TrialKind.CONTROL: Series.CONTROL,
}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A cost metric in the unit that it is drawn in: ``factor`` of the metric's own units."""

    metric: Metric
    factor: float
    unit: str

    def cost(self, facts: ModelFacts) -> float | None:
        """The cost of one model in this axis's unit, where there is one; a predicted latency rather than none."""
        value = self.metric.of(facts)
        if self.metric is Metric.LATENCY and facts.latency_ms is None:
            value = facts.latency_predicted_ms
        return value / self.factor if value is not None and math.isfinite(value) and value > 0 else None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model; ``x`` in the unit of the axis."""

    series: Series
    x: float
    y: float
    hover: str
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A trial that was not trained: a cost without a score."""

    x: float
    hover: str


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The visible part: ``x`` in axis units (powers of ten on a log axis), ``y`` in the metric's."""

    log: bool
    x: tuple[float, float]
    y: tuple[float, float]

    def share_x(self, x: float) -> float:
        """Where ``x`` lies, from 0 at the left edge to 1 at the right."""
        return ((math.log10(x) if self.log else x) - self.x[0]) / (self.x[1] - self.x[0])

    def height(self, share: float) -> float:
        """The score that lies ``share`` of the way up."""
        return self.y[0] + share * (self.y[1] - self.y[0])


def axis_of(baseline: ModelFacts, metric: Metric) -> Axis:
    """Milliseconds, or the unit of bytes in which the baseline reads well."""
    if metric is Metric.LATENCY:
        return Axis(metric=metric, factor=1.0, unit="ms")
    if baseline.size_bytes < KB_BELOW_BYTES:
        return Axis(metric=metric, factor=1e3, unit="kB")
    return Axis(metric=metric, factor=1e6, unit="MB")


def points_of(result: Result, axis: Axis) -> tuple[Point, ...]:
    """Every model that has a cost and a score on the validation split, of its whole recovery."""
    named = {row.name for row in result.controls if row.facts is not None}
    found = [
        _trial_point(trial, trial.facts, axis)
        for trial in result.trial_log
        if trial.facts is not None and trial.control not in named and not trial.is_behind
    ]
    found += [point_of(Series.EXPORTED, at.facts, axis, at.name, at.summary) for at in result.pareto]
    baseline = point_of(Series.BASELINE, result.baseline, axis, "baseline", result.model, label="baseline")
    controls = [_control_point(row, row.facts, result, axis) for row in result.controls if row.facts is not None]
    found += [at for at in controls if at is None or baseline is None or (at.x, at.y) != (baseline.x, baseline.y)]
    found.append(baseline)
    if result.best is not None:
        word = "returned" if result.status is Status.MET else "closest"
        found.append(point_of(Series.RETURNED, result.best, axis, f"{word} model", "", label=word))
    return tuple(point for point in found if point is not None)


def ticks_of(result: Result, axis: Axis, frame: Frame) -> tuple[Tick, ...]:
    """The trials in view that were known to break the budget, and so never trained."""
    pruned = [trial for trial in result.trial_log if trial.state is TrialState.PRUNED and trial.facts is not None]
    costs = [
        (trial, axis.cost(trial.facts)) for trial in pruned if trial.facts is not None and _score(trial.facts) is None
    ]
    return tuple(
        Tick(x=x, hover=_hover(f"trial {trial.number}, not trained", trial.summary))
        for trial, x in costs
        if x is not None and 0 <= frame.share_x(x) <= 1
    )


def front(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points that no other point beats in both directions, by rising cost."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return tuple(kept)


def floor_of(result: Result) -> tuple[float, str] | None:
    """The least score that the budget takes, on the validation split that the plot shows, and its name."""
    for row in result.budget:
        text = f"{METRIC_WORDS[row.metric]} {bound(row)}"
        if row.metric is Metric.ACCURACY:
            return row.limit, text
        if row.metric is Metric.ACCURACY_DROP and result.baseline.accuracy_val is not None:
            return result.baseline.accuracy_val - row.limit, text
    return None


def frame_of(points: tuple[Point, ...], limit: float | None, floor: float | None) -> Frame:
    """A frame that holds the limits, baseline, returned model and all scores but those far below the rest."""
    xs = [point.x for point in points] + ([] if limit is None else [limit])
    log = max(xs) / min(xs) > LOG_FROM_RATIO
    ends = (math.log10(min(xs)), math.log10(max(xs))) if log else (min(xs), max(xs))
    ys = [point.y for point in points]
    quarter, three_quarters = np.quantile(ys, [0.25, 0.75])
    fence = float(quarter - FENCE * (three_quarters - quarter))
    kept = [at.y for at in points if at.y >= fence or at.series in (Series.BASELINE, Series.RETURNED)]
    kept += [] if floor is None else [floor]
    return Frame(log=log, x=_padded(*ends), y=_padded(min(kept), max(kept)))


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * PADDING or abs(high) * PADDING or PADDING
    return low - room, high + room


def _trial_point(trial: TrialRecord, facts: ModelFacts, axis: Axis) -> Point | None:
    series = _SERIES_OF[trial.kind]
    head = f"trial {trial.number}, {trial.control or LEGEND[series]}"
    return point_of(series, facts, axis, head, trial.summary, label=trial.control or "")


def _control_point(row: ControlRow, facts: ModelFacts, result: Result, axis: Axis) -> Point | None:
    trial = next((trial for trial in result.trial_log if trial.control == row.name), None)
    head = row.name if trial is None else f"trial {trial.number}, {row.name}"
    summary = row.note or ("" if trial is None else trial.summary)
    return point_of(Series.CONTROL, facts, axis, head, summary, label=row.name)


def point_of(
    series: Series, facts: ModelFacts, axis: Axis, head: str, summary: str, *, label: str = ""
) -> Point | None:
    """A model as a point; None without a cost or a score on the validation split."""
    x, y = axis.cost(facts), _score(facts)
    if x is None or y is None:
        return None
    predicted = axis.metric is Metric.LATENCY and facts.latency_ms is None
    cost = quantity(x * axis.factor, axis.metric.kind) + (" (predicted)" if predicted else "")
    hover = _hover(head, summary, f"{quantity(y, Metric.ACCURACY.kind)} at {cost}")
    return Point(series=series, x=x, y=y, hover=hover, label=html.escape(label))


def _score(facts: ModelFacts) -> float | None:
    value = facts.accuracy_val
    return value if value is not None and math.isfinite(value) else None


def _hover(head: str, summary: str, *lines: str) -> str:
    """Plotly's own small HTML; every word of the result is escaped."""
    wrapped = map(html.escape, textwrap.wrap(summary, HOVER_COLUMNS))
    return "<br>".join([f"<b>{html.escape(head)}</b>", *lines, *wrapped])
