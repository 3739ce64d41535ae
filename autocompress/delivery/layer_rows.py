"""What was done to each layer, for the report."""

from collections.abc import Mapping
from dataclasses import dataclass

from autocompress.graph.anatomy import lies_in
from autocompress.graph.layer_table import LayerFacts
from autocompress.result import LayerRow

REMOVED, NOTHING = "removed", "–"


@dataclass(frozen=True, kw_only=True)
class Treated:
    """A compressed model as far as the rows need it.

    ``layers``, ``params`` and ``stored`` map layers, in order of execution, to description, parameters and precision in
    words. ``changed`` maps ``pass: layer`` to what was done, a block standing for the layers in it. ``notes`` are
    ``pass: layer: reason`` of what was skipped.
    """

    layers: Mapping[str, str]
    params: Mapping[str, int]
    stored: Mapping[str, str]
    changed: Mapping[str, str]
    notes: tuple[str, ...] = ()


def layer_rows(before: tuple[LayerFacts, ...], after: Treated) -> tuple[LayerRow, ...]:
    """One row per layer of the base; a layer that became several shows them joined by ``then``."""
    return tuple(_row(layer, after) for layer in before)


def _row(layer: LayerFacts, after: Treated) -> LayerRow:
    parts = [name for name in after.layers if lies_in(name, layer.name)]
    return LayerRow(
        layer=layer.name,
        before=str(layer),
        after=" then ".join(after.layers[name] for name in parts) or REMOVED,
        precision=" then ".join(dict.fromkeys(after.stored[name] for name in parts)) or NOTHING,
        params_before=layer.params,
        params_after=sum(after.params[name] for name in parts),
        note="; ".join([*_with_its_block(layer.name, after), *_skipped(layer.name, after)]),
    )


def _with_its_block(name: str, after: Treated) -> list[str]:
    """What happened to it as a part of something larger; the other columns say what happened to itself."""
    found = []
    for key, what in after.changed.items():
        technique, block = key.split(": ", 1)
        if technique == "drop_blocks" and lies_in(name, block):
            found.append(f"the block {block} was dropped")
        if technique == "share_layers" and lies_in(name, block):
            found.append(f"{block} {what.split(', ')[0]}")
    return found


def _skipped(name: str, after: Treated) -> list[str]:
    split = (note.split(": ", 2) for note in after.notes)
    return [f"no {technique}: {reason}" for technique, place, reason in split if lies_in(name, place)]
