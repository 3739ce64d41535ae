"""``autocompress verify``: a result measured again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import BUDGET_MISSED, OK, Answer

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.commands.verify import Verification

EXAMPLES = """
autocompress verify runs/digits

autocompress verify best/ --data photos/ --json
"""


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="A run's folder, or its best/.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", show_default="the run's own", help="Evaluate on the test split of this data."),
    ] = None,
) -> Answer:
    """Measure a result again, here and now, against the budget of its certificate.

    Exit code 0: every limit that could be checked is met; 3: one is not.
    """
    from autocompress.cli.progress import watching
    from autocompress.commands import verify as verifying

    with watching(str(folder)) as observer:
        found = verifying.verify(folder, data=data, observer=observer)
    return Answer(
        facts=found,
        show=lambda console: show_verification(console, found),
        exit_code=OK if found.met else BUDGET_MISSED,
    )


def show_verification(console: "Console", found: "Verification") -> None:
    """MET or NOT MET, row by row, and what else was seen."""
    from autocompress.cli.tables import budget_table, latency_text, pairs_table, say
    from autocompress.units import Kind, format_quantity

    say(console, f"{'MET' if found.met else 'NOT MET'}: {found.folder}", "bold green" if found.met else "bold red")
    console.print()
    console.print(budget_table(found.budget))
    console.print()
    certified_ms = found.certified.latency_ms
    rows = [
        ("latency, median", latency_text(found.latency)),
        ("  as certified", "—" if certified_ms is None else format_quantity(certified_ms, Kind.TIME)),
        ("size of the file", format_quantity(found.size_bytes, Kind.BYTES)),
        ("peak RAM", format_quantity(found.peak_ram_bytes, Kind.BYTES)),
    ]
    if found.accuracy_test is not None:
        low, high = found.accuracy_test.interval
        rows.append(("accuracy, test", f"{found.accuracy_test.value:.4f}  [{low:.4f}, {high:.4f}]"))
    rows.append(("file", "the one that was certified" if found.same_file else "NOT the one that was certified"))
    console.print(pairs_table(rows))
    for note in found.notes:
        say(console, f"note: {note}", "yellow")
