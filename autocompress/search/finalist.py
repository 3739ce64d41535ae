"""A trained candidate and its files: one that was recovered in full, or a trial as it came out."""

from dataclasses import dataclass
from pathlib import Path

from autocompress.facts import Facts, write_whole
from autocompress.graph.program import Portable
from autocompress.measurement import Latency, ModelFacts
from autocompress.recipe import Recipe
from autocompress.result import TrialRecord
from autocompress.trial import Product

FILE, STRUCTURE, WEIGHTS, RECORD = "model.onnx", "structure.json", "model.safetensors", "record.json"
LAYERS = "layers.json"
SHORT = "not recovered in full: trained for {} steps as a trial of the search, and exported as it was then"


class LayersOfFile(Facts):
    """The layers as they ended up, how the file holds them, and what each pass did."""

    layers: dict[str, str]
    layer_params: dict[str, int]
    stored: dict[str, str]
    changed: dict[str, str]


class KeptRecord(LayersOfFile):
    """What is remembered of a finalist beside its files. ``trial_ms``: what its trial took, if it was measured.

    ``is_as_tried``: the file is its trial's own.
    """

    record: TrialRecord
    trial_ms: float | None = None
    is_as_tried: bool = False


def layers_of(product: Product) -> LayersOfFile:
    """In words, of a product that has them."""
    return LayersOfFile(
        layers={layer.name: str(layer) for layer in product.layers},
        layer_params={layer.name: layer.params for layer in product.layers},
        stored={layer.name: product.stored[layer.name] for layer in product.layers},
        changed=product.changed,
    )


def keep_files(place: Path, product: Product) -> None:
    """The network as data and the ONNX file, that last."""
    assert product.file is not None
    assert product.portable is not None
    write_whole(place / STRUCTURE, product.portable.structure)
    write_whole(place / WEIGHTS, product.portable.weights)
    write_whole(place / FILE, product.file)


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A candidate that may be the answer, its files in ``folder``; ``latency`` once it is measured for that."""

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
        """The recipe with the recovery that it had."""
        return self.kept.record.recipe

    @property
    def note(self) -> str:
        """What was not done to it, if anything."""
        return SHORT.format(self.recipe.recovery.steps) if self.kept.is_as_tried else ""

    def file(self) -> bytes:
        """The bytes of the ONNX file."""
        return (self.folder / FILE).read_bytes()

    def portable(self) -> Portable:
        """The network as data."""
        return Portable(structure=(self.folder / STRUCTURE).read_text(), weights=(self.folder / WEIGHTS).read_bytes())
