"""Files of recipes without exporting the network each time: one float file, resized, factorized and rounded.

Exporting is most of what an untrained candidate costs. What it gives is the same for all recipes that drop the same
blocks, but for widths; so the network is exported at a few widths, and from then on its files are filled in.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from onnx import ModelProto

from autocompress.errors import AutocompressError
from autocompress.export.calibrate import Seen
from autocompress.export.file_weights import plain_weights
from autocompress.export.onnx_file import layer_of, to_onnx
from autocompress.export.thin_nodes import with_thin_nodes
from autocompress.export.write_file import draft_of
from autocompress.hardware.kernels.resized import ResizedFile, unshared
from autocompress.hardware.kernels.rules import Rules
from autocompress.passes.compose import read_passes
from autocompress.passes.factorize import Factorize
from autocompress.precision import FilePlan
from autocompress.recipe import PassStep, Recipe
from autocompress.search.topology import Reading, Topology
from autocompress.search.varied import plainly_ranked
from autocompress.trial import STRUCTURE_SAMPLES, Bench, calibration_inputs, composed_of

EXPORTS = 4  # the base, and at other widths: what the numbers follow from is settled with three as a rule
MOST_EXPORTS = 6
LEAST_CUT, MOST_CUT = 0.1, 0.8


@dataclass
class QuickFiles:
    """Makes files of recipes of one network; what a recipe does to stored bytes alone is left out."""

    bench: Bench
    topology: Topology
    seed: int = 0
    exports: int = 0
    _known: dict[tuple[str, ...], ResizedFile | None] = field(default_factory=dict, repr=False)

    def make(self, recipes: Sequence[Recipe]) -> list[bytes | None]:
        """The file of each, None where it cannot be filled in."""
        return [self.file(recipe) for recipe in recipes]

    def file(self, recipe: Recipe) -> bytes | None:
        """None for factors other than ``svd``, and for a network whose exports differ in more than widths."""
        reading = self.topology.read(recipe)
        factors = recipe.settings_of("factorize").get("layers", {}).values()
        if reading is None or any(factor.get("method", "svd") != "svd" for factor in factors):
            return None
        blocks = tuple(recipe.settings_of("drop_blocks").get("blocks", ()))
        if blocks not in self._known:
            self._known[blocks] = self._learned(blocks)
        known = self._known[blocks]
        if known is None:
            return None
        try:
            source = known.proto(reading.symbols) or self._at_its_widths(known, reading, recipe)
            if source is None:
                return None
            return structure_of(self.bench, source, recipe)
        except AutocompressError:
            return None

    def _at_its_widths(self, known: ResizedFile, reading: Reading, recipe: Recipe) -> ModelProto | None:
        """The network exported at a recipe's widths, for which some number was undecided; what it shows is kept."""
        steps = tuple(step for step in plainly_ranked(recipe).passes if step.name in {"drop_blocks", "prune_channels"})
        self.exports += 1
        proto = export_float(self.bench, Recipe(passes=steps))
        return proto if known.learn(reading.symbols, proto) else None

    def _learned(self, blocks: tuple[str, ...]) -> ResizedFile | None:
        """From exports at random widths, until one of them comes out as expected."""
        drop = (PassStep(name="drop_blocks", settings={"blocks": list(blocks)}),) if blocks else ()
        draw = random.Random(self.seed)  # draws widths
        found: ResizedFile | None = None
        for count in range(MOST_EXPORTS):
            recipe = Recipe(passes=drop if count == 0 else (*drop, self._cut(drop, draw)))
            reading = self.topology.read(recipe)
            assert reading is not None
            proto = export_float(self.bench, recipe)
            self.exports += 1
            if found is None:
                found = ResizedFile(Rules(replace(self.topology.language(0), block=1)), unshared(proto))
            expected = found.expects(reading.symbols, proto)
            if not found.learn(reading.symbols, proto):
                return None
            if count >= EXPORTS - 1 and expected:
                return found
        return None

    def _cut(self, drop: tuple[PassStep, ...], draw: random.Random) -> PassStep:
        gone = self.topology.gone(Recipe(passes=drop))
        ratios = {}
        for group in self.topology.anatomy.groups:
            here = next((name for name in group.outs if name not in gone), None)
            if here is not None and not group.reason:
                ratios[here] = round(draw.uniform(LEAST_CUT, MOST_CUT), 4)
        return PassStep(name="prune_channels", settings={"ratios": ratios, "align": 1})


def export_float(bench: Bench, recipe: Recipe) -> ModelProto:
    """The network after the passes of a recipe, in floating point, untrained."""
    return to_onnx(composed_of(bench, recipe).model, bench.task.preprocess, bench.target.batch)


def structure_of(bench: Bench, source: ModelProto, recipe: Recipe) -> bytes:
    """The file of a recipe from that of the network at its widths, as far as timing goes.

    Factors are of noise, weights are stored plainly. ``source`` is changed.

    Raises:
        ModelError: a layer that is factorized has no node in ``source``.
    """
    plan, ranks = FilePlan(), {}
    for item in read_passes(recipe):
        plan = item.finalize(plan)
        if isinstance(item, Factorize):
            ranks = {name: factors.values()[0] for name, factors in item.layers.items()}
    with_thin_nodes(source, ranks)
    names = frozenset(layer_of(node) for node in source.graph.node)
    batch = bench.target.batch
    seen = Seen(inputs=calibration_inputs(bench, max(STRUCTURE_SAMPLES, batch)), batch=batch)
    return draft_of(source, plain_weights(source, names), plan, seen, bench.machine).finished()
