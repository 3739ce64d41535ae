"""The main job: from model, data and budget to a measured model in a folder."""

import os
from pathlib import Path

from torch import nn

from autocompress.budget import Budget, Metric
from autocompress.clock import Clock
from autocompress.commands.config import RunConfig
from autocompress.commands.folder import CONFIG, RESULT, WORK, check_folder, open_folder
from autocompress.commands.pipeline import Pipeline
from autocompress.commands.prepare import prepare
from autocompress.commands.survey import search_space
from autocompress.errors import BudgetError
from autocompress.events import Observer
from autocompress.result import Result
from autocompress.search.launcher import Launcher
from autocompress.task import Task


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
    check_budget(config)
    search_space(config)  # an unknown space or technique is refused before anything is written
    check_folder(out, config, resume=resume, overwrite=overwrite)
    if resume and (out / RESULT).is_file() and not _asks_for_more(config, out):
        observer.note("this run has ended; its result stands. Give more --time or --trials to go on")
        return Result.from_json((out / RESULT).read_text())
    clock = Clock(config.time_s, out / WORK / "clock.json" if resume else None)
    prepared = prepare(config, observer, model=model, task=task)
    weights_bytes = 4 * sum(parameter.numel() for parameter in prepared.model.parameters())
    resolved = config.model_copy(update={"input": prepared.task.preprocess})
    open_folder(out, resolved, weights_bytes, overwrite=overwrite)
    clock.keep_at(out / WORK / "clock.json")
    owned = launcher is None
    launcher = launcher or ray_launcher(config, prepared.machine.cores)
    try:
        return Pipeline(prepared=prepared, out=out, clock=clock, launcher=launcher, observer=observer).run()
    finally:
        clock.save()
        if owned:
            launcher.close()


def check_budget(config: RunConfig) -> None:
    """Refuse limits that cannot be judged on this machine.

    Raises:
        BudgetError: a limit on energy.
    """
    if any(limit.metric is Metric.ENERGY for limit in Budget.parse(config.budget).limits):
        raise BudgetError("energy cannot be limited: this machine has no meter that is read yet; limit latency instead")


def ray_launcher(config: RunConfig, cores: int) -> Launcher:
    """Ray on this machine, or the cluster that the configuration names."""
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    from autocompress.search.launch_ray import RayLauncher  # noqa: PLC0415  # one second that bad input need not pay

    return RayLauncher(config.workers or cores, config.ray_address)


def _asks_for_more(config: RunConfig, out: Path) -> bool:
    before = RunConfig.read(out / CONFIG)
    return config.time_s > before.time_s or (config.trials or 0) > (before.trials or 0)
