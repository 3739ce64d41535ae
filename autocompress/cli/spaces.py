"""``autocompress spaces``: the search spaces, and whether a file is one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from autocompress.cli.answer import Answer

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.search.space import SearchSpace

EXAMPLES = """
autocompress spaces

autocompress spaces my_space.yaml
"""


def spaces(
    space: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", show_default=False, help="Check this one only.")
    ] = None,
) -> Answer:
    """List the search spaces that are shipped, or check one, with the passes they use and their ranges."""
    from autocompress.search.space import load_space, shipped_spaces

    names = list(shipped_spaces()) if space is None else [space]
    found = {name: load_space(name) for name in names}
    facts = {"spaces": [each.model_dump(mode="json") for each in found.values()]}
    return Answer(facts=facts, show=lambda console: show_spaces(console, found))


def show_spaces(console: "Console", found: "dict[str, SearchSpace]") -> None:
    """Every pass of every space with its ranges."""
    from autocompress.cli.tables import plain_table, say

    for given, space in found.items():
        where = "" if given == space.name else f" ({given})"
        say(console, f"{space.name}{where}: {space.about}", "bold")
        table = plain_table("pass", "setting", "range")
        for technique in space.passes.names():
            for setting, values in getattr(space.passes, technique):
                table.add_row(technique, setting, _range_text(values))
        console.print(table)


def _range_text(values: Any) -> str:
    """``0 to 0.85``, or the choices."""
    if isinstance(values, tuple):
        return ", ".join(str(value) for value in values)
    return f"{values.low:g} to {values.high:g}"
