"""One self-contained HTML file that says what a run found: verdict first, then the evidence."""

from pathlib import Path
from typing import Any

from autocompress.delivery.page import own_file, page_environment, plotly_script
from autocompress.delivery.report_attribution import attribution_sentence, attributions, table_loss
from autocompress.delivery.report_plot import plots
from autocompress.delivery.report_snippet import run_snippet
from autocompress.delivery.report_text import (
    METRIC_WORDS,
    budget_lines,
    comparisons,
    cost_ms,
    headline,
    last_line,
    reaches,
    trial_ms,
)
from autocompress.facts import write_whole
from autocompress.result import Result, Status


def render_report(result: Result) -> str:
    """The whole page; it loads nothing from anywhere, and its own policy forbids it to."""
    drawn = plots(result)
    return (
        page_environment(_filters())
        .get_template("report_template.html")
        .render(
            result=result,
            met=result.status is Status.MET,
            budget=budget_lines(result),
            comparisons=comparisons(result),
            headline=headline(result),
            reaches=reaches(result),
            attributions=attributions(result),
            attribution_sentence=attribution_sentence(result),
            table_loss=table_loss(result),
            binding=[METRIC_WORDS[metric] for metric in result.diagnosis.binding] if result.diagnosis else [],
            plots=drawn,
            figures={plot.identifier: plot.figure for plot in drawn},
            snippet=run_snippet(result),
            recipe=None if result.recipe is None else result.recipe.to_yaml(),
            style=own_file("report.css"),
            script=own_file("report.js"),
            plotly=plotly_script() if drawn else "",
        )
    )


def write_report(result: Result, path: Path) -> None:
    """Write the page to ``path``, whole or not at all."""
    write_whole(path, render_report(result))


def _filters() -> dict[str, Any]:
    return {
        "cost_ms": cost_ms,
        "trial_ms": trial_ms,
        "last_line": last_line,
    }
