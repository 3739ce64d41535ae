"""The Pareto plots of the report, as Plotly figures in plain JSON.

Colours are names of CSS variables (``--finalist``); ``report.js`` fills them in from the page's light or dark palette.
The same script places the labels, because only the browser knows how many pixels there are.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autocompress.budget import BudgetRow, Metric
from autocompress.delivery.report_points import (
    LEGEND,
    Axis,
    Frame,
    Point,
    Series,
    Tick,
    axis_of,
    floor_of,
    frame_of,
    front,
    points_of,
    ticks_of,
)
from autocompress.delivery.report_text import METRIC_WORDS, bound, counted
from autocompress.result import SCORED_SAMPLES, Result, TrialState

_SYMBOLS: dict[Series, tuple[str, int]] = {
    Series.EXPORTED: ("circle-open", 17),  # a ring around what was exported; drawn first, so below the rest
    Series.SEARCH: ("circle", 8),
    Series.FINALIST: ("diamond", 11),
    Series.CONTROL: ("square", 10),
    Series.BASELINE: ("x", 11),
    Series.RETURNED: ("star", 18),
}
_TRIANGLES_AT = 0.03
_TICKS_AT = 0.02


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure with what the page says around it."""

    identifier: str
    title: str
    caption: str
    legend: tuple[tuple[str, str], ...]
    figure: dict[str, Any]


def plots(result: Result) -> tuple[Plot, ...]:
    """Accuracy over latency, and over size where size is limited; none where nothing was scored."""
    wanted = [Metric.LATENCY]
    if any(row.metric is Metric.SIZE for row in result.budget):
        wanted.append(Metric.SIZE)
    return tuple(plot for metric in wanted if (plot := _plot(result, metric)) is not None)


def _plot(result: Result, metric: Metric) -> Plot | None:
    axis = axis_of(result.baseline, metric)
    points = points_of(result, axis)
    if not points:
        return None
    row = next((row for row in result.budget if row.metric is metric), None)
    floor = floor_of(result)
    frame = frame_of(points, None if row is None else row.limit / axis.factor, None if floor is None else floor[0])
    ticks = ticks_of(result, axis, frame)
    return Plot(
        identifier=f"plot-{metric}",
        title=f"{result.metric_name} over {METRIC_WORDS[metric]}".capitalize(),
        caption=_caption(result, points, ticks, frame),
        legend=tuple(
            (series.value, text) for series, text in LEGEND.items() if any(p.series is series for p in points)
        ),
        figure={
            "data": traces(points, frame) + _tick_traces(ticks, frame),
            "layout": axes_of(result.metric_name, axis, frame) | _limit_marks(row, floor, axis, frame),
            "labels": [label_of(point, frame) for point in points if point.label],
        },
    )


def traces(points: tuple[Point, ...], frame: Frame) -> list[dict[str, Any]]:
    """The front through the points, and the points of each series; those far below the scale as triangles."""
    seen = [point for point in points if point.y >= frame.y[0]]
    low = [point for point in points if point.y < frame.y[0]]
    best = front(seen)
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [point.x for point in best],
        "y": [point.y for point in best],
        "line": {"color": "--front", "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
    }
    groups = [
        (*_SYMBOLS[series], f"--{series}", [(p.x, p.y, p.hover) for p in seen if p.series is series])
        for series in _SYMBOLS
    ]
    groups.append(("triangle-down-open", 10, "--muted", [(p.x, frame.height(_TRIANGLES_AT), p.hover) for p in low]))
    return [line, *(_markers(*group) for group in groups if group[-1])]


def _tick_traces(ticks: tuple[Tick, ...], frame: Frame) -> list[dict[str, Any]]:
    marks = [(tick.x, frame.height(_TICKS_AT), tick.hover) for tick in ticks]
    return [_markers("line-ns-open", 11, "--muted", marks)] if marks else []


def _markers(symbol: str, size: int, color: str, marks: Sequence[tuple[float, float, str]]) -> dict[str, Any]:
    edge = {"color": color, "width": 1.5} if symbol.endswith("open") else {"color": "--surface", "width": 1}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [mark[0] for mark in marks],
        "y": [mark[1] for mark in marks],
        "text": [mark[2] for mark in marks],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": symbol, "size": size, "color": color, "line": edge},
    }


def axes_of(metric_name: str, axis: Axis, frame: Frame) -> dict[str, Any]:
    """Both axes, titled."""
    look = {"gridcolor": "--rule", "linecolor": "--rule", "zeroline": False, "ticks": "outside", "tickcolor": "--rule"}
    kind = "file size" if axis.metric is Metric.SIZE else f"{METRIC_WORDS[axis.metric]}, median"
    scale: dict[str, Any] = _log_scale(frame) if frame.log else {"type": "linear", "nticks": 8}
    title_x = {"text": f"{kind} [{axis.unit}]", "standoff": 8}
    title_y = {"text": f"{html.escape(metric_name)}, validation"}
    return {
        "xaxis": look | scale | {"range": list(frame.x), "title": title_x},
        "yaxis": look | {"range": list(frame.y), "title": title_y},
    }


def _log_scale(frame: Frame) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 times each power of ten, at the powers alone where that would crowd a phone."""
    low, high = frame.x
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    values = [step * 10.0**power for power in powers for step in steps]
    return {"type": "log", "tickvals": values, "ticktext": [f"{value:g}" for value in values]}


def _limit_marks(
    row: BudgetRow | None, floor: tuple[float, str] | None, axis: Axis, frame: Frame
) -> dict[str, list[dict[str, Any]]]:
    """Dashed lines at the limits, their names, and a tint over what they leave."""
    edge = {"color": "--limit", "width": 1.5, "dash": "dash"}
    area = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": frame.y[0], "y1": frame.y[1], "layer": "below"}
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    if row is not None:
        at = frame.share_x(row.limit / axis.factor)
        area["x1"] = at
        shapes.append(
            {"type": "line", "xref": "paper", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": edge}
        )
        anchor = "left" if at < 1 / 3 else "right" if at > 2 / 3 else "center"
        text = f"{METRIC_WORDS[axis.metric]} {bound(row)}"
        notes.append({"x": at, "xanchor": anchor, "y": 1, "yref": "paper", "yanchor": "bottom", "text": text})
    if floor is not None:
        area["y0"] = floor[0]
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": floor[0], "y1": floor[0], "line": edge})
        notes.append(
            {"x": 1, "xanchor": "right", "y": floor[0], "yref": "y", "yanchor": "top", "text": html.escape(floor[1])}
        )
    if shapes:
        shapes.insert(0, area | {"fillcolor": "--feasible", "line": {"width": 0}})
    look = {"xref": "paper", "showarrow": False, "font": {"color": "--limit"}}
    return {"shapes": shapes, "annotations": [look | note for note in notes]}


def label_of(point: Point, frame: Frame) -> dict[str, Any]:
    """A label for the script to place; a point below the scale is named with its true score."""
    below = point.y < frame.y[0]
    return {
        "x": point.x,
        "y": frame.height(_TRIANGLES_AT) if below else point.y,
        "text": f"{point.label} ({point.y:.4f})" if below else point.label,
        "color": f"--{point.series}",
    }


def _sampled(samples: int | None) -> str:
    return f", on {SCORED_SAMPLES:,} of the samples" if samples and samples > SCORED_SAMPLES else ""


def _caption(result: Result, points: tuple[Point, ...], ticks: tuple[Tick, ...], frame: Frame) -> str:
    samples = result.samples.get("val")
    said = [
        f"Scores are of the validation split{f' ({samples:,} samples)' if samples else ''}.",
        f"Search trials are scored after a short recovery{_sampled(samples)}; all others after a full one.",
        "The line is the best score to be had at each cost; the tinted area lies within the limits that are drawn.",
    ]
    low = sum(point.y < frame.y[0] for point in points)
    if low:
        said.append(f"Triangles at the bottom: {counted(low, 'score')} far below the rest, true value on hover.")
    if ticks:
        said.append(f"Ticks at the bottom: {counted(len(ticks), 'trial')} known to break the budget and not trained.")
    behind = sum(trial.is_behind for trial in result.trial_log)
    pruned = sum(trial.state is TrialState.PRUNED for trial in result.trial_log) - behind - len(ticks)
    absent = [("trial", pruned, " of that sort, outside the frame" if ticks else " known to break the budget")]
    absent.append(("trial", behind, " behind others after the first steps of its recovery"))
    absent.append(("failed trial", result.trials.failed, ""))
    said += [f"Not drawn: {counted(number, what)}{why}." for what, number, why in absent if number > 0]
    return " ".join(said)
