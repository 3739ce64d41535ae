"""One self-contained HTML file that says what a run found: verdict first, then the evidence."""

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from autocompress.delivery.report_plot import plots
from autocompress.delivery.report_snippet import run_snippet
from autocompress.delivery.report_text import (
    METRIC_WORDS,
    budget_lines,
    comparisons,
    cost_ms,
    counted,
    headline,
    last_line,
    quantity,
    reaches,
    trial_ms,
)
from autocompress.facts import write_whole
from autocompress.result import Result, Status
from autocompress.units import Kind, format_duration

_FOLDER = Path(__file__).parent


def render_report(result: Result) -> str:
    """The whole page; it loads nothing from anywhere, and its own policy forbids it to."""
    drawn = plots(result)
    return (
        _environment()
        .get_template("report_template.html")
        .render(
            result=result,
            met=result.status is Status.MET,
            budget=budget_lines(result),
            comparisons=comparisons(result),
            headline=headline(result),
            reaches=reaches(result),
            binding=[METRIC_WORDS[metric] for metric in result.diagnosis.binding] if result.diagnosis else [],
            plots=drawn,
            figures={plot.identifier: plot.figure for plot in drawn},
            snippet=run_snippet(result),
            recipe=None if result.recipe is None else result.recipe.to_yaml(),
            style=_own("report.css"),
            script=_own("report.js"),
            plotly=_plotly() if drawn else "",
        )
    )


def write_report(result: Result, path: Path) -> None:
    """Write the page to ``path``, whole or not at all."""
    write_whole(path, render_report(result))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _filters()
    return environment


def _filters() -> dict[str, Any]:
    return {
        "bytes": lambda value: quantity(value, Kind.BYTES),
        "count": lambda value: quantity(value, Kind.COUNT),
        "score": lambda value: quantity(value, Kind.FRACTION),
        "duration": format_duration,
        "counted": counted,
        "cost_ms": cost_ms,
        "trial_ms": trial_ms,
        "last_line": last_line,
        "breakable": _breakable,
    }


def _breakable(text: str) -> Markup:
    """A name or limit that a narrow column may break at a sign, rather than anywhere."""
    return Markup("<wbr>").join(re.split(r"(?=[<>]=|[/_]|\.[a-z])|(?<=,)", text))


def _own(name: str) -> Markup:
    """A file that lies beside this one, taken as it is: it is ours, and holds nothing of a result."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704


def _plotly() -> Markup:
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - 5 MB of text that a light path need not read

    return Markup(get_plotlyjs())  # noqa: S704
