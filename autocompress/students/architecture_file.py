"""An architecture in a file of its own: with the input and output that it is for, it builds itself."""

from pathlib import Path
from typing import Self

import yaml
from pydantic import ConfigDict, Field, ValidationError
from torch import nn

from autocompress.errors import SpaceError
from autocompress.facts import Facts
from autocompress.students.build import build
from autocompress.students.family import Architecture


class ArchitectureFile(Facts):
    """What ``architecture.yaml`` holds; ``shape`` is that of one input, ``seed`` that of the first weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(1, alias="schema", ge=1, le=1)
    architecture: Architecture
    shape: tuple[int, ...]
    n_outputs: int = Field(ge=1)
    seed: int = Field(0, ge=0)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What is in a file.

        Raises:
            SpaceError: not there, or not an architecture.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except OSError as error:
            raise SpaceError(
                f"an architecture is a YAML file that `autocompress candidates` writes; {path} cannot be read: "
                f"{error.strerror}"
            ) from error
        except yaml.YAMLError as error:
            raise SpaceError(f"{path} must be YAML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the top level"
            raise SpaceError(
                f"{path}, at {place}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
            ) from error


def build_student(file: str | Path, *, n_outputs: int | None = None) -> nn.Module:
    """The network of an ``architecture.yaml``, untrained, in training mode; ``n_outputs`` in the place of the file's.

    Raises:
        SpaceError: the file is not there, or holds no architecture.
    """
    found = ArchitectureFile.read(Path(file))
    return build(found.architecture, shape=found.shape, n_outputs=n_outputs or found.n_outputs, seed=found.seed)
