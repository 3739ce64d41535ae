"""``autocompress predict``: the latency of any ONNX file, without measuring it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import Answer
from autocompress.cli.flags import TargetFlags

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.commands.predict import FilePrediction

EXAMPLES = """
autocompress predict model.onnx

autocompress predict model.onnx --threads 2 --verbose

autocompress predict model.onnx --profile profiles/tablet --allow-mismatch --json
"""
SHOWN = 30  # kernels


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", show_default=False, help="An ONNX file.")],
    target: TargetFlags,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default="this machine's", help="The profile to predict from."),
    ] = None,
    allow_mismatch: Annotated[
        bool,
        typer.Option("--allow-mismatch", help="Use a profile of another processor, runtime or number of threads."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the kernels that take longest.")] = False,
) -> Answer:
    """Predict the latency of an ONNX file from the machine's profile; peak RAM and energy beside it."""
    from autocompress.cli.progress import watching
    from autocompress.cli.records import target_of
    from autocompress.commands import predict as predicting

    with watching(str(file)):
        found = predicting.predict(file, profile=profile, target=target_of(target), allow_mismatch=allow_mismatch)
    return Answer(facts=found, show=lambda console: show_prediction(console, found, verbose=verbose))


def show_prediction(console: "Console", found: "FilePrediction", *, verbose: bool) -> None:
    """Costs, then kernels if asked for, then notes."""
    from autocompress.cli.tables import pairs_table, say
    from autocompress.units import Kind, format_quantity

    low, high = (format_quantity(end, Kind.TIME) for end in found.interval_ms)
    least, most = (format_quantity(end, Kind.BYTES) for end in found.peak_ram_interval_bytes)
    say(
        console,
        f"{found.file}: predicted for {found.target.runtime}, batch {found.target.batch}, "
        f"threads {found.target.threads}",
        "bold",
    )
    console.print(
        pairs_table(
            (
                ("latency", f"{format_quantity(found.latency_ms, Kind.TIME)}  [{low}, {high}] in 9 of 10 cases"),
                ("from measured kernels", f"{found.measured_ratio:.0%} of it, in {len(found.kernels)} kernels"),
                ("peak RAM", f"{format_quantity(found.peak_ram_bytes, Kind.BYTES)}  [{least}, {most}]"),
                ("energy", f"{found.energy_mj:.3g} mJ, {found.energy_source}"),
            )
        )
    )
    if verbose:
        show_kernels(console, found)
    for note in found.notes:
        say(console, f"note: {note}", "yellow")


def show_kernels(console: "Console", found: "FilePrediction") -> None:
    """The kernels that take longest."""
    from autocompress.cli.tables import plain_table, say

    table = plain_table("kernel", "operator", "µs", "interval", "from", right=("µs", "interval"))
    slowest = sorted(found.kernels, key=lambda kernel: -kernel.us)
    for kernel in slowest[:SHOWN]:
        low, high = kernel.interval_us
        table.add_row(kernel.name, kernel.op, f"{kernel.us:.1f}", f"{low:.1f} – {high:.1f}", kernel.source)
    console.print()
    console.print(table)
    if len(slowest) > SHOWN:
        rest = sum(kernel.us for kernel in slowest[SHOWN:])
        say(console, f"and {len(slowest) - SHOWN} more in {rest:.0f} µs; --json lists all", "dim")
