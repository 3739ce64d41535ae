"""Which networks a profile is measured on, as ``search_spaces/networks/profile.yaml`` states it."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator

from autocompress.errors import SpaceError, near
from autocompress.facts import Facts
from autocompress.hardware.drawn.kinds import KINDS
from autocompress.paths import spaces_folder
from autocompress.students.knobs import FAMILIES

Share = Annotated[float, Field(ge=0, le=1)]


def _known(shares: dict[str, float], known: Mapping[str, object], what: str) -> dict[str, float]:
    for name in shares:
        if name not in known:
            raise ValueError(f"{what} are {', '.join(known)}, not {name!r}{near(name, known)}")
    return shares


class TimmModel(Facts):
    """One of timm's models; ``sizes`` are heights and widths of its input."""

    family: str
    sizes: tuple[Annotated[int, Field(ge=16, le=512)], ...] = Field(min_length=1)


class TimmShare(Facts):
    """Timm's models, and which share of the time they may take."""

    share: Share
    classes: int = Field(100, ge=1)
    models: dict[str, TimmModel] = Field(min_length=1)


class StudentShare(Facts):
    """Student families in shares of their networks, and which share of the time they may take."""

    share: Share
    families: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)

    @field_validator("families")
    @classmethod
    def _are_known(cls, families: dict[str, float]) -> dict[str, float]:
        return _known(families, FAMILIES, "student families")


class NetworkSpace(Facts):
    """Random networks by kind, in shares, students, and models of timm.

    ``int8`` is the share of the random ones in int8, ``mixed`` that of those in which some layers stay float; students
    and models of timm are measured in both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(1, alias="schema", ge=1, le=1)
    name: str
    about: str = ""
    int8: Share
    mixed: Share
    kinds: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    students: StudentShare
    timm: TimmShare

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: dict[str, float]) -> dict[str, float]:
        return _known(kinds, KINDS, "kinds of networks")


@cache
def profile_space() -> NetworkSpace:
    """The shipped space."""
    return read_space(spaces_folder() / "networks" / "profile.yaml")


def read_space(file: Path) -> NetworkSpace:
    """The space in a YAML file.

    Raises:
        SpaceError: it does not hold together.
    """
    try:
        return NetworkSpace.model_validate(yaml.safe_load(file.read_text()))
    except yaml.YAMLError as error:
        raise SpaceError(f"{file} must be YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise SpaceError(
            f"{file}, at {place}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
        ) from error
