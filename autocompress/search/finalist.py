"""A fully recovered candidate and its files."""

from dataclasses import dataclass
from pathlib import Path

from autocompress.facts import Facts
from autocompress.graph.program import Portable
from autocompress.measurement import Latency, ModelFacts
from autocompress.recipe import Recipe
from autocompress.result import TrialRecord

FILE, STRUCTURE, WEIGHTS, RECORD = "model.onnx", "structure.json", "model.safetensors", "record.json"


class KeptRecord(Facts):
    """What is remembered of a finalist beside its files. ``trial_ms``: what its trial took, if it was measured."""

    record: TrialRecord
    layers: dict[str, str]
    layer_params: dict[str, int]
    stored: dict[str, str]
    changed: dict[str, str]
    trial_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A fully recovered candidate, its files in ``folder``; ``latency`` once it is measured for the certificate."""

    folder: Path
    kept: KeptRecord
    latency: Latency | None = None

    @property
    def facts(self) -> ModelFacts:
        """Costs and validation accuracy of the file."""
        assert self.kept.record.facts is not None
        return self.kept.record.facts

    @property
    def recipe(self) -> Recipe:
        """The recipe with its full recovery."""
        return self.kept.record.recipe

    def file(self) -> bytes:
        """The bytes of the ONNX file."""
        return (self.folder / FILE).read_bytes()

    def portable(self) -> Portable:
        """The network as data."""
        return Portable(structure=(self.folder / STRUCTURE).read_text(), weights=(self.folder / WEIGHTS).read_bytes())
