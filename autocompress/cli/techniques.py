"""``autocompress techniques``: what each technique is, what it saves here, and where it comes from."""

from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import Answer

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.commands.technique_costs import LayerCost, Saving, TechniqueCosts
    from autocompress.commands.techniques import TechniqueTable

EXAMPLES = """
autocompress techniques

autocompress techniques --json
"""
NOTHING = "–"


def techniques(
    threads: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Show what was measured with so many threads.")
    ] = 1,
) -> Answer:
    """List the techniques: settings, source, what each can save, and what it saved here, as doctor measured it."""
    from autocompress.commands import techniques as listing

    table = listing.techniques(threads=threads)
    return Answer(facts=table, show=lambda console: show_techniques(console, table))


def show_techniques(console: "Console", table: "TechniqueTable") -> None:
    """Every pass, then what was measured."""
    from rich.text import Text

    from autocompress.cli.tables import plain_table, say

    passes = plain_table("technique", "saves", "source", "settings")
    passes.columns[2].no_wrap = True
    for each in table.techniques:
        passes.add_row(each.name, each.saves, each.source.removeprefix("https://"), Text(", ".join(each.settings)))
    console.print(passes)
    console.print()
    if table.measured is None:
        say(console, f"What they save on this machine was not measured yet; this does, in about a minute:\n"
                     f"{table.measure_with}")  # fmt: skip
        return
    show_costs(console, table.measured)
    say(console, f"measured anew by: {table.measure_with}", "dim")


def show_costs(console: "Console", costs: "TechniqueCosts") -> None:
    """Time and bytes of each technique on each layer, as shares of fp32."""
    from autocompress.cli.tables import plain_table, say
    from autocompress.commands.technique_cases import VARIANTS

    names = [layer.name for layer in costs.layers]
    say(console, "On this machine: % of the time / % of the bytes of the same layers in fp32", "bold")
    table = plain_table("technique", *names, right=names)
    for variant in VARIANTS:
        cells = (_cell(costs.saving(variant, name)) for name in names)
        table.add_row(f"{variant.technique}: {variant.setting}", *cells)
    console.print(table)
    console.print()
    for layer in costs.layers:
        say(console, _layer_text(layer), "dim")
    say(console, "int8 includes rounding the input and output, which neighbours in a network share", "dim")
    runtime = costs.circumstances
    say(
        console,
        f"measured {costs.measured_at}, {runtime.cpu}, onnxruntime {runtime.onnxruntime}, threads {runtime.threads}, "
        f"{costs.int8_activations} activations",
        "dim",
    )


def _cell(saving: "Saving | None") -> str:
    if saving is None or saving.latency_ratio is None or saving.size_ratio is None:
        return NOTHING
    return f"{100 * saving.latency_ratio:.0f} / {100 * saving.size_ratio:.0f}"


def _layer_text(layer: "LayerCost") -> str:
    from autocompress.units import Kind, format_quantity

    noisy = "; noisy: something else was running" if layer.noisy else ""
    return (
        f"{layer.name}: {layer.detail}; {format_quantity(layer.latency_ms, Kind.TIME)}, "
        f"{format_quantity(layer.size_bytes, Kind.BYTES)} in fp32; times to ±{layer.floor_ratio:.1%}{noisy}"
    )
