"""From flags to the records that commands take. Imports the whole package: only for use inside a command."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from autocompress.api import Settings, config_of
from autocompress.cli.flags import DataFlags, ModelFlags, SearchFlags, TargetFlags
from autocompress.commands.config import OBJECT, RunConfig
from autocompress.data.options import DataOptions
from autocompress.errors import InputError
from autocompress.facts import Facts
from autocompress.target import Target
from autocompress.units import parse_duration

FLAG_OF = {"time_s": "time", "runtime": "target"}  # fields whose flag has another name
EXAMPLE = "autocompress compress resnet18 --data digits --budget 'latency<=50%' --out runs/digits"
_Facts = TypeVar("_Facts", bound=Facts)


def run_config(
    *,
    model: str | None,
    data: str | None,
    budget: str | None,
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
    budget = _needed("--budget", budget, before.budget if before else None)
    settings = {} if before is None else _settings_of(before)
    settings |= _given(weights) | search_settings(search)
    settings["options"] = data_options(inputs, settings.get("seed", 0), settings.get("options"))
    settings["target"] = target_of(target, settings.get("target"))
    return named_by_flags(model, data, budget, settings)


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
    settings = _given(weights) | search_settings(SearchFlags(time=time, seed=seed))
    settings |= {"options": data_options(inputs, seed), "target": target_of(target)}
    return named_by_flags(model, data, budget, settings)


def named_by_flags(model: str, data: str, budget: str | None, settings: Mapping[str, Any]) -> RunConfig:
    """``config_of``, whose complaints about a field name its flag.

    Raises:
        InputError: a flag that does not hold.
    """
    try:
        return config_of(model, data, budget, cast("Settings", dict(settings)))
    except InputError as error:
        if isinstance(error.__cause__, ValidationError):
            raise InputError(_complaint(error.__cause__)) from error
        raise


def search_settings(flags: SearchFlags) -> dict[str, Any]:
    """Those of the search's flags that were given.

    Raises:
        InputError: a time, list or number that cannot be read.
    """
    given = _given(flags)
    if "time" in given:
        given["time"] = seconds(given["time"])
    if "techniques" in given:
        given["techniques"] = _pieces(given["techniques"])
    if "workers" in given:
        given["workers"] = _workers(given["workers"])
    return given


def data_options(flags: DataFlags, seed: int, before: DataOptions | None = None) -> DataOptions:
    """How to read the data.

    Raises:
        InputError: a flag that does not hold.
    """
    given = _given(flags)
    for name in ("mean", "std"):
        if name in given:
            given[name] = _numbers(f"--{name}", given[name])
    return _built(DataOptions, before, given | {"seed": seed})


def target_of(flags: TargetFlags, before: Target | None = None) -> Target:
    """What latency is meant for.

    Raises:
        InputError: a flag that does not hold.
    """
    given = _given(flags)
    if "target" in given:
        given["runtime"] = given.pop("target")
    return _built(Target, before, given)


def seconds(text: str) -> float:
    """The time of a run.

    Raises:
        InputError: not a duration.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InputError(f"--time: {error}") from error


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


def _given(flags: ModelFlags | DataFlags | TargetFlags | SearchFlags) -> dict[str, Any]:
    return {name: value for name, value in asdict(flags).items() if value is not None and value is not False}


def _built(kind: type[_Facts], before: _Facts | None, given: dict[str, Any]) -> _Facts:
    known = {} if before is None else dict(before)
    try:
        return kind(**known | given)
    except ValidationError as error:
        raise InputError(_complaint(error)) from error


def _complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "arguments"
    flag = FLAG_OF.get(field, field).replace("_", "-")
    rule = first["msg"].replace("Input should be", "must be", 1)
    return f"--{flag} {rule}, got {first['input']!r}; --help lists the flags"


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(piece.strip() for piece in text.split(",") if piece.strip())


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(piece) for piece in _pieces(text))
    except ValueError as error:
        raise InputError(f"{flag} takes one number a channel, as 0.485,0.456,0.406; got {text!r}") from error


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"--workers takes a number, or auto for one a core; got {text!r}") from error
