"""Where the package's own files lie, and hints for a path that is not there."""

from importlib import resources
from pathlib import Path

from autocompress.errors import near


def near_path(path: Path) -> str:
    """A hint with the near names beside ``path``, or the folder that is missing already, or nothing."""
    folder = path.parent
    if not folder.is_dir():
        return f"; its folder {folder} is not there either"
    return near(path.name, sorted(entry.name for entry in folder.iterdir()))


def spaces_folder() -> Path:
    """The folder ``search_spaces``: inside the installed package, or beside it in a checkout."""
    inside = Path(str(resources.files("autocompress"))) / "search_spaces"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "search_spaces"
