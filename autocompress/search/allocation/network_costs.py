"""Costs of whole selections, many at a time: each layer's from its own treatment and the widths on both of its sides.

A selection is a place in ``choices_of`` for each unit. What a layer costs is worked out once for each treatment and
widths that it meets.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from autocompress.budget import Metric
from autocompress.graph.anatomy import Anatomy
from autocompress.graph.layer_table import LayerFacts
from autocompress.graph.units import Unit
from autocompress.measurement import ModelFacts
from autocompress.passes.prune_channels import kept_width
from autocompress.precision import Format
from autocompress.search.allocation.choices import Choice
from autocompress.search.allocation.layer_bytes import part_bytes
from autocompress.search.allocation.layer_times import (
    ROUND_CALL_NS,
    ROUND_NS,
    FileTimes,
    as_base,
    estimated_times,
    part_ns,
)
from autocompress.search.allocation.parts import Part, parts_of

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]
COSTS = (Metric.LATENCY, Metric.SIZE, Metric.MACS, Metric.PARAMS)
FLOORS_MS = (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.009)  # that are tried; of a call and its data
_WIDEST = 1 << 21  # of a layer, in a number that stands for it, its treatment and two widths
_MOST_NODE_BYTES = 300.0  # of a float layer's nodes and headers; what is beyond lies beside the layers
_ZERO_POINTS = 5  # bytes a channel: of the 8-bit weights and of the 32-bit bias
_MORE_NODE_BYTES = 150.0  # of the second one of a pair


@dataclass(frozen=True, kw_only=True)
class UniformFile:
    """What one file with all layers alike showed: counted, and its layers' times where they were measured."""

    facts: ModelFacts
    times: FileTimes | None = None


@dataclass
class NetworkCosts:
    """``plain`` is the original's file, ``int8`` that with every layer in int8, where the space has int8.

    ``align`` as in ``RecipeBuilder``, ``channel_block`` as in ``Machine``. ``floor_ms`` is what a kernel takes however
    little it has to do; see ``fit_floor``.
    """

    anatomy: Anatomy
    units: Sequence[Unit]
    choices: Sequence[Sequence[Choice]]
    align: int
    channel_block: int
    plain: UniformFile
    int8: UniformFile | None = None
    floor_ms: float = 0.0
    _known_keys: Picks = field(init=False, repr=False)  # sorted
    _known_costs: Floats = field(init=False, repr=False)  # of each: costs, arithmetic (-1: gone), values that it makes

    def __post_init__(self) -> None:
        layers = self.anatomy.layers
        self._forget()
        home = {name: place for place, unit in enumerate(self.units) for name in unit.layers}
        self._home = np.array([home[layer.name] for layer in layers], dtype=np.intp)
        self._look_at_treatments()
        self._look_at_widths()
        self._times = self._file_times()
        self._alike = Counter(layer.c_out for layer in layers)
        self._attention = self._products_of_heads()
        self._beside, self._per_layer = self._constants()

    def __call__(self, picks: Picks) -> Floats:
        """``[n, units]`` → milliseconds, bytes, MACs and parameters, ``[n, 4]``."""
        if not len(picks):
            return np.empty((0, len(COSTS)))
        places = self._places(picks)
        *costs, computes, made = (column[places] for column in self._known_costs)
        total: Floats = self._beside + np.stack([each.sum(axis=1) for each in costs], axis=1)
        total[:, 0] += _roundings_ms(computes, made)
        return total

    def fit_floor(self, picks: Picks, measured_ms: Floats) -> None:
        """Set the floor to what explains measured files best: those of one network at several widths."""
        errors = {}
        for floor in FLOORS_MS:
            self._set_floor(floor)
            logs = np.log(measured_ms / np.maximum(self(picks)[:, 0], 1e-9))
            errors[floor] = float(np.mean(np.abs(logs)))
        self._set_floor(min(errors, key=errors.__getitem__))

    def _set_floor(self, floor_ms: float) -> None:
        self.floor_ms = floor_ms
        self._forget()

    def _forget(self) -> None:
        """What layers cost is worked out anew; the last key is none's."""
        self._known_keys, self._known_costs = np.array([-1]), np.zeros((len(COSTS) + 2, 1))

    def _places(self, picks: Picks) -> Picks:
        """``[n, layers]``: where each layer's costs are known."""
        keys = self._keys(picks)
        odd = keys != keys[0]  # few, where selections are changes of one
        place = np.where(odd, -1, np.searchsorted(self._known_keys[:-1], keys[0]))
        place[odd] = np.searchsorted(self._known_keys[:-1], keys[odd])
        new = np.unique(keys[self._known_keys[place] != keys])
        if not len(new):
            return place
        made = np.array([self._of_key(key) for key in new.tolist()]).T
        order = np.searchsorted(self._known_keys[:-1], new)
        self._known_keys = np.insert(self._known_keys, order, new)
        self._known_costs = np.insert(self._known_costs, order, made, axis=1)
        return np.searchsorted(self._known_keys[:-1], keys)

    def _keys(self, picks: Picks) -> Picks:
        """``[n, layers]``: numbers of each layer's treatment and widths."""
        c_in, c_out = self._full
        if self._gone:
            gone = np.stack([table[picks[:, place]] for place, table in self._gone], axis=1)
            c_in, c_out = (full - gone @ each for full, each in zip(self._full, self._lost, strict=True))
        c_in = np.where(self._is_depthwise, c_out, c_in)
        widths = np.asarray(c_in * _WIDEST + c_out, dtype=np.int64)
        treatments = self._treatment.take(picks[:, self._home] + self._first_treatment)
        return treatments * _WIDEST**2 + widths

    def _of_key(self, key: int) -> tuple[float, ...]:
        at, choice = self._treated[key // _WIDEST**2]
        return self._one(at, self.anatomy.layers[at], key // _WIDEST % _WIDEST, key % _WIDEST, choice)

    def _look_at_treatments(self) -> None:
        """Number what each choice does to each layer, widths aside, layer after layer."""
        of_units = [_treatments(choices) for choices in self.choices]
        self._treated: list[tuple[int, Choice]] = []
        treatment = np.zeros((len(self._home), max(map(len, self.choices), default=0)), dtype=np.int64)
        for at, home in enumerate(self._home.tolist()):
            numbers, choices = of_units[home]
            treatment[at, : len(numbers)] = numbers + len(self._treated)
            self._treated += [(at, choice) for choice in choices]
        self._treatment, self._first_treatment = treatment.ravel(), np.arange(len(treatment)) * treatment.shape[1]

    def _look_at_widths(self) -> None:
        """By units and choices the channels that groups lose, and what of them layers lose on both of their sides."""
        groups = [
            (group, place)
            for place, unit in enumerate(self.units)
            for group in self.anatomy.groups
            if group.name in unit.groups
        ]
        layers = self.anatomy.layers
        self._gone = [
            (place, np.array([group.width - kept_width(group, round(each.prune, 4), self.align) if each.prune else 0
                              for each in self.choices[place]]))
            for group, place in groups
        ]  # fmt: skip
        feeds = [[group.feeds.get(layer.name, 0) for layer in layers] for group, _ in groups]
        makes = [
            [group.makes.get(layer.name, 1) if layer.name in group.outs else 0 for layer in layers]
            for group, _ in groups
        ]
        full = [[layer.c_in for layer in layers], [layer.c_out for layer in layers]]
        # Whole numbers as floats, whose matrix products are fast: widths stay far below where they would be rounded.
        self._full, self._lost = (np.array(each, dtype=np.float64) for each in (full, [feeds, makes]))
        self._is_depthwise = np.array([layer.groups == layer.c_in == layer.c_out > 1 for layer in layers])

    def _one(self, at: int, layer: LayerFacts, c_in: int, c_out: int, choice: Choice) -> tuple[float, ...]:
        is_copy = layer.name in self.anatomy.copies
        parts = parts_of(layer, c_in, c_out, choice, align=self.align, is_copy=is_copy)
        if not parts:
            return (0.0, 0.0, 0.0, 0.0, -1.0, 0.0)
        size = sum(map(part_bytes, parts)) + self._zero_points(layer, parts) + self._nodes(parts)
        macs = sum(part.layer.macs for part in parts) + self._attention.get(layer.name, 0.0) * c_out / layer.c_out
        params = 0 if is_copy else sum(part.layer.params for part in parts)
        values = c_out * layer.positions
        return (self._ms(at, layer, parts, c_out), size, macs, params, float(parts[0].is_int8), values)

    def _zero_points(self, layer: LayerFacts, parts: Sequence[Part]) -> float:
        """Bytes of the zero points of weights and biases; layers of equal width have one set of them."""
        return sum(_ZERO_POINTS * part.layer.c_out / self._alike[layer.c_out] for part in parts if part.is_int8)

    def _nodes(self, parts: Sequence[Part]) -> float:
        plain, more_int8 = self._per_layer
        return plain + (len(parts) - 1) * _MORE_NODE_BYTES + sum(part.is_int8 for part in parts) * more_int8

    def _ms(self, at: int, layer: LayerFacts, parts: Sequence[Part], c_out: int) -> float:
        times = self._times[parts[0].is_int8]
        block = self.channel_block
        work = sum(part_ns(part, block) for part in parts) / part_ns(as_base(layer, parts[0]), block)
        weighted = self._above_floor(times.weighted_ms[at], work, len(parts))
        return weighted + self._above_floor(times.around_ms[at], c_out / layer.c_out, 1)

    def _above_floor(self, ms: float, share: float, kernels: int) -> float:
        """What ``share`` of the work takes, of which all takes ``ms``; the floor of each kernel stays."""
        floor = min(self.floor_ms, ms)
        return kernels * floor + (ms - floor) * share

    def _file_times(self) -> tuple[FileTimes, FileTimes]:
        """Of the float and of the int8 file; what is missing is estimated."""
        plain = self.plain.times
        if plain is None:
            total = self.plain.facts.latency_ms or 1.0
            plain = estimated_times(self.anatomy.layers, self.channel_block, total)
        int8 = self.int8.times if self.int8 else None
        return plain, int8 or plain

    def _products_of_heads(self) -> dict[str, float]:
        """Of the layers that make heads, the MACs between activations: all that no layer has."""
        left = self.plain.facts.macs - sum(layer.macs for layer in self.anatomy.layers)
        heads = {group.name for group in self.anatomy.groups if group.unit > 1}
        sizes = {layer.name: layer.c_out * layer.positions**2 for layer in self.anatomy.layers if layer.name in heads}
        return {name: max(left, 0.0) * size / sum(sizes.values()) for name, size in sizes.items()}

    def _constants(self) -> tuple[Floats, tuple[float, float]]:
        """What lies beside the layers, and the bytes of nodes of each layer, in float and more in int8."""
        layers = self.anatomy.layers
        base = [self._uniform(layer, Format.FP32) for layer in layers]
        facts, count = self.plain.facts, max(1, len(layers))
        rest = facts.size_bytes - sum(map(part_bytes, base))
        node = min(_MOST_NODE_BYTES, max(0.0, rest / count))
        more = 0.0
        if self.int8 is not None:
            rounded = [self._uniform(layer, Format.INT8) for layer in layers]
            zeros = sum(self._zero_points(layer, [part]) for layer, part in zip(layers, rounded, strict=True))
            more = (self.int8.facts.size_bytes - sum(map(part_bytes, rounded)) - zeros - rest) / count
        macs = facts.macs - sum(layer.macs for layer in layers) - sum(self._attention.values())
        params = facts.params - sum(part.layer.params for part in base if not part.is_copy)
        beside = np.array([self._times[0].beside_ms, rest - node * count, macs, params])
        return beside, (node, more)

    def _uniform(self, layer: LayerFacts, form: Format) -> Part:
        is_copy = layer.name in self.anatomy.copies
        (part,) = parts_of(layer, layer.c_in, layer.c_out, Choice(precision=form), align=self.align, is_copy=is_copy)
        return part


def _roundings_ms(computes: Floats, made: Floats) -> Floats:
    """Between layers of unlike arithmetic (-1: gone), of the values that are made; both ``[n, layers]``."""
    places = np.arange(computes.size).reshape(computes.shape)
    before = np.maximum.accumulate(np.where(computes >= 0, places, places[:, :1]), axis=1)[:, :-1]  # that is there
    other, values = computes.take(before), made.take(before)
    changes = (computes[:, 1:] >= 0) & (other >= 0) & (computes[:, 1:] != other)
    found: Floats = (changes * (ROUND_CALL_NS + ROUND_NS * values)).sum(axis=1) / 1e6
    return found


def _treatments(choices: Sequence[Choice]) -> tuple[Picks, list[Choice]]:
    """Number of what each choice does to the unit's own layers, widths aside; and one choice of each number."""
    numbers: dict[Choice, int] = {}
    found = [numbers.setdefault(each.model_copy(update={"prune": 0.0}), len(numbers)) for each in choices]
    return np.array(found, dtype=np.intp), list(numbers)
