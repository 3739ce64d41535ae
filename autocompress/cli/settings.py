"""From flags to the run that they mean. Imports the whole package: only for use inside a command."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from autocompress.api import Settings, config_of
from autocompress.cli.flags import DataFlags, ModelFlags, SearchFlags, TargetFlags
from autocompress.cli.records import complaint, data_options, given_flags, pieces, target_of
from autocompress.commands.config import OBJECT, RunConfig
from autocompress.errors import InputError
from autocompress.units import parse_duration

EXAMPLE = "autocompress compress resnet18 --data digits --budget 'latency<=50%' --out runs/digits"


def run_config(
    *,
    model: str | None,
    data: str | None,
    budget: str | Sequence[str] | None,
    file: Path | None,
    weights: ModelFlags,
    inputs: DataFlags,
    target: TargetFlags,
    search: SearchFlags,
) -> RunConfig:
    """The run that the flags ask for; what they leave open is taken from ``file``, a run's configuration.

    Raises:
        InputError: naming the flag that is missing or does not hold.
    """
    before = None if file is None else RunConfig.read(file)
    model = _needed("MODEL", model, before.model if before else None)
    data = _needed("--data", data, before.data if before else None)
    one, sweep = _budgets(budget, before)
    settings = {} if before is None else _settings_of(before)
    settings |= given_flags(weights) | search_settings(search)
    settings["options"] = data_options(inputs, settings.get("seed", 0), settings.get("options"))
    settings["target"] = target_of(target, settings.get("target"))
    return named_by_flags(model, data, one, settings, sweep)


def apply_config(
    *,
    model: str,
    data: str,
    budget: str | None,
    time: str | None,
    seed: int,
    weights: ModelFlags,
    inputs: DataFlags,
    target: TargetFlags,
) -> RunConfig:
    """What a recipe is carried out on.

    Raises:
        InputError: naming the flag that does not hold.
    """
    settings = given_flags(weights) | search_settings(SearchFlags(time=time, seed=seed))
    settings |= {"options": data_options(inputs, seed), "target": target_of(target)}
    return named_by_flags(model, data, budget, settings)


def named_by_flags(
    model: str, data: str, budget: str | None, settings: Mapping[str, Any], sweep: Sequence[str] = ()
) -> RunConfig:
    """``config_of``, whose complaints about a field name its flag.

    Raises:
        InputError: a flag that does not hold.
    """
    try:
        return config_of(model, data, budget, cast("Settings", dict(settings)), sweep)
    except InputError as error:
        if isinstance(error.__cause__, ValidationError):
            raise InputError(complaint(error.__cause__)) from error
        raise


def search_settings(flags: SearchFlags) -> dict[str, Any]:
    """Those of the search's flags that were given.

    Raises:
        InputError: a time, list or number that cannot be read.
    """
    given = given_flags(flags)
    if "time" in given:
        given["time"] = seconds(given["time"])
    if "techniques" in given:
        given["techniques"] = pieces(given["techniques"])
    if "workers" in given:
        given["workers"] = _workers(given["workers"])
    return given


def seconds(text: str) -> float:
    """The time of a run.

    Raises:
        InputError: not a duration.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InputError(f"--time: {error}") from error


def _budgets(given: str | Sequence[str] | None, before: RunConfig | None) -> tuple[str | None, tuple[str, ...]]:
    """One budget, or those of a sweep."""
    several = (given,) if isinstance(given, str) else tuple(given or (before.sweep if before else ()))
    if len(several) > 1 or (several and not given):
        return None, several
    return _needed("--budget", several[0] if several else None, before.budget if before else None), ()


def _needed(name: str, given: str | None, before: str | None) -> str:
    if given:
        return given
    if before == OBJECT:
        raise InputError(f"that run was given a Python object, which a file cannot name; give {name} beside --config")
    if before:
        return before
    raise InputError(f"a run needs MODEL, --data and --budget, or --config FILE; {name} is missing. Example: {EXAMPLE}")


def _settings_of(config: RunConfig) -> dict[str, Any]:
    """All but model, data and budget, as ``config_of`` takes it."""
    names = Settings.__annotations__.keys() - {"time"}
    return {name: getattr(config, name) for name in names} | {"time": config.time_s}


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"--workers takes a number, or auto for one a core; got {text!r}") from error
