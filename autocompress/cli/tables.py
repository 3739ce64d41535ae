"""Tables that several commands show."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autocompress.budget import BudgetRow, Metric
from autocompress.delivery.report_text import METRIC_WORDS, bound, quantity
from autocompress.measurement import Latency, ModelFacts
from autocompress.units import Kind, format_quantity


def mark(*, met: bool | None) -> Text:
    """A tick, a cross, or a question mark for what is not known."""
    if met is None:
        return Text("?", "yellow")
    return Text("✓", "green") if met else Text("✗", "bold red")


def plain_table(*columns: str, right: Iterable[str] = ()) -> Table:
    """A table without lines; ``right`` names the columns of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in set(right) else "left", overflow="fold")
    return table


def budget_table(rows: Iterable[BudgetRow]) -> Table:
    """Every limit beside the value."""
    rows = tuple(rows)
    table = plain_table(" ", "budget", "limit", "value", "note" * any(row.note for row in rows), right=("value",))
    for row in rows:
        limit, value = bound(row), quantity(row.value, row.metric.kind)
        table.add_row(mark(met=row.met), METRIC_WORDS[row.metric], limit, value, Text(row.note, "dim"))
    return table


def change_table(before: ModelFacts, after: ModelFacts) -> Table:
    """The original and what was made of it, side by side."""
    table = plain_table(" ", "original", "compressed", right=("original", "compressed"))
    for name, field, kind in (
        ("accuracy, validation", "accuracy_val", Kind.FRACTION),
        ("accuracy, test", "accuracy_test", Kind.FRACTION),
        ("latency, median", "latency_ms", Kind.TIME),
        ("size of the file", "size_bytes", Kind.BYTES),
        ("peak RAM", "peak_ram_bytes", Kind.BYTES),
        ("MACs", "macs", Kind.COUNT),
        ("parameters", "params", Kind.COUNT),
    ):
        table.add_row(name, quantity(getattr(before, field), kind), quantity(getattr(after, field), kind))
    return table


def latency_text(latency: Latency) -> str:
    """Median with its interval."""
    low, high = (format_quantity(end, Metric.LATENCY.kind) for end in latency.interval_ms)
    return f"{format_quantity(latency.median_ms, Kind.TIME)}  [{low}, {high}]"


def noise_text(latency: Latency) -> str:
    """What made a measurement noisy, if something did."""
    if not latency.noisy:
        return ""
    if latency.unrest > 1:
        return "  noisy: other guests of this machine take its caches or half of its core"
    return "  noisy: something else is running"


def pairs_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and what they are."""
    table = plain_table("", "")
    table.show_header = False
    for name, value in rows:
        table.add_row(Text(name, "dim"), Text(value))
    return table


def say(console: Console, text: str, style: str = "") -> None:
    """A line that is not broken and in which nothing is markup: paths and commands can be copied."""
    console.print(Text(text, style=style), soft_wrap=True)
