"""A run's folder: whether it may be used, and where things lie in it."""

import shutil
from pathlib import Path

from autocompress.commands.config import RunConfig
from autocompress.errors import InputError, OutputError
from autocompress.facts import write_whole

CONFIG, JOURNAL, RESULT, REPORT = "config.yaml", "study.journal", "result.json", "report.html"
BEST, PARETO, BASELINE, WORK = "best", "pareto", "baseline", "work"
CLOCK = "clock.json"  # in WORK
_OURS = (CONFIG, JOURNAL, RESULT, REPORT, BEST, PARETO, BASELINE, WORK)
# Finalists, the bundles made of them and the baseline: each holds the weights twice (ONNX and safetensors).
_COPIES_OF_WEIGHTS = 8
_SLACK_BYTES = 50_000_000


def check_folder(out: Path, config: RunConfig, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that this run may not write to; nothing is written.

    Raises:
        OutputError: it holds a run or other files, or ``resume`` finds no run, or one that was asked for otherwise.
    """
    if resume and overwrite:
        raise OutputError("--resume goes on with a run and --overwrite replaces it; give one of them")
    if out.is_file():
        raise OutputError(f"--out must be a folder, and {out} is a file; name another place")
    holds_run = (out / CONFIG).is_file()
    if resume:
        _check_same_run(out, config, holds_run=holds_run)
    elif holds_run and not overwrite:
        raise OutputError(
            f"{out} already holds a run; use --resume to go on with it, --overwrite to replace it, or another --out"
        )
    elif not holds_run and out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} holds files that are not a run's; give a new or empty folder to --out")


def open_folder(out: Path, config: RunConfig, weights_bytes: int, *, overwrite: bool) -> None:
    """Make the folder ready: clear an overwritten run and state the configuration.

    Raises:
        OutputError: too little disk, or the place cannot be written to.
    """
    place = next(parent for parent in (out, *out.absolute().parents) if parent.is_dir())
    needed = _COPIES_OF_WEIGHTS * weights_bytes + _SLACK_BYTES
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OutputError(
            f"a run on this model needs about {needed // 10**6} MB of disk, {place} has {free // 10**6} MB; "
            "make room or give another --out"
        )
    try:
        if overwrite:
            _clear(out)
        write_whole(out / CONFIG, config.to_yaml())
    except OSError as error:
        raise OutputError(f"--out must be a place that can be written to, got {out}: {error.strerror}") from error


def _check_same_run(out: Path, config: RunConfig, *, holds_run: bool) -> None:
    if not holds_run:
        raise OutputError(f"--resume needs a run in {out}, and there is none; leave --resume out to begin one")
    before = RunConfig.read(out / CONFIG)
    changed = config.differences(before)
    if changed:
        name = changed[0]
        raise OutputError(
            f"a resumed run keeps what it was asked for; {name} was {getattr(before, name)!r} and is now "
            f"{getattr(config, name)!r}; change it back, or begin another run with another --out"
        )


def part(number: int) -> str:
    """The folder of a sweep's run, counted from 1, in that of the sweep."""
    return f"{number:02d}"


def _parts(out: Path) -> list[str]:
    """Folders of the sweep in ``out``, if one is there that can be read."""
    try:
        return [part(number) for number, _ in enumerate(RunConfig.read(out / CONFIG).sweep, 1)]
    except InputError:
        return []


def _clear(out: Path) -> None:
    for name in (*_OURS, *_parts(out)):
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
