"""What of a recipe decides which kernels a layer becomes, and the widths and ranks that their shapes follow from.

Read from the recipe's settings alone, in some ten microseconds a layer: no network is touched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autocompress.graph.anatomy import Anatomy, lies_in
from autocompress.graph.channel_groups import ChannelGroup
from autocompress.graph.layer_table import LayerFacts
from autocompress.hardware.kernels.rules import Language
from autocompress.passes.prune_channels import kept_width
from autocompress.recipe import Recipe

# What the rest of a recipe changes about a file is bytes: constants that are decoded when it is loaded.
READ = frozenset(
    {"drop_blocks", "prune_channels", "factorize", "quantize", "share_layers", "share_weights", "prune_weights"}
)
RANKS = 2  # of a layer's factors, at most
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """One recipe: its layers in order of execution; what each is, what its neighbours see of it, what it computes in.

    ``layers`` are places in ``Anatomy.layers``, 0 stands for what comes before the first, the others are one higher.
    """

    layers: tuple[int, ...]
    states: tuple[int, ...]
    faces: tuple[int, ...]
    computes: tuple[int, ...]
    symbols: tuple[int, ...]


def width_class(width: int, block: int) -> int:
    """Widths of one class get the same kernels.

    The runtime's blocked layout asks for multiples of four, its pooling for multiples of the block, and has another
    path below the block (onnxruntime, ``nchwc_transformer.cc``).
    """
    if width < 2:
        return 0
    if width < block:
        return 1 + (width % 4 == 0)
    return 3 + (width % 4 == 0) + (width % block == 0)


def group_class(group: ChannelGroup, width: int, block: int, has_layout: bool) -> tuple[bool, int | None]:
    """Whether one unit is left, with which the runtime turns transpositions into views; the class of the width."""
    return width == _single(group), width_class(width, block) if has_layout else None


def _single(group: ChannelGroup) -> int:
    """The width at which a single unit is left."""
    return group.unit * group.chunks


def rank_class(rank: int, block: int) -> int:
    """Ranks of one class get the same kernels: 0 where the blocked layout goes on between the factors."""
    return 1 if rank < block else 2 * (rank % 4 != 0)


@dataclass
class Topology:
    """Reads recipes for one network; ``block`` is that of the target's ``Machine``.

    Symbols are the kept widths of all channel groups, the inputs of the layers that do not read one whole group, and
    the ranks of all layers.
    """

    anatomy: Anatomy
    block: int
    _numbers: dict[object, int] = field(default_factory=dict, repr=False)
    _kept: dict[tuple[int, float, int], int] = field(default_factory=dict, repr=False)
    _present: dict[tuple[str, ...], tuple[int, ...]] = field(default_factory=dict, repr=False)
    _widths: dict[tuple[int, ...], tuple[tuple[int, tuple[int, ...], bool], ...]] = field(
        default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        layers, self._groups = self.anatomy.layers, self.anatomy.groups
        self._is_conv = [layer.kind != "Linear" for layer in layers]
        self._place = {layer.name: place for place, layer in enumerate(layers)}
        self._full = [group.width for group in self._groups]
        self.group_of = {name: at for at, group in enumerate(self._groups) for name in group.outs}
        self._joined = [place for place, layer in enumerate(layers) if not self._reads_one_group(layer)]
        self._first_rank = len(self._groups) + len(self._joined)
        self._copies = [(self._place[a], self._place[b]) for a, b in self.anatomy.copies.items()]
        self._look_at_widths()

    def _look_at_widths(self) -> None:
        """Inputs and outputs of layers fall in proportion to the channels that groups lose: by how much for each."""
        layers, groups = self.anatomy.layers, self._groups
        full = {group.name: group.width for group in groups}

        def widths(kept: dict[str, int]) -> NDArray[np.int64]:
            found = [self.anatomy.widths_after(layer, kept) for layer in layers]
            return np.array(found, np.int64).reshape(len(layers), 2)

        self._widest = widths(full)
        fewer = [self._widest - widths(full | {group.name: group.width - 1}) for group in groups]
        self._a_channel = np.array(fewer, np.int64).reshape(len(groups), 2 * len(layers))
        self._class = np.array([width_class(width, self.block) for width in range(self._widest.max(initial=0) + 1)])
        self._singles = [_single(group) for group in groups]
        touched = [{*group.outs, *group.ins} for group in groups]
        self._touches = np.array([[layer.name in names for layer in layers] for names in touched], np.bool_)
        self._touches = self._touches.reshape(len(groups), len(layers))

    def read(self, recipe: Recipe) -> Reading | None:
        """None for a recipe whose kernels do not follow from its settings alone: factors kept where they are faster."""
        steps = {step.name: step.settings for step in recipe.passes}
        factorize = steps.get("factorize", {})
        if not steps.keys() <= READ or (factorize.get("layers") and factorize.get("gain", "faster") != "smaller"):
            return None
        present = self._layers_left(tuple(steps.get("drop_blocks", {}).get("blocks", ())))
        kept = self._kept_widths(steps.get("prune_channels", {}))
        widths = self._widths.get(kept) or self.widths_after(kept)
        precision = self._precisions(steps.get("quantize"))
        factors = factorize.get("layers", {})
        ranks = [0] * (RANKS * len(self.anatomy.layers))
        number, layers = self._numbers, self.anatomy.layers
        states, faces, arithmetic = [0], [0], [0]
        for place in present:
            computes, factor = precision[place], factors.get(layers[place].name)
            has_layout = computes == _FLOAT and self._is_conv[place]
            _, classes, is_single = widths[place]
            face: tuple[object, ...] = (place, computes, is_single, classes if has_layout else None)
            state = face
            if factor is not None:
                own = tuple(factor.get("ranks") or (factor["rank"],))
                ranks[RANKS * place : RANKS * place + len(own)] = own
                if has_layout and (leaving := tuple(rank_class(rank, self.block) for rank in own)) != (0,):
                    face = (*face, leaving)
                state = (*face, factor.get("method", "svd"))
            states.append(number.setdefault(state, len(number)))
            faces.append(number.setdefault(face, len(number)))
            arithmetic.append(number.setdefault((place, computes), len(number)))
        joined = [widths[place][0] for place in self._joined]
        layers_left = (0, *[place + 1 for place in present])
        symbols = (*kept, *joined, *ranks)
        return Reading(layers_left, tuple(states), tuple(faces), tuple(arithmetic), symbols)

    def language(self, slot: int) -> Language:
        """The rules that the numbers of a layer's kernels may follow."""
        own = [self._first_rank + RANKS * (slot - 1) + i for i in range(RANKS)] if slot else []
        free = [at for at, group in enumerate(self._groups) if not group.reason]
        joined = range(len(self._groups), self._first_rank)
        times = {Fraction(n) for group in self._groups for n in (*group.feeds.values(), *group.makes.values()) if n}
        times |= {Fraction(1, group.unit) for group in self._groups} | {Fraction(n) for n in (1, 2, 3, 4)}
        factors = tuple(sorted(times, key=lambda factor: (factor != 1, factor)))
        return Language(symbols=(*own, *joined, *free), factors=factors, block=self.block)

    def gone(self, recipe: Recipe) -> set[str]:
        """The layers that a recipe drops."""
        left = self._layers_left(tuple(recipe.settings_of("drop_blocks").get("blocks", ())))
        return {layer.name for place, layer in enumerate(self.anatomy.layers) if place not in set(left)}

    def with_layout(self, recipe: Recipe) -> set[str]:
        """The layers whose kernels depend on how their widths divide: convolutions in floating point."""
        precisions = self._precisions({step.name: step.settings for step in recipe.passes}.get("quantize"))
        return {
            layer.name
            for layer, computes, is_conv in zip(self.anatomy.layers, precisions, self._is_conv, strict=True)
            if computes == _FLOAT and is_conv
        }

    def _reads_one_group(self, layer: LayerFacts) -> bool:
        return any(group.feeds.get(layer.name) and group.width == layer.c_in for group in self._groups)

    def _layers_left(self, blocks: tuple[str, ...]) -> tuple[int, ...]:
        found = self._present.get(blocks)
        if found is None:
            names = [layer.name for layer in self.anatomy.layers]
            found = tuple(i for i, name in enumerate(names) if not any(lies_in(name, block) for block in blocks))
            self._present[blocks] = found
        return found

    def _kept_widths(self, settings: Settings) -> tuple[int, ...]:
        kept, align = list(self._full), settings.get("align", 8)
        for layer, ratio in settings.get("ratios", {}).items():
            at = self.group_of.get(layer)
            if at is None:
                continue
            width = self._kept.get((at, ratio, align))
            if width is None:
                group = self._groups[at]
                width = group.width if group.reason else kept_width(group, ratio, align)
                self._kept[at, ratio, align] = width
            kept[at] = width
        return tuple(kept)

    def widths_after(self, kept: tuple[int, ...]) -> tuple[tuple[int, tuple[int, ...], bool], ...]:
        """Of each layer its inputs, the classes of its inputs and outputs, whether of either a single unit is left."""
        widths = self._widest - (np.subtract(self._full, kept) @ self._a_channel).reshape(self._widest.shape)
        classes = self._class[widths].tolist()
        single = (np.equal(kept, self._singles) @ self._touches).tolist()
        found = tuple(zip(widths[:, 0].tolist(), map(tuple, classes), single, strict=True))
        self._widths[kept] = found
        return found

    def _precisions(self, settings: Settings | None) -> list[tuple[str, ...]]:
        """What each layer computes with; a layer that holds another's weight does as that."""
        if settings is None:
            return [_FLOAT] * len(self.anatomy.layers)
        found = [_computes(settings.get("default") or _INT8)] * len(self.anatomy.layers)
        others = settings.get("layers", {})
        names: Sequence[str] = list(others)
        if any(name not in self._place for name in names):  # modules around layers: the innermost has the say
            names = sorted(names, key=lambda name: name.count("."))
        for name in names:
            precision, place = _computes(others[name]), self._place.get(name)
            if place is not None:
                found[place] = precision
                continue
            for layer, inside in self._place.items():
                if lies_in(layer, name):
                    found[inside] = precision
        for copy, first in self._copies:
            found[copy] = found[first]
        return found


_FLOAT = ("fp32",)
_INT8 = {"weights": "int8", "activations": "int8"}


def _computes(precision: Settings) -> tuple[str, ...]:
    """The arithmetic of a layer. How its weights are stored counts only where the runtime keeps them packed."""
    block = precision.get("block")
    if block is not None:
        return (precision.get("weights", "fp32"), str(block))
    return (precision.get("activations", "fp32"),)
