"""The picture of a run for a terminal: fits 80 × 24, and shows more where there is room."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autocompress.budget import BudgetRow, Metric
from autocompress.cli.progress_state import Seen
from autocompress.cli.progress_words import NOTHING, outcome, time_left
from autocompress.delivery.report_text import METRIC_WORDS, bound, cost_ms, last_line, trial_ms
from autocompress.measurement import ModelFacts
from autocompress.result import TrialRecord, TrialState
from autocompress.units import format_duration, format_quantity

BAR_WIDTH = 30
ALWAYS = (Metric.ACCURACY, Metric.LATENCY, Metric.SIZE)
TRIAL_COLUMNS = (5, 6, 7, 7)  # number, accuracy, latency, size


def render(seen: Seen, now: float, height: int) -> RenderableType:
    """Everything worth knowing now, in at most ``height - 1`` lines; long lines are cut at the terminal's edge."""
    parts: list[RenderableType] = [_line(seen.title, "bold"), *_stages(seen, now), *_bars(seen, now)]
    used = len(parts)
    if seen.baseline is not None:
        table = _comparison(seen, seen.baseline)
        parts += [Text(), table]
        used += table.row_count + 2
    # What is left is shared: notes say what the user should know, so up to three have their place before trials.
    left = height - 1 - used
    notes = seen.notes[-min(3, max(0, left - 3)) :] if left > 3 else ()
    left -= len(notes) + 1 if notes else 0
    if seen.counts:
        parts += [Text(), *_trials(seen, max(0, left - 2))]
    if notes:
        parts += [Text(), *(_line(f"· {note}", "dim") for note in notes)]
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _stages(seen: Seen, now: float) -> list[Text]:
    """Stages that are over, and the one that is not."""
    over = "  ".join(f"{name} {format_duration(seconds)}" for name, seconds in seen.finished[-6:])
    lines = [_line(f"✓ {over}", "green dim")] if over else []
    if seen.stage:
        current = _line("▸ ", "cyan")
        current.append(seen.stage, style="bold cyan")
        current.append(f" {format_duration(now - seen.stage_started)}", style="cyan")
        current.append(f"  {seen.detail}", style="default")
        lines.append(current)
    return lines


def _bars(seen: Seen, now: float) -> list[RenderableType]:
    """The run's time, and how far the stage is."""
    elapsed = now - seen.started
    bars: list[RenderableType] = []
    if seen.ends is None:
        bars.append(_line(f"  {format_duration(elapsed)}"))
    else:
        total = max(seen.ends - seen.started, elapsed)
        bars.append(_bar(elapsed, total, f"{format_duration(elapsed)}, {time_left(seen.ends - now)}"))
    if seen.total:
        bars.append(_bar(seen.done, seen.total, f"{seen.done}/{seen.total} {seen.what}"))
    return bars


def _bar(done: float, total: float, words: str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(width=BAR_WIDTH)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row("", ProgressBar(total=total, completed=done, width=BAR_WIDTH), Text(words))
    return grid


def _comparison(seen: Seen, baseline: ModelFacts) -> Table:
    """Original, best so far and limit of every metric that matters."""
    rows = {row.metric: row for row in seen.rows()}
    best = seen.best.facts if seen.best else None
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("", "original", "best so far", "limit", ""):
        table.add_column(name, justify="left" if name in ("", "limit") else "right", no_wrap=True)
    for metric in (*ALWAYS, *(other for other in rows if other not in (*ALWAYS, Metric.ACCURACY_DROP))):
        table.add_row(f"  {_name(metric)}", _value(metric, baseline), _value(metric, best), *_limits(metric, rows))
    return table


def _name(metric: Metric) -> str:
    return "accuracy, val" if metric is Metric.ACCURACY else METRIC_WORDS[metric]


def _value(metric: Metric, facts: ModelFacts | None) -> str:
    if facts is None:
        return NOTHING
    if metric is Metric.LATENCY:
        return cost_ms(facts)
    value = facts.accuracy_val if metric is Metric.ACCURACY else metric.of(facts)
    return NOTHING if value is None else format_quantity(value, metric.kind)


def _limits(metric: Metric, rows: dict[Metric, BudgetRow]) -> tuple[str, Text]:
    """The limit on a metric and whether the best meets it; a limit on the drop stands in accuracy's row."""
    wanted = (metric, Metric.ACCURACY_DROP) if metric is Metric.ACCURACY else (metric,)
    found = [rows[each] for each in wanted if each in rows]
    words = ", ".join(f"drop {bound(row)}" if row.metric is Metric.ACCURACY_DROP else bound(row) for row in found)
    known = [row.met for row in found if row.met is not None]
    mark = Text() if not known else Text("✓", "green") if all(known) else Text("✗", "red")
    return words, mark


def _trials(seen: Seen, most: int) -> list[RenderableType]:
    """How many trials ended how, and the last ``most`` of them, the newest first."""
    trained, over, failed = (seen.count(state) for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED))
    head = Text("  trials  ", style="dim", no_wrap=True)
    head.append(f"{trained} trained, {over} outside the budget", style="not dim default")
    head.append(f", {failed} failed", style="not dim red" if failed else "not dim default")
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for width in TRIAL_COLUMNS:
        table.add_column(justify="right", min_width=width, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for record in seen.trials[: -most - 1 : -1]:
        table.add_row(*_trial_cells(record, is_best=record is seen.best), style=_style(record))
    return [head, table] if table.row_count else [head]


def _style(record: TrialRecord) -> str:
    if record.state is TrialState.FAILED:
        return "red"
    return "" if record.within_budget else "dim"


def _trial_cells(record: TrialRecord, *, is_best: bool) -> tuple[Text | str, ...]:
    words = last_line(record) if record.state is TrialState.FAILED else record.summary
    words = f"{record.control}: {words}" if record.control else words
    number = Text(f"{'★ ' if is_best else ''}{record.number}", style="green" if is_best else "")
    costs = (trial_ms(record), _value(Metric.SIZE, record.facts))
    return number, outcome(record), *costs, Text(words)
