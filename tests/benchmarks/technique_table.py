"""The table of techniques in Markdown: one of all networks, then one of each with why layers were left alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from technique_cells import Cell
from technique_rows import NOT_HERE

MOST_REASONS = 3  # of a cell; the JSON has all


def markdown(bases: Mapping[str, Mapping[str, Any]], cells: Sequence[Cell]) -> str:
    """All cells: rows are techniques, columns networks; details below."""
    rows = list(dict.fromkeys(cell.key.row for cell in cells))
    of = {(cell.key.model, cell.key.row): cell for cell in cells}
    head = ["technique alone", *bases]
    lines = [_row(head), _row(["---"] * len(head)), _row(["fp32", *(_base(facts) for facts in bases.values())])]
    lines += [_row([row, *(_short(of.get((model, row)), bases[model]) for model in bases)]) for row in rows]
    lines += [_row([row, *([why] * len(bases))]) for row, why in NOT_HERE.items()]
    details = [_details(model, facts, [of[key] for key in of if key[0] == model]) for model, facts in bases.items()]
    return "\n".join([*lines, "", _legend(cells), "", *details]) + "\n"


def _legend(cells: Sequence[Cell]) -> str:
    floors = sorted(cell.timed.a_a for cell in cells if cell.timed)
    errors = [judged.drop_error_points for cell in cells if (judged := cell.after or cell.before)]
    floor = (
        f"{max(floors):.1%}, half of them below {sorted(floors)[len(floors) // 2]:.1%}" if floors else "(not measured)"
    )
    steps = sorted({cell.key.steps for cell in cells})
    error = f"{max(errors):.1f}" if errors else "-"
    return (
        "Bytes · time of one inference, both as a share of the fp32 file's · points of accuracy lost before → after a "
        f"recovery of {', '.join(map(str, steps))} steps of 64 images under the fp32 network. A file and its copy "
        f"differ in time by up to {floor}. A lost point is known to ± {error} points (standard error) or better; "
        "“?” marks a time that was disturbed."
    )


def _base(facts: Mapping[str, Any]) -> str:
    low, high = facts["interval_points"]
    return f"{_bytes(facts['size_bytes'])}, {facts['accuracy_points']:.1f} % [{low:.1f}, {high:.1f}]"


def _short(cell: Cell | None, base: Mapping[str, Any]) -> str:
    if cell is None:
        return ""
    last = cell.after or cell.before
    if last is None:
        return _why_empty(cell)
    size = f"{last.size_bytes / base['size_bytes']:.0%}"
    return " · ".join([size, _time(cell), _drops(cell)]) + (" (failed in part)" if cell.errors else "")


def _why_empty(cell: Cell) -> str:
    if cell.errors:
        where, what = next(iter(cell.errors.items()))
        return f"failed: {where}: {what}"
    reason = next(iter(cell.reasons), "the network has no part that it could be applied to")
    return f"does not apply: {reason}"


def _time(cell: Cell) -> str:
    return f"{cell.timed.ms / cell.timed.base_ms:.0%}{'?' if cell.timed.noisy else ''}" if cell.timed else "–"


def _drops(cell: Cell) -> str:
    return " → ".join(f"{each.drop_points:.1f}" if each else "–" for each in (cell.before, cell.after))


def _details(model: str, facts: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    head = ["technique alone", "bytes", "ms", "points lost before", "after", "layers changed, left alone", "why"]
    lines = [_row(head), _row(["---"] * len(head))]
    for cell in cells:
        last = cell.after or cell.before
        lines.append(
            _row(
                [
                    cell.key.row,
                    f"{_bytes(last.size_bytes)} ({last.size_bytes / facts['size_bytes']:.0%})" if last else "–",
                    _milliseconds(cell),
                    *(
                        f"{each.drop_points:.1f} ± {each.drop_error_points:.1f}" if each else "–"
                        for each in (cell.before, cell.after)
                    ),
                    f"{cell.changed}, {cell.skipped}",
                    _reasons(cell),
                ]
            )
        )
    size = f"{facts['image_size']}×{facts['image_size']}"
    return "\n".join([f"### {model}, {size}: {_base(facts)}", "", *lines, ""])


def _milliseconds(cell: Cell) -> str:
    if cell.timed is None:
        return "–"
    noisy = ", noisy" if cell.timed.noisy else ""
    return (
        f"{cell.timed.ms:.3f} ({_time(cell).rstrip('?')} of {cell.timed.base_ms:.3f}; A/A {cell.timed.a_a:.1%}{noisy})"
    )


def _reasons(cell: Cell) -> str:
    failed = [f"**failed** {where}: {what}" for where, what in cell.errors.items()]
    shown = [f"{count} × {reason}" for reason, count in list(cell.reasons.items())[:MOST_REASONS]]
    more = len(cell.reasons) - MOST_REASONS
    return "; ".join([*failed, *shown, *([f"{more} more kinds"] if more > 0 else [])])


def _bytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _row(parts: Sequence[str]) -> str:
    """A line of a table; bars and line ends inside a cell would end it."""
    return "| " + " | ".join(part.replace("|", "/").replace("\n", " ") for part in parts) + " |"
