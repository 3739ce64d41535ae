"""What ``autocompress compress`` shows of a sweep."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.measurement import ModelFacts
    from autocompress.sweep import Sweep


def show_sweep(console: "Console", sweep: "Sweep", out: Path) -> None:
    """The verdict, a line for each budget, and where things are."""
    from autocompress.cli.tables import mark, plain_table, say
    from autocompress.commands.folder import REPORT
    from autocompress.result import Status

    met = sweep.status is Status.MET
    say(console, sweep.verdict, "bold green" if met else "bold yellow")
    console.print()
    numbers = ("accuracy, test", "latency", "size")
    table = plain_table(" ", "budget", *numbers, "folder", right=numbers)
    table.add_row("", "original", *_numbers(sweep.baseline), "")
    for row in sweep.budgets:
        table.add_row(mark(met=row.status is Status.MET), row.budget, *_numbers(row.best), str(out / row.folder))
    console.print(table)
    console.print()
    for row in sweep.budgets:
        if row.nearest_budget:
            say(console, f"nearest to {row.budget} that can be met: {row.nearest_budget}")
    say(console, f"report  {out / REPORT}")
    first = next((row.folder for row in sweep.budgets if row.best is not None), None)
    if first is not None:
        say(console, f"verify  {shlex.join(['autocompress', 'verify', str(out / first)])}")


def _numbers(facts: "ModelFacts | None") -> tuple[str, ...]:
    """Test accuracy, latency and size."""
    from autocompress.delivery.report_text import quantity
    from autocompress.units import Kind

    fields = (("accuracy_test", Kind.FRACTION), ("latency_ms", Kind.TIME), ("size_bytes", Kind.BYTES))
    return tuple(quantity(getattr(facts, name, None), kind) for name, kind in fields)
