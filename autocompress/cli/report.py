"""``autocompress report``: the page of a finished run."""

from pathlib import Path
from typing import Annotated

import typer

from autocompress.cli.answer import Answer

EXAMPLES = """
autocompress report runs/digits

autocompress report runs/digits --out digits.html
"""


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="A finished run's folder.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="DIR/report.html", help="Where to write the page.")
    ] = None,
) -> Answer:
    """Draw the page of a finished run again and print its path."""
    from autocompress.cli.tables import say
    from autocompress.commands import report as reporting

    page = reporting.report(folder, out)
    return Answer(facts={"report": str(page)}, show=lambda console: say(console, str(page)))
