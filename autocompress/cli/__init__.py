"""The command line: one file a command, and the only part of the package that prints.

Only typer, and rich for help pages, may be imported before a command has begun: ``--help`` must answer at once. So
every command imports what it needs inside its function, and so do the shared files that the help page needs.
"""

from autocompress.cli.app import main

__all__ = ["main"]
