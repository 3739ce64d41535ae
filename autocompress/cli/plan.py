"""``autocompress plan``: what a budget asks for, before anything is trained."""

from typing import TYPE_CHECKING

from autocompress.cli.answer import BUDGET_MISSED, OK, Answer
from autocompress.cli.flags import Budget, Config, Data, DataFlags, Model, ModelFlags, SearchFlags, TargetFlags

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.commands.plan import Plan

EXAMPLES = """
autocompress plan resnet18 --data digits --budget 'latency<=50%,size<=1MB'

autocompress plan resnet18 --data digits --budget 'latency<=2ms' --json
"""


def plan(
    *,
    model: Model = None,
    data: Data = None,
    budget: Budget = None,
    weights: ModelFlags,
    inputs: DataFlags,
    search: SearchFlags,
    target: TargetFlags,
    config: Config = None,
) -> Answer:
    """Measure the original and what uniform recipes can reach; train and write nothing.

    Exit code 0: some uniform recipe meets every cost limit; 3: none does, the answer names the limit that binds.
    """
    from autocompress.cli.progress import watching
    from autocompress.cli.settings import run_config
    from autocompress.commands import plan as planning

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
    with watching(f"{run.model} · {run.data} · {run.budget}", run.budget, run.minimize) as observer:
        found = planning.plan(run, observer=observer)
    return Answer(
        facts=found,
        show=lambda console: show_plan(console, found),
        exit_code=OK if found.feasible else BUDGET_MISSED,
    )


def show_plan(console: "Console", found: "Plan") -> None:
    """Reach, limits, what cannot be used, and how a run would share its time."""
    from rich.text import Text

    from autocompress.cli.tables import budget_table, plain_table, say
    from autocompress.delivery.report_text import METRIC_WORDS, quantity
    from autocompress.units import format_duration

    say(console, found.message, "bold green" if found.feasible else "bold yellow")
    console.print()
    reach = plain_table("metric", "original", "least", "reached by", right=("original", "least"))
    for row in found.reach:
        kind = row.metric.kind
        reach.add_row(
            METRIC_WORDS[row.metric], quantity(row.baseline, kind), quantity(row.least, kind), Text(row.least_by)
        )
    console.print(reach)
    console.print()
    console.print(budget_table(found.rows))
    console.print()
    if found.baseline.accuracy_val is not None:
        say(console, f"accuracy of the original, validation: {found.baseline.accuracy_val:.4f}")
    for option, reason in found.dropped.items():
        say(console, f"not used: {option}: {reason}", "dim")
    stages = ", ".join(f"{name} {format_duration(spent)}" for name, spent in found.stage_estimate_s.items() if spent)
    training = "the original is trained first; " if found.needs_training else ""
    say(console, f"a run, estimated: {stages} ({training}{found.steps_per_s:.1f} training steps a second)")
