"""``autocompress spaces``: search spaces and families of students, whether a file is one, and how much it holds."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from autocompress.cli.answer import Answer

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.commands.spaces import CountedFamily, CountedSpace, Spaces

EXAMPLES = """
autocompress spaces

autocompress spaces mbconv

autocompress spaces my_space.yaml
"""


def spaces(
    space: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", show_default=False, help="Check this one only.")
    ] = None,
) -> Answer:
    """List the search spaces and the families of students that are shipped, or check and count one."""
    from autocompress.commands import spaces as counting

    found = counting.spaces(space)
    return Answer(facts=found, show=lambda console: show_spaces(console, found))


def show_spaces(console: "Console", found: "Spaces") -> None:
    """Every space with its passes, every family with its parameters, and how many choices they have."""
    for space in found.spaces:
        _show_space(console, space)
    for family in found.families:
        _show_family(console, family)


def _show_space(console: "Console", counted: "CountedSpace") -> None:
    from autocompress.cli.tables import plain_table, say

    space = counted.space
    _show_title(console, space.name, counted.file, space.about)
    table = plain_table("pass", "setting", "range", "choices", right=("choices",))
    for technique in space.passes.names():
        for setting, values in getattr(space.passes, technique):
            table.add_row(technique, setting, _range_text(values), str(counted.choices[f"{technique}.{setting}"]))
    console.print(table)
    each = "continuous ranges" if counted.per_stage is None else f"{counted.per_stage:,} combinations a stage"
    say(console, f"{each}; every stage of a network has its own settings", "dim")
    console.print()


def _show_family(console: "Console", counted: "CountedFamily") -> None:
    from autocompress.cli.tables import plain_table, say
    from autocompress.students.knobs import FAMILIES

    family = counted.family
    _show_title(console, family.name, counted.file, family.about)
    table = plain_table("parameter", "choices", "what it is")
    for name, choices in family.parameters.items():
        table.add_row(name, _range_text(choices), FAMILIES[family.name].knobs[name].about)
    console.print(table)
    say(console, f"{counted.architectures:,} architectures for inputs of the kind {family.kind}", "dim")
    console.print()


def _show_title(console: "Console", name: str, given: str, about: str) -> None:
    from autocompress.cli.tables import say

    where = "" if given == name else f" ({given})"
    say(console, f"{name}{where}: {about}" if about else f"{name}{where}", "bold")


def _range_text(values: Any) -> str:
    """``0 to 0.85``, or the choices."""
    if isinstance(values, tuple):
        return ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return f"{values.low:g} to {values.high:g}"
