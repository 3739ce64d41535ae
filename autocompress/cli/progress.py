"""Who watches a command: the live view on a terminal, lines elsewhere; all on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from autocompress.budget import Metric
from autocompress.cli.progress_lines import LineView
from autocompress.cli.progress_live import LiveView
from autocompress.cli.progress_state import Seen
from autocompress.events import Observer


@contextmanager
def watching(title: str, budget: str = "", minimize: Metric = Metric.LATENCY) -> Iterator[Observer]:
    """An observer for the time of a command; the terminal is as before when it ends, however it ends."""
    console = Console(stderr=True, highlight=False)
    seen = Seen(title=title, budget=budget, minimize=minimize)
    if not console.is_terminal or console.is_dumb_terminal:
        yield LineView(console)
        return
    with LiveView(console, seen) as view:
        yield view
