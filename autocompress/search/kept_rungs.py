"""What candidates reach between rungs, on disk: a run that was killed goes on from there."""

from dataclasses import dataclass
from pathlib import Path

from autocompress.recipe import Recipe
from autocompress.rungs import Rung
from autocompress.search.candidate import Candidate, Reached, taken_up
from autocompress.search.study import Ask

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class KeptRungs:
    """Files in ``folder``, written by whoever trains; nothing is kept where that is None."""

    folder: Path | None

    def place(self, key: int, rung: Rung) -> Path | None:
        """Where the end of a rung is kept."""
        return None if self.folder is None else self.folder / f"{key}-{rung.number}{SUFFIX}"

    def found(self, ask: Ask, recipe: Recipe, reached: Reached) -> Candidate | None:
        """The candidate as it was left; None if its file is gone, or its parameters mean something else by now."""
        if self.folder is None or recipe.digest() != reached.recipe:
            return None
        candidate = taken_up(ask, recipe, reached)
        assert candidate.ended is not None
        candidate.state = self.place(ask.number, candidate.ended)
        return candidate if candidate.state is not None and candidate.state.is_file() else None

    def forget(self, key: int, *, before: int | None = None) -> None:
        """Remove what is kept of a candidate, or what is kept of the rungs before one."""
        if self.folder is None:
            return
        for path in self.folder.glob(f"{key}-*{SUFFIX}"):
            number = int(path.stem.rpartition("-")[2])
            if before is None or number < before:
                path.unlink(missing_ok=True)
