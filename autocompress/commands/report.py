"""The page of a finished run, drawn again."""

import json
from pathlib import Path

from autocompress.commands.folder import REPORT, RESULT
from autocompress.delivery.report import write_report
from autocompress.delivery.sweep import write_page
from autocompress.errors import InputError
from autocompress.result import Result
from autocompress.sweep import Sweep


def report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Where the page of the run or sweep in ``folder`` was written: ``out``, or ``report.html`` in the folder.

    Raises:
        InputError: no finished run there.
    """
    place = Path(folder)
    path = place / RESULT
    if not path.is_file():
        raise InputError(
            f"a finished run's folder holds {RESULT}; {place} does not; use compress --resume to finish it"
        )
    page = Path(out) if out else place / REPORT
    result = _read(path.read_text(), path)
    if isinstance(result, Sweep):
        write_page(result, page)
    else:
        write_report(result, page)
    return page


def _read(text: str, path: Path) -> Result | Sweep:
    try:
        content = json.loads(text)
        is_sweep = isinstance(content, dict) and "budgets" in content
        return Sweep.from_json(text) if is_sweep else Result.from_json(text)
    except ValueError as error:
        raise InputError(f"{path} is not a result of this version: {error}") from error
