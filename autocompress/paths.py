"""Hints for a path that is not there."""

from pathlib import Path

from autocompress.errors import near


def near_path(path: Path) -> str:
    """A hint with the near names beside ``path``, or the folder that is missing already, or nothing."""
    folder = path.parent
    if not folder.is_dir():
        return f"; its folder {folder} is not there either"
    return near(path.name, sorted(entry.name for entry in folder.iterdir()))
