"""The main job: from model, data and budget to a measured model in a folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from autocompress.budget import Budget, Metric
from autocompress.clock import Clock
from autocompress.commands.config import OBJECT, RunConfig, read_or_explain
from autocompress.commands.folder import RESULT, WORK, check_folder, open_folder
from autocompress.commands.pipeline import Pipeline
from autocompress.commands.prepare import prepare
from autocompress.data.options import DataOptions
from autocompress.errors import BudgetError
from autocompress.events import Observer, Silence
from autocompress.result import Result
from autocompress.search.launcher import Launcher
from autocompress.target import Target
from autocompress.task import Task
from autocompress.units import parse_duration

Model = str | nn.Module | Callable[[], nn.Module]


def compress(
    model: Model,
    data: str | Task,
    budget: str | Budget | Mapping[str, str | float],
    out: str | Path,
    *,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    options: DataOptions | None = None,
    target: Target | None = None,
    time: str | float = "10m",
    trials: int | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    seed: int = 0,
    space: str = "default",
    techniques: Sequence[str] | None = None,
    minimize: str = "latency",
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
    launcher: Launcher | None = None,
) -> Result:
    """The most accurate model that meets ``budget``, in ``out``; or the account of why none does.

    Args:
        model: a timm name, ``path/file.py:factory``, a factory, or a module with the weights that count.
        data: ``digits``, a ``.npz``, a folder of class folders, ``path/file.py:factory``, or a ``Task``.
        budget: for example ``"latency<=5ms,size<=50%"`` or ``Budget(latency="5ms", size="50%")``.
        out: a new or empty folder, unless ``resume`` or ``overwrite``.
        pretrained: start from timm's weights (needs the hub).
        checkpoint: weights in safetensors, or a torch state dict, loaded weights-only.
        options: what overrides the data's own normalization, size and augmentation.
        target: runtime, threads and batch that latency is meant for.
        time: of the whole run, as text (``"10m"``) or seconds.
        trials: at most so many trained candidates.
        workers: one-thread workers on this machine; None is one a core.
        ray_address: a running Ray cluster to use instead.
        seed: of everything random.
        space: a shipped search space or a YAML file.
        techniques: the passes of the space that may be used; None is all.
        minimize: what to minimize when the budget limits nothing but accuracy.
        resume: go on with the run in ``out``.
        overwrite: replace the run in ``out``.
        observer: told of stages, progress and trials.
        launcher: where trials run; None is Ray.

    Returns:
        the result, with ``status`` ``met`` or ``infeasible``; the same as ``out/result.json``.

    Raises:
        InputError: something handed in cannot be used; nothing has been written then.
        RunError: the run could not go on, for example because every trial failed.
    """
    config = read_or_explain(
        RunConfig,
        model=model if isinstance(model, str) else OBJECT,
        data=data if isinstance(data, str) else OBJECT,
        budget=str(Budget.parse(budget)),
        pretrained=pretrained,
        checkpoint=None if checkpoint is None else str(checkpoint),
        options=options or DataOptions(seed=seed),
        target=target or Target(),
        time_s=parse_duration(str(time)),
        trials=trials,
        workers=workers,
        ray_address=ray_address,
        seed=seed,
        space=space,
        techniques=None if techniques is None else tuple(techniques),
        minimize=minimize,
    )
    module = model if isinstance(model, nn.Module) else None if isinstance(model, str) else model()
    return run(
        config,
        Path(out),
        resume=resume,
        overwrite=overwrite,
        observer=observer or Silence(),
        launcher=launcher,
        model=module,
        task=data if isinstance(data, Task) else None,
    )


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
    """``compress`` for a complete configuration."""
    check_budget(config)
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
    before = RunConfig.read(out / "config.yaml")
    return config.time_s > before.time_s or (config.trials or 0) > (before.trials or 0)
