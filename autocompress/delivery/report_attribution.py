"""What each technique brought, in the words and numbers of the report."""

from dataclasses import dataclass

from autocompress.delivery.report_text import NOTHING, Cell, counted, quantity
from autocompress.result import AttributionRow, Result
from autocompress.units import Kind


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What one technique brought: the best trials with and without it, and the table's loss without it."""

    technique: str
    best: Cell
    best_without: Cell
    loss_without: str
    note: str


def attributions(result: Result) -> tuple[Brought, ...]:
    """What each technique brought, the most by measured trials first; techniques without any number come last."""
    rows = sorted(result.attribution, key=lambda row: (_gain(row) is None, -(_gain(row) or 0.0)))
    return tuple(
        Brought(
            technique=row.technique,
            best=_best_trial(row.accuracy_with, row.cost_with, row.trials_with),
            best_without=_best_trial(row.accuracy_without, row.cost_without, row.trials_without),
            loss_without=NOTHING if row.table_loss_without is None else f"{row.table_loss_without:.3g}",
            note=row.note,
        )
        for row in rows
    )


def attribution_sentence(result: Result) -> str:
    """What brought most, in words; empty where no trial shows a difference."""
    shown = [(gain, row) for row in result.attribution if (gain := _gain(row)) is not None and gain > 0]
    if not shown:
        return ""
    _, row = max(shown, key=lambda pair: pair[0])
    return (
        f"Most was brought by {row.technique}: the best trial within the budget scored "
        f"{quantity(row.accuracy_with, Kind.FRACTION)} with it and {quantity(row.accuracy_without, Kind.FRACTION)} "
        "without it."
    )


def table_loss(result: Result) -> str:
    """The loss of the table's allocation with every technique."""
    known = next((row.table_loss for row in result.attribution if row.table_loss is not None), None)
    return "" if known is None else f"{known:.3g}"


def _gain(row: AttributionRow) -> float | None:
    """In accuracy; None where one side was never tried, or costs are what counts."""
    if row.accuracy_with is None or row.accuracy_without is None or row.cost_with is not None:
        return None
    return row.accuracy_with - row.accuracy_without


def _best_trial(accuracy: float | None, cost: float | None, trials: int) -> Cell:
    if accuracy is None:
        return Cell()
    shown = quantity(accuracy, Kind.FRACTION)
    return Cell(text=shown if cost is None else f"{shown} at {cost:.4g}", below=f"best of {counted(trials, 'trial')}")
