"""The Pareto plots of the report, as Plotly figures in plain JSON.

Colours are names of CSS variables (``--finalist``); ``report.js`` fills them in from the page's light or dark palette.
The same script places the labels, because only the browser knows how many pixels there are.
"""

import html
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from autocompress.budget import Metric
from autocompress.delivery.report_text import METRIC_WORDS, bound, counted, quantity
from autocompress.measurement import ModelFacts
from autocompress.result import ControlRow, Result, TrialKind, TrialRecord, TrialState
from autocompress.units import Kind

LOG_FROM_RATIO = 12.0  # a linear axis leaves the small models in the left tenth beyond this spread
FENCE = 2.5  # interquartile ranges below the lower quartile at which a score counts as off the scale
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
_SYMBOLS: dict[Series, tuple[str, int]] = {
    Series.SEARCH: ("circle", 8),
    Series.FINALIST: ("diamond", 11),
    Series.CONTROL: ("square", 10),
    Series.EXPORTED: ("circle-open", 17),
    Series.BASELINE: ("x", 11),
    Series.RETURNED: ("star", 18),
}
_SERIES_OF = {
    TrialKind.SEARCH: Series.SEARCH,
    TrialKind.FINALIST: Series.FINALIST,
    TrialKind.CONTROL: Series.CONTROL,
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One scored model; ``x`` in the unit of the axis."""

    series: Series
    x: float
    y: float
    hover: str
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure with what the page says around it."""

    identifier: str
    title: str
    caption: str
    legend: tuple[tuple[str, str], ...]
    figure: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The visible part: ``x`` in axis units (powers of ten on a log axis), ``y`` in the metric's."""

    log: bool
    x: tuple[float, float]
    y: tuple[float, float]


def plots(result: Result) -> tuple[Plot, ...]:
    """Accuracy over latency, and over size where size is limited; none where nothing was scored."""
    wanted = [Metric.LATENCY]
    if any(row.metric is Metric.SIZE for row in result.budget):
        wanted.append(Metric.SIZE)
    return tuple(plot for metric in wanted if (plot := _plot(result, metric)) is not None)


def front(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points that no other point beats in both directions, by rising cost."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return tuple(kept)


def _plot(result: Result, metric: Metric) -> Plot | None:
    points = _points(result, metric)
    if not points:
        return None
    limits = {row.metric: row.limit / _unit(metric)[0] for row in result.budget if row.metric is metric}
    floor = _floor(result)
    frame = _frame(points, limits.get(metric), floor)
    rug = _rug(result, metric)
    word = METRIC_WORDS[metric]
    figure = {
        "data": [*_traces(points, frame), *_rug_traces(rug, frame)],
        "layout": _layout(result, metric, frame) | _limit_marks(result, metric, frame, floor),
        "labels": [_label(point, frame) for point in points if point.label],
    }
    return Plot(
        identifier=f"plot-{metric}",
        title=f"{result.metric_name} over {word}".capitalize(),
        caption=_caption(result, points, rug, frame),
        legend=tuple((series.value, text) for series, text in LEGEND.items() if any(p.series is series for p in points)),
        figure=figure,
    )


def _unit(metric: Metric) -> tuple[float, str]:
    """What an axis is drawn in: the factor to divide by, and its name."""
    return (1e6, "MB") if metric is Metric.SIZE else (1.0, "ms")


def _cost(facts: ModelFacts | None, metric: Metric) -> float | None:
    if facts is None:
        return None
    value = metric.of(facts)
    if value is None and metric is Metric.LATENCY:
        value = facts.latency_predicted_ms
    return value / _unit(metric)[0] if value is not None and math.isfinite(value) and value > 0 else None


def _points(result: Result, metric: Metric) -> tuple[Point, ...]:
    controls = {row.name: row for row in result.controls if _scored(row.facts, metric)}
    found = [
        _trial_point(trial, metric)
        for trial in result.trial_log
        if _scored(trial.facts, metric) and trial.control not in controls
    ]
    found += [
        _point(Series.EXPORTED, front_point.facts, metric, f"pareto/{front_point.name}", front_point.summary)
        for front_point in result.pareto
        if _scored(front_point.facts, metric)
    ]
    if _scored(result.baseline, metric):
        found.append(_point(Series.BASELINE, result.baseline, metric, "baseline", result.model, label="baseline"))
    original = [(point.x, point.y) for point in found if point.series is Series.BASELINE]
    named = [_control_point(row, result, metric) for row in controls.values()]
    found += [point for point in named if (point.x, point.y) not in original]
    if result.best is not None and _scored(result.best, metric):
        word = "returned" if result.status.value == "met" else "closest"
        found.append(_point(Series.RETURNED, result.best, metric, f"{word} model", "", label=word))
    return tuple(found)


def _scored(facts: ModelFacts | None, metric: Metric) -> bool:
    score = None if facts is None else facts.accuracy_val
    return score is not None and math.isfinite(score) and _cost(facts, metric) is not None


def _trial_point(trial: TrialRecord, metric: Metric) -> Point:
    assert trial.facts is not None
    series = _SERIES_OF[trial.kind]
    head = f"trial {trial.number}, {trial.control or LEGEND[series]}"
    return _point(series, trial.facts, metric, head, trial.summary, label=trial.control or "")


def _control_point(row: ControlRow, result: Result, metric: Metric) -> Point:
    assert row.facts is not None
    trial = next((trial for trial in result.trial_log if trial.control == row.name), None)
    head = row.name if trial is None else f"trial {trial.number}, {row.name}"
    return _point(Series.CONTROL, row.facts, metric, head, row.note or (trial.summary if trial else ""), label=row.name)


def _point(series: Series, facts: ModelFacts, metric: Metric, head: str, summary: str, *, label: str = "") -> Point:
    x = _cost(facts, metric)
    assert x is not None
    assert facts.accuracy_val is not None
    predicted = metric is Metric.LATENCY and facts.latency_ms is None
    unit = quantity(x * _unit(metric)[0], metric.kind) + (" (predicted)" if predicted else "")
    lines = [f"<b>{html.escape(head)}</b>", f"{facts.accuracy_val:.4f} at {unit}"]
    lines += [html.escape(line) for line in textwrap.wrap(summary, HOVER_COLUMNS)]
    return Point(series=series, x=x, y=facts.accuracy_val, hover="<br>".join(lines), label=html.escape(label))


def _floor(result: Result) -> tuple[float, str] | None:
    """The least accuracy that the budget takes, on the validation split that the plot shows."""
    for row in result.budget:
        if row.metric is Metric.ACCURACY:
            return row.limit, f"{row.metric} {bound(row)}"
        if row.metric is Metric.ACCURACY_DROP and result.baseline.accuracy_val is not None:
            return result.baseline.accuracy_val - row.limit, f"drop {bound(row)}"
    return None


def _frame(points: tuple[Point, ...], limit: float | None, floor: tuple[float, str] | None) -> Frame:
    xs = [point.x for point in points] + ([] if limit is None else [limit])
    log = max(xs) / min(xs) > LOG_FROM_RATIO
    ends = (math.log10(min(xs)), math.log10(max(xs))) if log else (min(xs), max(xs))
    ys = [point.y for point in points]
    anchors = [p.y for p in points if p.series in (Series.BASELINE, Series.RETURNED)]
    anchors += [] if floor is None else [floor[0]]
    quarter, three_quarters = np.quantile(ys, [0.25, 0.75])
    fence = quarter - FENCE * (three_quarters - quarter)
    low = max(min([*ys, *anchors]), min([float(fence), *anchors]))
    return Frame(log=log, x=_padded(*ends), y=_padded(low, max([*ys, *anchors])))


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * PADDING or abs(high) * PADDING or PADDING
    return low - room, high + room


def _bottom(frame: Frame, share: float) -> float:
    return frame.y[0] + share * (frame.y[1] - frame.y[0])


def _traces(points: tuple[Point, ...], frame: Frame) -> list[dict[str, Any]]:
    low = [point for point in points if point.y < frame.y[0]]
    best = front(points)
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [point.x for point in best],
        "y": [point.y for point in best],
        "line": {"color": "--front", "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
    }
    by_series = [
        _markers([p for p in points if p.series is series and p not in low], *_SYMBOLS[series], f"--{series}")
        for series in (Series.EXPORTED, *(series for series in Series if series is not Series.EXPORTED))
    ]
    off = _markers(low, "triangle-down-open", 10, "--muted", y=_bottom(frame, 0.03))
    return [line, *(trace for trace in by_series if trace["x"]), *([off] if low else [])]


def _markers(points: list[Point], symbol: str, size: int, color: str, y: float | None = None) -> dict[str, Any]:
    edge = {"color": color, "width": 1.5} if symbol.endswith("open") else {"color": "--surface", "width": 1}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [point.x for point in points],
        "y": [point.y if y is None else y for point in points],
        "text": [point.hover for point in points],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": symbol, "size": size, "color": color, "line": edge},
        "cliponaxis": False,
    }


def _rug(result: Result, metric: Metric) -> list[tuple[TrialRecord, float]]:
    found = [(trial, _cost(trial.facts, metric)) for trial in result.trial_log if trial.state is TrialState.PRUNED]
    return [(trial, x) for trial, x in found if x is not None and not _scored(trial.facts, metric)]


def _rug_traces(rug: list[tuple[TrialRecord, float]], frame: Frame) -> list[dict[str, Any]]:
    if not rug:
        return []
    hover = [
        "<br>".join([f"<b>trial {t.number}, not trained</b>", *map(html.escape, textwrap.wrap(t.summary, HOVER_COLUMNS))])
        for t, _ in rug
    ]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [x for _, x in rug],
            "y": [_bottom(frame, 0.02)] * len(rug),
            "text": hover,
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"symbol": "line-ns-open", "size": 11, "color": "--muted", "line": {"width": 1.5}},
        }
    ]


def _layout(result: Result, metric: Metric, frame: Frame) -> dict[str, Any]:
    axis = {"gridcolor": "--rule", "linecolor": "--rule", "zeroline": False, "ticks": "outside", "tickcolor": "--rule"}
    unit = _unit(metric)[1]
    kind = "file size" if metric is Metric.SIZE else f"{METRIC_WORDS[metric]}, median"
    tick: dict[str, Any] = {"type": "log", "dtick": "D2", "minor": {}} if frame.log else {"type": "linear", "nticks": 8}
    return {
        "xaxis": axis | tick | {"range": list(frame.x), "title": {"text": f"{kind} [{unit}]", "standoff": 8}},
        "yaxis": axis | {"range": list(frame.y), "title": {"text": f"{html.escape(result.metric_name)}, validation"}},
    }


def _limit_marks(result: Result, metric: Metric, frame: Frame, floor: tuple[float, str] | None) -> dict[str, Any]:
    row = next((row for row in result.budget if row.metric is metric), None)
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    edge = {"color": "--limit", "width": 1.5, "dash": "dash"}
    right = frame.x[1]
    if row is not None:
        at = row.limit / _unit(metric)[0]
        right = math.log10(at) if frame.log else at
        shapes.append({"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": edge})
        share = (right - frame.x[0]) / (frame.x[1] - frame.x[0])
        anchor = "left" if share < 1 / 3 else "right" if share > 2 / 3 else "center"
        text = f"{METRIC_WORDS[metric]} {bound(row)}"
        notes.append({"x": share, "xref": "paper", "xanchor": anchor, "y": 1, "yref": "paper", "yanchor": "bottom", "text": text})
    if floor is not None:
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": floor[0], "y1": floor[0], "line": edge})
        notes.append({"x": 1, "xref": "paper", "xanchor": "right", "y": floor[0], "yanchor": "top", "text": html.escape(floor[1])})
    if shapes:
        area = {"type": "rect", "xref": "paper", "x0": 0, "x1": (right - frame.x[0]) / (frame.x[1] - frame.x[0])}
        area |= {"y0": frame.y[0] if floor is None else floor[0], "y1": frame.y[1]}
        shapes.insert(0, area | {"fillcolor": "--feasible", "line": {"width": 0}, "layer": "below"})
    return {"shapes": shapes, "annotations": [note | {"showarrow": False, "font": {"color": "--limit"}} for note in notes]}


def _label(point: Point, frame: Frame) -> dict[str, Any]:
    """A label for the script to place; a point below the scale is named with its true score."""
    off = point.y < frame.y[0]
    text = f"{point.label} ({point.y:.4f})" if off else point.label
    y = _bottom(frame, 0.03) if off else point.y
    return {"x": point.x, "y": y, "text": text, "color": f"--{point.series}"}


def _caption(result: Result, points: tuple[Point, ...], rug: list[tuple[TrialRecord, float]], frame: Frame) -> str:
    samples = result.samples.get("val")
    said = [
        f"Accuracy is that of the validation split{f' ({samples:,} samples)' if samples else ''}. Search trials are scored "
        "after a short recovery; finalists, the exported models and the returned one after a full one.",
        "The line is the best score to be had at each cost; the tinted area lies within the limits that are drawn.",
    ]
    low = sum(point.y < frame.y[0] for point in points)
    if low:
        said.append(f"{counted(low, 'point')} below the scale: triangles at the bottom, true score on hover.")
    unscored = sum(trial.state is TrialState.PRUNED for trial in result.trial_log) - len(rug)
    if rug:
        said.append(f"Ticks at the bottom: {counted(len(rug), 'trial')} known to break the budget and not trained.")
    if unscored > 0:
        said.append(f"Not drawn: {counted(unscored, 'trial')} known to break the budget.")
    if result.trials.failed:
        said.append(f"Not drawn: {counted(result.trials.failed, 'failed trial')}.")
    return " ".join(said)
