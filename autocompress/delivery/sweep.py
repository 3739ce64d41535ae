"""The page of a sweep: what each budget brought, all models in one plot, and the way to each run's own report."""

from pathlib import Path
from typing import Any

from autocompress.budget import Metric
from autocompress.delivery.page import own_file, page_environment, plotly_script
from autocompress.delivery.report_plot import axes_of, label_of, traces
from autocompress.delivery.report_points import Axis, Point, Series, axis_of, frame_of, point_of
from autocompress.delivery.report_text import METRIC_WORDS, quantity
from autocompress.facts import write_whole
from autocompress.result import Status
from autocompress.sweep import Sweep
from autocompress.units import Kind

DRAWN = (Metric.LATENCY, Metric.SIZE)


def write_page(sweep: Sweep, path: Path) -> None:
    """Write the page to ``path``, whole or not at all."""
    write_whole(path, render_page(sweep))


def render_page(sweep: Sweep) -> str:
    """The whole page; it loads nothing from anywhere, and its own policy forbids it to."""
    drawn = {metric: figure for metric in DRAWN if (figure := _figure(sweep, metric)) is not None}
    return (
        page_environment({"milliseconds": lambda value: quantity(value, Kind.TIME)})
        .get_template("sweep_template.html")
        .render(
            sweep=sweep,
            met=sweep.status is Status.MET,
            plots={f"plot-{metric}": METRIC_WORDS[metric] for metric in drawn},
            figures={f"plot-{metric}": figure for metric, figure in drawn.items()},
            style=own_file("report.css"),
            script=own_file("report.js"),
            plotly=plotly_script() if drawn else "",
        )
    )


def _figure(sweep: Sweep, metric: Metric) -> dict[str, Any] | None:
    """Accuracy of the validation split over a cost; None where nothing was scored."""
    axis = axis_of(sweep.baseline, metric)
    points = _points(sweep, axis)
    if not points:
        return None
    frame = frame_of(points, None, None)
    return {
        "data": traces(points, frame),
        "layout": axes_of(sweep.metric_name, axis, frame) | {"shapes": [], "annotations": []},
        "labels": [label_of(point, frame) for point in points if point.label],
    }


def _points(sweep: Sweep, axis: Axis) -> tuple[Point, ...]:
    found = [point_of(Series.BASELINE, sweep.baseline, axis, "original", sweep.model, label="original")]
    for row in sweep.budgets:
        found += [point_of(Series.FINALIST, at.facts, axis, at.name, at.summary) for at in row.pareto]
        if row.best is not None:
            found.append(point_of(Series.RETURNED, row.best, axis, f"{row.folder}/best", row.budget, label=row.folder))
    return tuple(point for point in found if point is not None)
