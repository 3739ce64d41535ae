"""Flags as small records, and what is said of one that does not hold. Imports nothing heavy."""

from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import ValidationError

from autocompress.cli.flags import DataFlags, ModelFlags, SearchFlags, TargetFlags
from autocompress.data.options import DataOptions
from autocompress.errors import InputError
from autocompress.facts import Facts
from autocompress.target import Target

FLAG_OF = {"time_s": "time", "runtime": "target"}  # fields whose flag has another name
_Facts = TypeVar("_Facts", bound=Facts)


def data_options(flags: DataFlags, seed: int, before: DataOptions | None = None) -> DataOptions:
    """How to read the data.

    Raises:
        InputError: a flag that does not hold.
    """
    given = given_flags(flags)
    for name in ("mean", "std"):
        if name in given:
            given[name] = _numbers(f"--{name}", given[name])
    return _built(DataOptions, before, given | {"seed": seed})


def target_of(flags: TargetFlags, before: Target | None = None) -> Target:
    """What latency is meant for.

    Raises:
        InputError: a flag that does not hold.
    """
    given = given_flags(flags)
    if "target" in given:
        given["runtime"] = given.pop("target")
    return _built(Target, before, given)


def given_flags(flags: ModelFlags | DataFlags | TargetFlags | SearchFlags) -> dict[str, Any]:
    """Name → value of the flags that were given."""
    return {name: value for name, value in asdict(flags).items() if value is not None and value is not False}


def complaint(error: ValidationError) -> str:
    """What is wrong with the first field of ``error``, by the name of its flag."""
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "arguments"
    flag = FLAG_OF.get(field, field).replace("_", "-")
    rule = first["msg"].replace("Input should be", "must be", 1)
    return f"--{flag} {rule}, got {first['input']!r}; --help lists the flags"


def pieces(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(piece.strip() for piece in text.split(",") if piece.strip())


def _built(kind: type[_Facts], before: _Facts | None, given: dict[str, Any]) -> _Facts:
    known = {} if before is None else dict(before)
    try:
        return kind(**known | given)
    except ValidationError as error:
        raise InputError(complaint(error)) from error


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(piece) for piece in pieces(text))
    except ValueError as error:
        raise InputError(f"{flag} takes one number a channel, as 0.485,0.456,0.406; got {text!r}") from error
