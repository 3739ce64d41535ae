"""``autocompress apply``: one recipe, no search."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import BUDGET_MISSED, OK, Answer
from autocompress.cli.flags import INPUTS, RUN, Budget, DataFlags, ModelFlags, Overwrite, Seed, TargetFlags, Time

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.budget import BudgetRow
    from autocompress.commands.apply import Applied

EXAMPLES = """
autocompress apply runs/digits/best/recipe.yaml resnet18 --checkpoint runs/digits/baseline/model.safetensors --data digits --out runs/replayed
"""  # noqa: E501  # a command is one line


def apply(
    *,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", show_default=False, help="A recipe.yaml.")],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", show_default=False, help="A timm name, or path/file.py:factory.")
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            rich_help_panel=INPUTS,
            help="digits, a .npz, a folder of class folders, or path/file.py:factory.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", rich_help_panel=RUN, help="A new or empty folder.")],
    weights: ModelFlags,
    inputs: DataFlags,
    target: TargetFlags,
    budget: Budget = None,
    time: Time = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
) -> Answer:
    """Carry out one recipe: the same recipe on the same weights and seed gives the same file.

    Exit code 0: the file is made; 3: it is made, and does not meet the --budget that was given.
    """
    from autocompress.budget import Budget as Limits
    from autocompress.cli.progress import watching
    from autocompress.cli.settings import apply_config
    from autocompress.commands import apply as applying

    plan = applying.read_recipe(recipe)
    config = apply_config(
        model=model,
        data=data,
        budget=budget,
        time=time,
        seed=plan.seed if seed is None else seed,
        weights=weights,
        inputs=inputs,
        target=target,
    )
    with watching(f"{recipe} · {model} · {data}", config.budget) as observer:
        applied = applying.apply(plan, config, out, observer=observer, overwrite=overwrite)
    rows = Limits.parse(budget).rows(applied.facts, applied.baseline, "test") if budget else ()
    return Answer(
        facts=applied,
        show=lambda console: show_applied(console, applied, rows),
        exit_code=OK if all(row.met for row in rows) else BUDGET_MISSED,
    )


def show_applied(console: "Console", applied: "Applied", rows: "tuple[BudgetRow, ...]") -> None:
    """Before and after, what was left alone, and where the file is."""
    from autocompress.cli.tables import budget_table, change_table, say

    if rows:
        console.print(budget_table(rows))
        console.print()
    console.print(change_table(applied.baseline, applied.facts))
    console.print()
    for layer, reason in applied.skipped.items():
        say(console, f"left alone: {layer}: {reason}", "dim")
    say(console, f"{len(applied.changed)} layers changed")
    say(console, f"model   {Path(applied.folder) / 'model.onnx'}")
