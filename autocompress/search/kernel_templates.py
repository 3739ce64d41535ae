"""The kernels of a recipe without its file: learned from a few files of one network, filled in for all others.

What a layer becomes depends on itself and on its neighbours: Q/DQ at a change of precision, a reorder at a change of
layout, an addition that fuses or not. So the kernels of a file are cut into those of each layer, and looked up by
*context*: the layer's own state and what its neighbours along the order of execution show. How far the context must
reach is found out: it starts at the next neighbours, and where two files show different kernels in one context, it
grows for that layer. Numbers of tensors are filled in by the rules of ``hardware.kernels.template``.

So the files that are needed grow with the states of a layer, not with the combinations of all layers' states. A recipe
with a context that no file had is not guessed: it has no kernels here until a file with it has been seen.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from autocompress.errors import AutocompressError
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.labels import LayerKernels, kernels_by_layer, labelled
from autocompress.hardware.kernels.rules import Language, Rules
from autocompress.hardware.kernels.runtime_graph import runtime_graph
from autocompress.hardware.kernels.template import Skeleton, Template, skeleton_of
from autocompress.recipe import Recipe
from autocompress.search.topology import Reading, Topology
from autocompress.search.varied import plainly_ranked, varied
from autocompress.target import Target

Make = Callable[[Sequence[Recipe]], Sequence[bytes | None]]
Context = tuple[int, ...]
# Neighbours on either side that a context shows, and those beyond of which it shows the arithmetic.
REACHES = ((1, 1), (1, 2), (1, 3), (1, 5), (1, 8), (2, 8), (1000, 1000))
TRIES = 3  # files that are made for one recipe, the last of them its own
LEAST_SAMPLES = 2  # of a template: one sample does not tell a constant from a width


def _faces(reading: Reading, at: int, reach: int) -> Context:
    """What a layer and its neighbours show: decides about the kernels between those with weights."""
    near, far = REACHES[reach]
    low, high = max(0, at - near), at + near + 1
    first = max(0, at - far)
    beyond = (*reading.computes[first:low], *reading.computes[high : at + far + 1]) if far > near else ()
    return (*reading.faces[low:high], *beyond)


def _own_and_faces(reading: Reading, at: int, reach: int) -> Context:
    """The same, and how the layer is factorized: decides about its kernels with weights."""
    return (reading.states[at], *_faces(reading, at, reach))


@dataclass
class _Known:
    """A template in use: its kernels by the symbols that they depend on."""

    template: Template
    pick: Callable[[Sequence[int]], Any] | None = None
    made: dict[Any, tuple[Kernel, ...] | None] = field(default_factory=dict)

    def learn(self, symbols: Sequence[int], kernels: tuple[Kernel, ...]) -> None:
        self.template.learn(symbols, kernels)
        self.made.clear()
        self.pick = itemgetter(*self.template.rules.used) if self.template.rules.used else None

    def kernels(self, symbols: Sequence[int]) -> tuple[Kernel, ...] | None:
        key = self.pick(symbols) if self.pick else None
        try:
            return self.made[key]
        except KeyError:
            sure = len(self.template.rules.samples) >= LEAST_SAMPLES
            made = self.made[key] = self.template.kernels(symbols) if sure else None
            return made


@dataclass
class _Slot:
    """A part of one layer: what it became in which context."""

    shows: Callable[[Reading, int, int], Context]
    reach: int = 0
    seen: list[tuple[Reading, int, Skeleton]] = field(default_factory=list)
    templates: dict[Skeleton, _Known] = field(default_factory=dict)
    by_context: dict[Context, _Known] = field(default_factory=dict)

    def note(
        self, reading: Reading, at: int, kernels: tuple[Kernel, ...], parts: tuple[str, ...], language: Language
    ) -> None:
        skeleton = (parts, *skeleton_of(kernels))  # what looks alike between factors and after them has other widths
        known = self.templates.get(skeleton)
        if known is None:
            pads = any(kernel.op.startswith("nchwc.") for kernel in kernels)  # nothing else pads widths
            rules = Rules(language if pads else replace(language, block=1))
            known = self.templates[skeleton] = _Known(Template(rules, kernels))
        known.learn(reading.symbols, kernels)
        self.seen.append((reading, at, skeleton))
        while not self._indexed() and self.reach < len(REACHES) - 1:
            self.reach += 1

    def _indexed(self) -> bool:
        """Contexts by the present reach; False where one of them has two outcomes: it is left out."""
        found: dict[Context, Skeleton | None] = {}
        clear = True
        for reading, at, skeleton in self.seen:
            context = self.shows(reading, at, self.reach)
            if found.setdefault(context, skeleton) != skeleton:
                clear, found[context] = False, None
        self.by_context = {key: self.templates[skeleton] for key, skeleton in found.items() if skeleton is not None}
        return clear


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a preparation came to: files made, recipes whose kernels are known now, and files that differed.

    ``checked`` of the files were of recipes whose kernels were known before they were made; ``differed`` of those had
    others.
    """

    files: int
    known: int
    asked: int
    checked: int
    differed: int


class KernelTemplates:
    """Kernels of recipes of one network."""

    def __init__(self, topology: Topology, target: Target, seed: int = 0) -> None:
        self._topology, self._target = topology, target
        count = len(topology.anatomy.layers) + 1
        self._weighted = [_Slot(shows=_own_and_faces) for _ in range(count)]
        self._around = [_Slot(shows=_faces) for _ in range(count)]
        self._random = random.Random(seed)  # draws widths
        self.checked = self.differed = 0

    def kernels(self, recipe: Recipe) -> tuple[Kernel, ...] | None:
        """All kernels, by layers in order of execution; None where a context is unknown or a number undecided.

        The order is no more than likely: branches run in one that depends on sizes.
        """
        try:
            reading = self._topology.read(recipe)
        except AutocompressError:  # settings that do not fit the network
            return None
        return None if reading is None else self._of(reading)

    def learn(self, recipe: Recipe, file: bytes) -> bool | None:
        """Take in the file of a recipe; whether it has the kernels that were expected, None if none were.

        Raises:
            MeasurementError: the runtime cannot run the file.
        """
        reading = self._topology.read(recipe)
        if reading is None:
            return None
        expected = self._of(reading)
        found = self.layers_of(file)
        for at, layer in enumerate(reading.layers):
            language = self._topology.language(layer)
            own = found[layer]
            self._weighted[layer].note(reading, at, own.weighted, own.parts[0], language)
            self._around[layer].note(reading, at, own.around, own.parts[1], language)
        if expected is None:
            return None
        is_right = Counter(expected) == Counter(
            kernel for layer in found for kernel in (*layer.weighted, *layer.around)
        )
        self.checked += 1
        self.differed += not is_right
        return is_right

    def prepare(self, recipes: Sequence[Recipe], make: Make, most_files: int, at_once: int = 4) -> Prepared:
        """Make files until the kernels of all ``recipes`` are known; each time of those with most that is not.

        What is made has other widths and ranks than the recipe that it is made for, so that every number shows what it
        depends on; where that leaves a number undecided, the recipe itself is made. ``make`` gives untrained files of
        recipes, None for those that fail; see ``quick_files``.
        """
        made, checked, differed = 0, self.checked, self.differed
        readings = {place: self._topology.read(recipe) for place, recipe in enumerate(recipes)}
        tried: dict[int, int] = {}
        while made < most_files:
            lacks = {place: self._lacking(reading) for place, reading in readings.items() if reading is not None}
            lacks = {place: lack for place, lack in lacks.items() if lack and tried.get(place, 0) < TRIES}
            readings = {place: readings[place] for place in lacks}
            chosen = _covering(lacks, min(at_once, most_files - made))
            if not chosen:
                break
            wanted = [self._to_make(recipes[place], tried.get(place, 0)) for place in chosen]
            for place in chosen:
                tried[place] = tried.get(place, 0) + 1
            for recipe, file in zip(wanted, make(wanted), strict=True):
                if file is not None:
                    self.learn(recipe, file)
            made += len(wanted)
        known = sum(self.kernels(recipe) is not None for recipe in recipes)
        return Prepared(
            files=made, known=known, asked=len(recipes),
            checked=self.checked - checked, differed=self.differed - differed,
        )  # fmt: skip

    def layers_of(self, file: bytes) -> list[LayerKernels]:
        """The kernels of a file by layers."""
        names = [layer.name for layer in self._topology.anatomy.layers]
        with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(labelled(file, names))
            return kernels_by_layer(runtime_graph(path, self._target), len(names))

    def _of(self, reading: Reading) -> tuple[Kernel, ...] | None:
        found: list[Kernel] = []
        symbols = reading.symbols
        for at, layer in enumerate(reading.layers):
            for slot in (self._weighted[layer], self._around[layer]):
                known = slot.by_context.get(slot.shows(reading, at, slot.reach))
                kernels = known.kernels(symbols) if known is not None else None
                if kernels is None:
                    return None
                found += kernels
        return tuple(found)

    def _lacking(self, reading: Reading) -> set[object]:
        """The contexts of a recipe that are unknown, and the templates of which some number is."""
        found: set[object] = set()
        for at, layer in enumerate(reading.layers):
            for slot in (self._weighted[layer], self._around[layer]):
                key = slot.shows(reading, at, slot.reach)
                known = slot.by_context.get(key)
                if known is None:
                    found.add((id(slot), key))
                elif known.kernels(reading.symbols) is None:
                    found.add(id(known))
        return found

    def _to_make(self, recipe: Recipe, times: int) -> Recipe:
        if times < TRIES - 1:
            return varied(recipe, self._topology, self._random)
        return plainly_ranked(recipe)


def _covering(lacks: dict[int, set[object]], count: int) -> list[int]:
    """Those that together lack the most, one after the other."""
    left = dict(lacks)
    chosen: list[int] = []
    covered: set[object] = set()
    while left and len(chosen) < count:
        best = max(left, key=lambda place: len(left[place] - covered))
        if not left[best] - covered:
            break
        chosen.append(best)
        covered |= left.pop(best)
    return chosen
