"""What every record of this package is: frozen, keyword-only, checked when made, JSON and YAML both ways."""

import hashlib
import json
import os
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict


class Facts(BaseModel):
    """A frozen record. Unknown fields are refused, so that a typo in a file is found."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    def to_json(self) -> str:
        """Indented JSON; ``from_json`` gives the same record back."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record in ``text``."""
        return cls.model_validate_json(text)

    def to_yaml(self) -> str:
        """YAML in field order; ``from_yaml`` gives the same record back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """The record in ``text``; read by ``safe_load``, so nothing in it can run."""
        return cls.model_validate(yaml.safe_load(text))

    def digest(self) -> str:
        """Sixteen hex digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it appears complete or not at all: beside its place first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
