"""The package from Python: the same commands as on the command line, with objects allowed where those take names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

from torch import nn

from autocompress.budget import Budget
from autocompress.commands import apply as applying
from autocompress.commands import candidates as hunting
from autocompress.commands import compress as compressing
from autocompress.commands import plan as planning
from autocompress.commands import sweep as sweeping
from autocompress.commands.candidates_request import Request
from autocompress.commands.config import OBJECT, RunConfig, read_or_explain
from autocompress.data.options import DataOptions
from autocompress.errors import InputError
from autocompress.events import Observer, Silence
from autocompress.recipe import Recipe
from autocompress.result import Result
from autocompress.search.candidates.facts import Candidates
from autocompress.search.launcher import Launcher
from autocompress.sweep import Sweep
from autocompress.target import Target
from autocompress.task import Task
from autocompress.units import parse_duration

Model = str | nn.Module | Callable[[], nn.Module]
BudgetLike = str | Budget | Mapping[str, str | float]
Budgets = list[BudgetLike] | tuple[BudgetLike, ...]


class Settings(TypedDict, total=False):
    """What ``compress``, ``plan`` and ``apply`` take beside model, data and budget; all may be left out.

    pretrained: start from timm's weights (needs the hub). checkpoint: weights in safetensors, or a torch state dict,
    loaded weights-only. options: overrides the data's own normalization, size and augmentation. target: runtime,
    threads and batch that latency is meant for. time: of the whole run, ``"10m"`` or seconds. trials: at most so many
    trained candidates. workers: one-thread workers on this machine, None for one a core; short runs have none.
    ray_address: a running Ray cluster to use instead. seed: of everything random. space: a shipped search space or a
    YAML file. techniques: the passes of the space that may be used, None for all. sampler: what proposes candidates,
    ``surrogate``, ``tpe``, ``nsga2`` or ``random``. minimize: what to minimize when the budget limits nothing but
    accuracy.
    """

    pretrained: bool
    checkpoint: str | Path | None
    options: DataOptions
    target: Target
    time: str | float
    trials: int | None
    workers: int | None
    ray_address: str | None
    seed: int
    space: str
    techniques: Sequence[str] | None
    sampler: str
    minimize: str


@overload
def compress(
    model: Model,
    data: str | Task,
    budget: BudgetLike,
    out: str | Path,
    *,
    resume: bool = ...,
    overwrite: bool = ...,
    observer: Observer | None = ...,
    launcher: Launcher | None = ...,
    **settings: Unpack[Settings],
) -> Result: ...


@overload
def compress(
    model: Model,
    data: str | Task,
    budget: Budgets,
    out: str | Path,
    *,
    resume: bool = ...,
    overwrite: bool = ...,
    observer: Observer | None = ...,
    launcher: Launcher | None = ...,
    **settings: Unpack[Settings],
) -> Sweep: ...


def compress(
    model: Model,
    data: str | Task,
    budget: BudgetLike | Budgets,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
    launcher: Launcher | None = None,
    **settings: Unpack[Settings],
) -> Result | Sweep:
    """The most accurate model that meets ``budget``, in ``out``; or the account of why none does.

    Args:
        model: a timm name, ``path/file.py:factory``, a factory, or a module with the weights that count.
        data: ``digits``, a ``.npz``, a folder of class folders, ``path/file.py:factory``, or a ``Task``.
        budget: for example ``"latency<=5ms,size<=50%"`` or ``Budget(latency="5ms", size="50%")``; a list or tuple of
            them is a sweep: a model for each, in ``out/01``, ``out/02`` and so on, from one training of the original
            and one sensitivity table. The time is for all of them, ``trials`` for each.
        out: a new or empty folder, unless ``resume`` or ``overwrite``.
        resume: go on with the run in ``out``.
        overwrite: replace the run in ``out``.
        observer: told of stages, progress and trials.
        launcher: where trials run; None is Ray, or this process where the time is short.
        **settings: see ``Settings``.

    Returns:
        the result, with ``status`` ``met`` or ``infeasible``, or that of a sweep; the same as ``out/result.json``.

    Raises:
        InputError: something handed in cannot be used; nothing has been written then.
        RunError: the run could not go on, for example because every trial failed.
    """
    given: dict[str, Any] = {
        "resume": resume,
        "overwrite": overwrite,
        "observer": observer or Silence(),
        "launcher": launcher,
        "task": data if isinstance(data, Task) else None,
    }
    if isinstance(budget, list | tuple):
        config = config_of(model, data, None, settings, sweep=budget)
        return sweeping.run(config, Path(out), model=_module(model), **given)
    return compressing.run(config_of(model, data, budget, settings), Path(out), model=_module(model), **given)


def plan(
    model: Model,
    data: str | Task,
    budget: BudgetLike,
    *,
    observer: Observer | None = None,
    launcher: Launcher | None = None,
    **settings: Unpack[Settings],
) -> planning.Plan:
    """What the budget asks of this model on this machine, before anything is trained; arguments as in ``compress``.

    Raises:
        InputError: something handed in cannot be used.
    """
    return planning.plan(
        config_of(model, data, budget, settings),
        observer=observer or Silence(),
        model=_module(model),
        task=data if isinstance(data, Task) else None,
        launcher=launcher,
    )


def apply(
    recipe: Recipe | str | Path,
    model: Model,
    data: str | Task,
    out: str | Path,
    *,
    budget: BudgetLike | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
    **settings: Unpack[Settings],
) -> applying.Applied:
    """One recipe carried out on a model, without a search; other arguments as in ``compress``.

    The seed of the recipe holds for its passes, ``settings``'s seed for the data's order: give the run's own to get
    the run's own file.

    Raises:
        InputError: recipe, model or data cannot be used; nothing has been written then.
    """
    if not isinstance(recipe, Recipe):
        recipe = applying.read_recipe(recipe)
    settings.setdefault("seed", recipe.seed)
    return applying.apply(
        recipe,
        config_of(model, data, budget, settings),
        Path(out),
        observer=observer or Silence(),
        overwrite=overwrite,
        model=_module(model),
        task=data if isinstance(data, Task) else None,
    )


def candidates(
    space: str,
    budget: BudgetLike,
    out: str | Path,
    *,
    n: int = 20,
    data: str | Task | None = None,
    options: DataOptions | None = None,
    input_size: int | None = None,
    classes: int | None = None,
    target: Target | None = None,
    time: str | float | None = None,
    seed: int = 0,
    profile: str | Path | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
    launcher: Launcher | None = None,
) -> Candidates:
    """Up to ``n`` architectures that meet ``budget``, spread over its first cost, the best first; each a folder.

    Args:
        space: a student family, a YAML file of one, or ``all`` for every family that takes the inputs.
        budget: limits on latency, size, ram, macs and params, in units; with ``data`` on accuracy too.
        out: a new or empty folder, unless ``overwrite``.
        n: how many.
        data: what they race on for a short time; None ranks them by scores that need no training.
        options: overrides the data's own normalization, size and augmentation.
        input_size: height and width of images; 96 without data.
        classes: outputs; 10 without data, whose own they are otherwise.
        target: threads and batch that latency is meant for.
        time: of the whole command, ``"5m"`` or seconds; 5 minutes, with data 10, most of them for the race.
        seed: of everything random.
        profile: the folder of a latency profile; None is this machine's, if there is one.
        workers: of the race, with one thread each; None is one a core.
        overwrite: replace the candidates in ``out``.
        observer: told of stages and progress.
        launcher: where the race runs; None is Ray.

    Returns:
        the same as ``out/candidates.json``; none in it where nothing in the space meets the budget.

    Raises:
        InputError: something handed in cannot be used; nothing has been written then.
    """
    request = Request.of(
        space=space,
        budget=str(Budget.parse(budget)),
        n=n,
        data=OBJECT if isinstance(data, Task) else data,
        options=options,
        input_size=input_size,
        classes=classes,
        target=target,
        time_s=None if time is None else _seconds(time),
        seed=seed,
        profile=None if profile is None else str(profile),
        workers=workers,
    )
    return hunting.find(
        request,
        Path(out),
        observer=observer or Silence(),
        overwrite=overwrite,
        task=data if isinstance(data, Task) else None,
        launcher=launcher,
    )


def config_of(
    model: Model, data: str | Task, budget: BudgetLike | None, settings: Settings, sweep: Sequence[BudgetLike] = ()
) -> RunConfig:
    """The run that these arguments mean; either of one budget, or of those of a sweep.

    Raises:
        InputError: one of them does not hold.
    """
    given: dict[str, Any] = dict(settings)
    seed = given.get("seed", 0)
    if "time" in given:
        given["time_s"] = _seconds(given.pop("time"))
    for name, kind in (("checkpoint", str), ("techniques", tuple)):
        if given.get(name) is not None:
            given[name] = kind(given[name])
    given.setdefault("options", DataOptions(seed=seed))
    return read_or_explain(
        RunConfig,
        model=model if isinstance(model, str) else OBJECT,
        data=data if isinstance(data, str) else OBJECT,
        budget="" if budget is None else str(Budget.parse(budget)),
        sweep=tuple(str(Budget.parse(each)) for each in sweep),
        **given,
    )


def _module(model: Model) -> nn.Module | None:
    if isinstance(model, str):
        return None
    return model if isinstance(model, nn.Module) else model()


def _seconds(time: str | float) -> float:
    try:
        return parse_duration(str(time))
    except ValueError as error:
        raise InputError(f"time: {error}") from error
