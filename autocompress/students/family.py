"""Families of student architectures: the choices of each parameter, and single architectures drawn from them.

A family's file is YAML in ``search_spaces/students/``; what a parameter means and may be stands in ``knobs``::

    schema: 1
    name: vit
    about: Vision transformers.
    kind: image
    parameters:
      width: [48, 64, 96]
      ...

``sample(load_family("vit"), np.random.default_rng(0))`` is an ``Architecture``; ``students.build.build`` makes it.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from autocompress.errors import SpaceError, near
from autocompress.facts import Facts
from autocompress.paths import spaces_folder
from autocompress.students.knobs import FAMILIES, InputKind, Knobs, Rule, Value

__all__ = [
    "Architecture",
    "Family",
    "InputKind",
    "Value",
    "count",
    "enumerate_all",
    "families_for",
    "kind_of_input",
    "largest",
    "load_family",
    "sample",
    "shipped_families",
    "smallest",
]


class Architecture(Facts):
    """One network of a family: a value for every parameter. Complete without the file that it was drawn from."""

    family: str
    values: dict[str, Value]

    @field_validator("family")
    @classmethod
    def _is_known(cls, family: str) -> str:
        return _known(family)

    @model_validator(mode="before")
    @classmethod
    def _holds_together(cls, data: Any) -> Any:
        """Every value as its parameter has it: 1 and 1.0 of a share are one architecture with one digest."""
        if not isinstance(data, dict) or data.get("family") not in FAMILIES or not isinstance(data.get("values"), dict):
            return data
        knobs = FAMILIES[data["family"]]
        _require_names(knobs, data["values"])
        values = {name: _read(knobs, name, data["values"][name]) for name in knobs.knobs}
        for rule in knobs.rules:
            if not rule.holds(values):
                got = ", ".join(f"{name} {values[name]}" for name in rule.parameters)
                choices = {name: (value,) for name, value in values.items()}
                raise ValueError(f"{rule.says}, got {got}{_nearest_valid(knobs, rule, choices)}")
        return {**data, "values": values}

    @property
    def kind(self) -> InputKind:
        """What samples the network takes."""
        return FAMILIES[self.family].kind


class Family(Facts):
    """The architectures of one family that a search may try: the choices of each parameter."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(1, alias="schema", ge=1, le=1)
    name: str
    about: str = ""
    kind: InputKind
    parameters: dict[str, tuple[Value, ...]]

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return _known(name)

    @field_validator("kind")
    @classmethod
    def _is_that_of_the_family(cls, kind: InputKind, info: ValidationInfo) -> InputKind:
        wanted = FAMILIES[info.data["name"]].kind if "name" in info.data else kind
        if kind != wanted:
            raise ValueError(f"{info.data['name']} is of kind {wanted}, got {kind}")
        return kind

    @field_validator("parameters", mode="before")
    @classmethod
    def _hold_together(cls, parameters: Any, info: ValidationInfo) -> Any:
        if "name" not in info.data or not isinstance(parameters, dict):
            return parameters
        knobs = FAMILIES[info.data["name"]]
        _require_names(knobs, parameters)
        read = {name: _choices(knobs, name, parameters[name]) for name in knobs.knobs}
        for rule in knobs.rules:
            if not _valid((rule,), read, rule.parameters):
                got = ", ".join(f"{name} {list(read[name])}" for name in rule.parameters)
                raise ValueError(f"no choices go together: {rule.says}, got {got}{_nearest_valid(knobs, rule, read)}")
        return read


def shipped_families() -> dict[str, Path]:
    """Name → file of the families that come with the package."""
    return {path.stem: path for path in sorted((spaces_folder() / "students").glob("*.yaml"))}


def load_family(name_or_file: str) -> Family:
    """A shipped family by name, or one from a YAML file.

    Raises:
        SpaceError: no such family, or a file that does not hold together.
    """
    shipped = shipped_families()
    path = shipped.get(name_or_file, Path(name_or_file))
    if not path.is_file():
        raise SpaceError(
            f"a family is one of {', '.join(shipped)} or a YAML file; got {name_or_file!r}{near(name_or_file, shipped)}"
        )
    try:
        return Family.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise SpaceError(f"{path} must be YAML: {error}") from error
    except ValidationError as error:
        raise SpaceError(f"{path}{_where(error)}") from error


def kind_of_input(shape: Sequence[int], dtype: str = "float32") -> InputKind | None:
    """What a model input of ``shape`` (without the batch) is; None where no family takes it."""
    if not dtype.startswith("float"):
        return None
    return {1: InputKind.VECTOR, 2: InputKind.SERIES, 3: InputKind.IMAGE}.get(len(shape))


def families_for(shape: Sequence[int], dtype: str = "float32") -> tuple[str, ...]:
    """The shipped families that take a model input of ``shape`` (without the batch); empty where none does."""
    kind = kind_of_input(shape, dtype)
    return tuple(name for name in shipped_families() if FAMILIES[name].kind == kind)


def count(family: Family) -> int:
    """How many architectures the family has, exactly."""
    tied = _tied(family)
    free = math.prod(len(choices) for name, choices in family.parameters.items() if name not in tied)
    return free * len(_valid_of(family, tied))


def enumerate_all(family: Family) -> Iterator[Architecture]:
    """Every architecture of the family, the last parameter changing first."""
    for values in itertools.product(*family.parameters.values()):
        each = dict(zip(family.parameters, values, strict=True))
        if all(rule.holds(each) for rule in FAMILIES[family.name].rules):
            yield Architecture(family=family.name, values=each)


def sample(family: Family, rng: np.random.Generator) -> Architecture:
    """One architecture, each as likely as any other."""
    tied = _tied(family)
    valid = _valid_of(family, tied)
    drawn = dict(zip(tied, valid[rng.integers(len(valid))], strict=True))
    values = {
        name: drawn[name] if name in drawn else choices[rng.integers(len(choices))]
        for name, choices in family.parameters.items()
    }
    return Architecture(family=family.name, values=values)


def smallest(family: Family) -> Architecture:
    """The architecture with the least of every parameter; of those that depend on each other, the earlier first."""
    return _extreme(family, largest=False)


def largest(family: Family) -> Architecture:
    """The architecture with the most of every parameter; of those that depend on each other, the earlier first."""
    return _extreme(family, largest=True)


def _extreme(family: Family, *, largest: bool) -> Architecture:
    pick = max if largest else min
    tied = _tied(family)
    values = {name: pick(choices) for name, choices in family.parameters.items()}
    return Architecture(
        family=family.name, values={**values, **dict(zip(tied, pick(_valid_of(family, tied)), strict=True))}
    )


def _tied(family: Family) -> tuple[str, ...]:
    """The parameters that rules tie to each other."""
    named = {name for rule in FAMILIES[family.name].rules for name in rule.parameters}
    return tuple(name for name in family.parameters if name in named)


def _valid_of(family: Family, names: tuple[str, ...]) -> list[tuple[Value, ...]]:
    return _valid(FAMILIES[family.name].rules, family.parameters, names)


def _valid(
    rules: tuple[Rule, ...], choices: Mapping[str, Sequence[Value]], names: tuple[str, ...]
) -> list[tuple[Value, ...]]:
    """The values of ``names`` that keep the rules; one empty tuple where there are no names."""
    return [
        values
        for values in itertools.product(*(choices[name] for name in names))
        if all(rule.holds(dict(zip(names, values, strict=True))) for rule in rules)
    ]


def _known(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"a family is one of {', '.join(FAMILIES)}, got {name!r}{near(name, FAMILIES)}")
    return name


def _require_names(knobs: Knobs, given: dict[Any, Any]) -> None:
    for name in given:
        if name not in knobs.knobs:
            raise ValueError(f"parameters are {', '.join(knobs.knobs)}, got {name!r}{near(str(name), knobs.knobs)}")
    for name, knob in knobs.knobs.items():
        if name not in given:
            raise ValueError(f"{name} is missing: {knob.about}; {knob.domain()}")


def _choices(knobs: Knobs, name: str, given: Any) -> tuple[Value, ...]:
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"{name} has a list of at least one choice, got {given!r}")
    values = tuple(_read(knobs, name, value) for value in given)
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"{name} has each choice once, got {twice[0]} twice")
    return values


def _read(knobs: Knobs, name: str, value: object) -> Value:
    knob = knobs.knobs[name]
    read = knob.read(value)
    if read is None:
        nearest = knob.nearest(value)
        hint = "" if nearest is None else f"; nearest: {nearest}"
        raise ValueError(f"{name} must be {knob.domain()}, got {value!r}{hint}")
    return read


def _nearest_valid(knobs: Knobs, rule: Rule, choices: Mapping[str, Sequence[Value]]) -> str:
    """The value of the rule's last parameter with which it can hold, nearest to what was chosen."""
    *others, last = rule.parameters
    knob = knobs.knobs[last]
    domain = range(int(knob.low), int(knob.high) + 1, knob.step)
    fitting = [each for each in domain if _valid((rule,), {**choices, last: (each,)}, (*others, last))]
    if not fitting:
        return ""
    return f"; nearest: {last} {min(fitting, key=lambda each: min(abs(each - chosen) for chosen in choices[last]))}"


def _where(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the top level"
    rule = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] in {"value_error", "missing"} else f", got {first['input']!r}"
    return f", at {place}: {rule}{got}"
