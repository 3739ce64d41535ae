"""``autocompress doctor``: what works on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import OK, Answer
from autocompress.cli.endings import FAILURE

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.commands.doctor import Diagnosis

EXAMPLES = """
autocompress doctor

autocompress doctor --techniques
"""


def doctor(
    techniques: Annotated[
        bool,
        typer.Option("--techniques", help="Measure what each technique saves here, too; takes about a minute more."),
    ] = False,
    threads: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Of one inference, for --techniques.")] = 1,
) -> Answer:
    """Try what a run needs: packages, export, int8, timing, disk. Takes about ten seconds.

    Exit code 0: a run can be expected to work; 1: something that it needs does not.
    """
    from autocompress.cli.progress import watching
    from autocompress.commands import doctor as doctoring

    with watching("doctor") as observer:
        observer.stage("doctor", "trying what a run needs")
        found = doctoring.doctor(techniques=techniques, threads=threads, observer=observer)
    return Answer(
        facts=found,
        show=lambda console: show_diagnosis(console, found),
        exit_code=OK if found.healthy else FAILURE,
    )


def show_diagnosis(console: "Console", found: "Diagnosis") -> None:
    """One line a check, then the machine."""
    from rich.text import Text

    from autocompress.cli.tables import mark, pairs_table, plain_table
    from autocompress.units import Kind, format_quantity

    table = plain_table(" ", "check", "what was seen")
    for check in found.checks:
        optional = check.name.startswith("optional") and not check.works
        table.add_row(Text("-", "dim") if optional else mark(met=check.works), check.name, Text(check.detail))
    console.print(table)
    console.print()
    machine = found.machine
    console.print(
        pairs_table(
            (
                (
                    "processor",
                    f"{machine.cpu}, {machine.cores} cores, {format_quantity(machine.ram_bytes, Kind.BYTES)}",
                ),
                ("system", f"{machine.os}, {machine.architecture}"),
                ("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items())),
            )
        )
    )
