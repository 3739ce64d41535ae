"""What a command has to say when it has ended well."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.facts import Facts

OK, BUDGET_MISSED = 0, 3


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``facts`` for programs, ``show`` for people, and the exit code."""

    facts: "Facts | dict[str, Any]"
    show: "Callable[[Console], None]"
    exit_code: int = OK

    def to_json(self) -> str:
        """One JSON object."""
        if isinstance(self.facts, dict):
            return json.dumps(self.facts, indent=2, ensure_ascii=False)
        return self.facts.to_json()
