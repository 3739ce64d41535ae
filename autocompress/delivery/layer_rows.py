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
    """One row per layer of the base; a layer that became several shows them joined by ``then``.

    Where a student has the network's place, all of its layers follow on the base's, whatever their names.
    """
    if not any(key.startswith("student: ") for key in after.changed):
        return tuple(_row(layer, after) for layer in before)
    gone = Treated(layers={}, params={}, stored={}, changed={})
    return (*(_row(layer, gone) for layer in before), *(_new_row(name, after) for name in after.layers))


def _new_row(name: str, after: Treated) -> LayerRow:
    return LayerRow(
        layer=name,
        before=NOTHING,
        after=after.layers[name],
        precision=after.stored[name],
        params_before=0,
        params_after=after.params[name],
        note="; ".join(["of the student", *_with_its_block(name, after), *_skipped(name, after)]),
    )


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
            found.append(f"dropped with {block}")
        if technique == "share_layers" and lies_in(name, block):
            found.append(f"{block} {what.split(', ')[0]}")
    return found


def _skipped(name: str, after: Treated) -> list[str]:
    split = (note.split(": ", 2) for note in after.notes)
    return [f"no {technique}: {reason}" for technique, place, reason in split if lies_in(name, place)]
