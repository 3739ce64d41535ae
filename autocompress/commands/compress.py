"""The main job: from model, data and budget to a measured model in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from autocompress.budget import Budget, Metric
from autocompress.clock import Clock
from autocompress.commands.config import RunConfig
from autocompress.commands.folder import CLOCK, CONFIG, RESULT, WORK, check_folder, open_folder
from autocompress.commands.pipeline import Pipeline
from autocompress.commands.prepare import Prepared, prepare
from autocompress.commands.survey import search_space
from autocompress.errors import BudgetError
from autocompress.events import Observer, Remembering
from autocompress.result import Result
from autocompress.search.launcher import Launcher, SerialLauncher
from autocompress.task import Task

# Ray's start and the first export of each of its workers take 5 to 15 s on two cores, which the one or two trials of a
# short run do not bring back; with more workers than a few, taken and not measured, they may.
WORTH_WORKERS_S, FEW_WORKERS = 75.0, 4


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a run works with, once its folder is there."""

    prepared: Prepared
    clock: Clock
    launcher: Launcher


def run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer,
    launcher: Launcher | None = None,
    model: nn.Module | None = None,
    task: Task | None = None,
) -> Result:
    """Carry out ``config`` in ``out``; see ``autocompress.compress``.

    ``model`` and ``task`` are objects handed over in Python, in the place of what ``config`` names.
    """
    check_budget(config.budget)
    search_space(config)  # an unknown space or technique is refused before anything is written
    check_folder(out, config, resume=resume, overwrite=overwrite)
    if resume and has_ended(config, out, observer):
        return Result.from_json((out / RESULT).read_text())
    with opened(
        config, out, resume=resume, overwrite=overwrite, observer=observer, launcher=launcher, model=model, task=task
    ) as work:
        return Pipeline(
            prepared=work.prepared,
            out=out,
            clock=work.clock,
            launcher=work.launcher,
            observer=Remembering(observer),
        ).run()


@contextmanager
def opened(
    config: RunConfig,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    observer: Observer,
    launcher: Launcher | None,
    model: nn.Module | None,
    task: Task | None,
) -> Iterator[Opened]:
    """Data and network loaded, the folder made ready; what was started for it ends with it."""
    clock = Clock(config.time_s, out / WORK / CLOCK if resume else None)
    prepared = prepare(config, observer, model=model, task=task)
    weights_bytes = 4 * sum(parameter.numel() for parameter in prepared.model.parameters())
    resolved = config.model_copy(update={"input": prepared.task.preprocess})
    open_folder(out, resolved, weights_bytes * max(1, len(config.sweep)), overwrite=overwrite)
    clock.keep_at(out / WORK / CLOCK)
    owned = launcher is None
    launcher = launcher or launcher_for(config, clock.left_s, prepared.machine.cores, observer)
    try:
        yield Opened(prepared=prepared, clock=clock, launcher=launcher)
    finally:
        clock.save()
        if owned:
            launcher.close()


def check_budget(budget: str) -> None:
    """Refuse limits that cannot be judged on this machine.

    Raises:
        BudgetError: a limit on energy.
    """
    if any(limit.metric is Metric.ENERGY for limit in Budget.parse(budget).limits):
        raise BudgetError("energy cannot be limited: this machine has no meter that is read yet; limit latency instead")


def launcher_for(config: RunConfig, left_s: float, cores: int, observer: Observer) -> Launcher:
    """Workers on Ray; this process alone where few would be there for less time than makes up for their start."""
    workers = config.workers or cores
    if config.ray_address is not None or left_s >= WORTH_WORKERS_S or workers > FEW_WORKERS:
        return ray_launcher(config, cores)
    if config.workers is not None and workers > 1:
        observer.note(f"--workers {workers} has no effect where less than {WORTH_WORKERS_S:g} s are left")
    return SerialLauncher()


def ray_launcher(config: RunConfig, cores: int) -> Launcher:
    """Ray on this machine, or the cluster that the configuration names."""
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    from autocompress.search.launch_ray import RayLauncher  # noqa: PLC0415  # one second that bad input need not pay

    return RayLauncher(config.workers or cores, config.ray_address)


def has_ended(config: RunConfig, out: Path, observer: Observer) -> bool:
    """Whether the run in ``out`` has a result, and is not asked for more; that is said."""
    if not (out / RESULT).is_file() or _asks_for_more(config, out):
        return False
    observer.note("this run has ended; its result stands. Give more --time or --trials to go on")
    return True


def _asks_for_more(config: RunConfig, out: Path) -> bool:
    before = RunConfig.read(out / CONFIG)
    return config.time_s > before.time_s or (config.trials or 0) > (before.trials or 0)
