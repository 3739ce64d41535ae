"""``autocompress compress``: the main job."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import BUDGET_MISSED, OK, Answer
from autocompress.cli.flags import (
    RUN,
    Budgets,
    Config,
    Data,
    DataFlags,
    Model,
    ModelFlags,
    Overwrite,
    SearchFlags,
    TargetFlags,
)

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.result import Result

EXAMPLES = """
autocompress compress resnet18 --data digits --budget 'latency<=60%,size<=35%' --out runs/digits

autocompress compress nets.py:small --checkpoint small.safetensors --data photos/ --budget 'latency<=5ms,accuracy_drop<=1%' --time 30m --out runs/photos

autocompress compress resnet18 --data digits --budget 'size<=50%' --budget 'size<=25%' --time 20m --out runs/sizes

autocompress compress --config runs/digits/config.yaml --out runs/again
"""  # noqa: E501  # a command is one line


def compress(
    *,
    ctx: typer.Context,
    model: Model = None,
    data: Data = None,
    budget: Budgets = None,
    out: Annotated[Path, typer.Option(metavar="DIR", rich_help_panel=RUN, help="A new or empty folder for the run.")],
    weights: ModelFlags,
    inputs: DataFlags,
    search: SearchFlags,
    target: TargetFlags,
    config: Config = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=RUN, help="Go on with the run in --out, after a kill or for longer."),
    ] = False,
    overwrite: Overwrite = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show the controls and what each technique brought, too.")
    ] = False,
) -> Answer:
    """Find the most accurate model that meets a budget, measured on this machine.

    Exit code 0: budget met, of several all; 3: no model meets it, the report says why; 130, 143: stopped, --resume goes
    on.
    """
    from autocompress.cli.progress import watching
    from autocompress.cli.settings import run_config
    from autocompress.cli.sweep import show_sweep
    from autocompress.commands import compress as compressing
    from autocompress.commands import sweep as sweeping
    from autocompress.result import Status

    run = run_config(
        model=model,
        data=data,
        budget=budget,
        file=config,
        weights=weights,
        inputs=inputs,
        target=target,
        search=search,
    )
    asked = f"{len(run.sweep)} budgets" if run.sweep else run.budget
    try:
        with watching(f"{run.model} · {run.data} · {asked}", run.budget, run.minimize) as observer:
            if run.sweep:
                swept = sweeping.run(run, out, resume=resume, overwrite=overwrite, observer=observer)
                return Answer(
                    facts=swept,
                    show=lambda console: show_sweep(console, swept, out),
                    exit_code=OK if swept.status is Status.MET else BUDGET_MISSED,
                )
            result = compressing.run(run, out, resume=resume, overwrite=overwrite, observer=observer)
    except KeyboardInterrupt as stop:
        stop.add_note(how_to_go_on(out, ctx.obj))
        raise
    return Answer(
        facts=result,
        show=lambda console: show_result(console, result, out, verbose=verbose),
        exit_code=OK if result.status is Status.MET else BUDGET_MISSED,
    )


def how_to_go_on(out: Path, argv: Sequence[str] | None) -> str:
    """The command that takes a stopped run up again, or that there is nothing to take up."""
    if not (out / "config.yaml").is_file():
        return "nothing had been written yet"
    words = [word for word in argv or () if word not in ("--overwrite", "--resume")]
    return f"go on with: {shlex.join(['autocompress', *words, '--resume'])}"


def show_result(console: "Console", result: "Result", out: Path, *, verbose: bool = False) -> None:
    """The verdict, the budget, before and after, and where things are."""
    from autocompress.cli.tables import budget_table, change_table, say
    from autocompress.commands.folder import BEST, REPORT

    say(console, result.verdict, "bold green" if result.diagnosis is None else "bold yellow")
    console.print()
    console.print(budget_table(result.budget))
    console.print()
    if result.best is not None:
        console.print(change_table(result.baseline, result.best))
    elif result.diagnosis is not None:
        _show_reach(console, result)
    console.print()
    if verbose:
        _show_evidence(console, result)
    if result.best is not None:
        say(console, f"model   {out / BEST / 'model.onnx'}")
    say(console, f"report  {out / REPORT}")
    if result.best is not None:
        say(console, f"verify  {shlex.join(['autocompress', 'verify', str(out)])}")


def _show_evidence(console: "Console", result: "Result") -> None:
    """Controls, and what each technique brought."""
    from autocompress.cli.tables import mark, plain_table, say
    from autocompress.delivery.report_attribution import attribution_sentence, attributions
    from autocompress.delivery.report_text import cost_ms, quantity
    from autocompress.units import Kind

    controls = plain_table(" ", "control", "accuracy", "latency", "size", "note", right=("accuracy", "latency", "size"))
    for row in result.controls:
        score = quantity(None if row.facts is None else row.facts.accuracy_val, Kind.FRACTION)
        size = quantity(None if row.facts is None else row.facts.size_bytes, Kind.BYTES)
        controls.add_row(mark(met=row.met), row.name, score, cost_ms(row.facts), size, row.note)
    console.print(controls)
    console.print()
    columns = ("best with it", "best without", "table's loss without")
    brought = plain_table("technique", *columns, "note", right=columns)
    for each in attributions(result):
        brought.add_row(each.technique, each.best.text, each.best_without.text, each.loss_without, each.note)
    if result.attribution:
        console.print(brought)
        say(console, f"{attribution_sentence(result)} Scores are of trials, measured; losses are estimated.".strip())
        console.print()


def _show_reach(console: "Console", result: "Result") -> None:
    """What could be had instead of an infeasible budget."""
    from autocompress.cli.tables import plain_table
    from autocompress.delivery.report_text import reaches

    rows = reaches(result)
    numbers = ("best reachable", *(["least by estimate"] * bool(result.diagnosis and result.diagnosis.estimated)))
    table = plain_table("metric", "limit", *numbers, "", right=numbers)
    for reach in rows:
        values = (reach.best, reach.estimated)[: len(numbers)]
        table.add_row(reach.metric, reach.limit, *values, "binds" if reach.binding else "")
    console.print(table)
