"""Losses that were measured, on disk: one JSON object a line, lines are only added."""

import json
import math
from collections.abc import Mapping
from pathlib import Path


class KeptLosses:
    """Treatment → loss, for one network, its data and one way of measuring (``digest``); without a folder, nothing.

    Lines that a killed process left unfinished are passed over.
    """

    def __init__(self, folder: Path | None, digest: str) -> None:
        self._file = None if folder is None else folder / f"losses-{digest[:16]}.jsonl"

    def read(self) -> dict[str, float]:
        """What is there."""
        if self._file is None or not self._file.is_file():
            return {}
        found: dict[str, float] = {}
        for line in self._file.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
                treatment, loss = entry["treatment"], entry["loss"]
            except (ValueError, TypeError, KeyError):
                continue
            if isinstance(treatment, str) and isinstance(loss, float) and math.isfinite(loss) and loss >= 0:
                found[treatment] = loss
        return found

    def add(self, losses: Mapping[str, float]) -> None:
        """Keep those that are numbers."""
        lines = [
            json.dumps({"treatment": treatment, "loss": float(loss)})
            for treatment, loss in losses.items()
            if math.isfinite(loss)
        ]
        if self._file is None or not lines:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            # A line that was cut off ends here at the latest.
            file.write("".join(f"\n{line}" for line in lines) + "\n")
