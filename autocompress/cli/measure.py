"""``autocompress measure``: the cost of any ONNX file here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import Answer
from autocompress.cli.flags import TargetFlags

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.commands.measure import FileCost

EXAMPLES = """
autocompress measure runs/digits/best/model.onnx

autocompress measure model.onnx --threads 2 --json
"""


def measure(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", show_default=False, help="An ONNX file.")],
    target: TargetFlags,
) -> Answer:
    """Measure latency and peak RAM of an ONNX file; count size, MACs and parameters."""
    from autocompress.cli.progress import watching
    from autocompress.cli.records import target_of
    from autocompress.commands import measure as measuring

    with watching(str(file)) as observer:
        observer.stage("measure", str(file))
        cost = measuring.measure(file, target=target_of(target))
    return Answer(facts=cost, show=lambda console: show_cost(console, cost))


def show_cost(console: "Console", cost: "FileCost") -> None:
    """Every cost in one table."""
    from autocompress.cli.tables import latency_text, noise_text, pairs_table, say
    from autocompress.units import Kind, format_quantity

    latency = cost.latency
    say(
        console, f"{cost.file}: {cost.target.runtime}, batch {cost.target.batch}, threads {cost.target.threads}", "bold"
    )
    console.print(
        pairs_table(
            (
                ("latency, median", f"{latency_text(latency)}{noise_text(latency)}"),
                ("latency, p95", format_quantity(latency.p95_ms, Kind.TIME)),
                ("load", format_quantity(latency.load_ms, Kind.TIME)),
                ("size of the file", f"{format_quantity(cost.size_bytes, Kind.BYTES)} ({cost.size_bytes:,} B)"),
                ("peak RAM", format_quantity(cost.peak_ram_bytes, Kind.BYTES)),
                ("MACs", format_quantity(cost.macs, Kind.COUNT)),
                ("parameters", format_quantity(cost.params, Kind.COUNT)),
                ("processor", cost.machine.cpu),
            )
        )
    )
