"""``autocompress candidates``: lightweight architectures for a budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import BUDGET_MISSED, OK, Answer
from autocompress.cli.flags import INPUTS, MACHINE, RUN, SEARCH, Data, DataFlags, Overwrite, Seed, TargetFlags

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.search.candidates.facts import Candidate, Candidates

EXAMPLES = """
autocompress candidates mbconv --budget 'latency<=1ms' -n 10 --out candidates

autocompress candidates all --budget 'latency<=1ms,size<=1MB' --input-size 96 --classes 5 --out candidates

autocompress candidates resnet --budget 'macs<=20M' --data digits --time 5m --out candidates --json
"""


def candidates(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE", show_default=False, help="A student family, a YAML file of one, or all that fit the input."
        ),
    ],
    *,
    budget: Annotated[
        str,
        typer.Option(
            metavar="LIMITS",
            show_default=False,
            rich_help_panel=SEARCH,
            help="Limits on latency, size, ram, macs and params, in units; with --data on accuracy too.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", show_default=False, rich_help_panel=RUN, help="A new or empty folder.")
    ],
    n: Annotated[int, typer.Option("-n", "--count", metavar="N", rich_help_panel=SEARCH, help="How many.")] = 20,
    data: Data = None,
    classes: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="10", rich_help_panel=INPUTS, help="Outputs, where there is no data."),
    ] = None,
    inputs: DataFlags,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            show_default="5m, 10m with data",
            rich_help_panel=SEARCH,
            help="Wall clock: 90s, 10m; with data most of it for the race.",
        ),
    ] = None,
    seed: Seed = None,
    target: TargetFlags,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default="this machine's", rich_help_panel=MACHINE, help="The profile to predict from."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Lightweight architectures that meet a budget, measured, each a folder that builds itself; needs no data.

    They are ranked by scores that need no training, with --data by a short race. Exit code 3: nothing in the space
    meets the budget; the answer says what was reached.
    """
    from autocompress.api import candidates as hunt
    from autocompress.cli.progress import watching
    from autocompress.cli.records import data_options, target_of
    from autocompress.cli.settings import seconds

    with watching(f"{space} · {budget}") as observer:
        found = hunt(
            space,
            budget,
            out,
            n=n,
            data=data,
            options=data_options(inputs, seed or 0),
            input_size=inputs.input_size,
            classes=classes,
            target=target_of(target),
            time=None if time is None else seconds(time),
            seed=seed or 0,
            profile=profile,
            overwrite=overwrite,
            observer=observer,
        )
    return Answer(
        facts=found,
        show=lambda console: show_candidates(console, found, out),
        exit_code=OK if found.meets else BUDGET_MISSED,
    )


def show_candidates(console: "Console", found: "Candidates", out: Path) -> None:
    """The verdict, a table, and how near predictions were."""
    from autocompress.cli.tables import plain_table, say

    say(console, found.message, "bold green" if found.meets else "bold yellow")
    raced = any(each.race_steps is not None for each in found.candidates)
    merit = found.metric_name if raced else "evidence"
    table = plain_table("folder", merit, "latency", "predicted", "size", "parameters", "MACs", right=(
        merit, "latency", "predicted", "size", "parameters", "MACs"
    ))  # fmt: skip
    for each in found.candidates:
        table.add_row(each.folder, *_numbers(each, raced=raced))
    if found.candidates:
        console.print()
        console.print(table)
        console.print()
    for name, close in (("just before they were measured", found.predicted), ("by the profile alone", found.profiled)):
        if close is not None:
            say(
                console,
                f"predicted {name}: {close.within_a_tenth} of {close.files} measured files within 10 %, "
                f"median error {close.median_error:.1%}",
                "dim",
            )
    for note in (*found.notes, found.evidence if found.candidates else ""):
        if note:
            say(console, f"note: {note}", "yellow")
    if found.candidates:
        say(console, f"{out / 'index.html'} shows them; {out / 'candidates.json'} holds everything")


def _numbers(each: "Candidate", *, raced: bool) -> tuple[str, ...]:
    from autocompress.delivery.report_text import quantity
    from autocompress.units import Kind

    facts = each.facts
    accuracy = quantity(facts.accuracy_val, Kind.FRACTION)
    return (
        f"{accuracy} after {each.race_steps} steps" if raced else f"{each.evidence:.2f}",
        quantity(facts.latency_ms, Kind.TIME),
        quantity(facts.latency_predicted_ms, Kind.TIME),
        quantity(facts.size_bytes, Kind.BYTES),
        quantity(facts.params, Kind.COUNT),
        quantity(facts.macs, Kind.COUNT),
    )
