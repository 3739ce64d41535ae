"""The page of a finished run, drawn again."""

from pathlib import Path

from autocompress.commands.folder import REPORT, RESULT
from autocompress.delivery.report import write_report
from autocompress.errors import InputError
from autocompress.result import Result


def report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Where the page of the run in ``folder`` was written: ``out``, or ``report.html`` in the folder.

    Raises:
        InputError: no finished run there.
    """
    place = Path(folder)
    path = place / RESULT
    if not path.is_file():
        raise InputError(
            f"a finished run's folder holds {RESULT}; {place} does not; use compress --resume to finish it"
        )
    try:
        result = Result.from_json(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not a result of this version: {error}") from error
    page = Path(out) if out else place / REPORT
    write_report(result, page)
    return page
