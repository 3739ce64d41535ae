"""Units of allocation: the parts of a network that are treated alike inside and apart from one another.

A residual block is a unit with the channels that never leave it. Outside of blocks, layers that make the same channels
are one. Channels that several units make (a residual stream, an embedding) are a unit without layers of its own, so
that each layer and each treatable channel group belongs to exactly one unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from autocompress.graph.anatomy import Anatomy, lies_in
from autocompress.graph.channel_groups import ChannelGroup


@dataclass(frozen=True, kw_only=True)
class Unit:
    """``groups`` are names of treatable channel groups; ``block`` is the residual block that the unit is, if it is one.

    ``droppable`` says whether the network runs without that block.
    """

    name: str
    layers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    block: str | None = None
    droppable: bool = False


def units_of(anatomy: Anatomy) -> tuple[Unit, ...]:
    """The units in order of execution, those without layers behind the unit that makes their channels first."""
    places = _places(anatomy)
    homes = {group.name: _home(group, places) for group in anatomy.groups if not group.reason}
    return tuple(
        unit
        for name in dict.fromkeys(places.values())
        for unit in (_unit(anatomy, name, places, homes), *_widths_at(anatomy, name, places, homes))
    )


def by_units(anatomy: Anatomy) -> Anatomy:
    """The same network with a stage for each unit, so that whatever is set by stages is set by units."""
    units = units_of(anatomy)
    homes = {group: place for place, unit in enumerate(units) for group in unit.groups}
    return replace(anatomy, stages=tuple(unit.layers for unit in units), stage_of_group=homes)


def _unit(anatomy: Anatomy, name: str, places: dict[str, str], homes: dict[str, str | None]) -> Unit:
    block = next((block for block in anatomy.blocks or () if block.name == name), None)
    return Unit(
        name=name,
        layers=tuple(layer for layer, place in places.items() if place == name),
        groups=tuple(group for group, home in homes.items() if home == name),
        block=None if block is None else block.name,
        droppable=block is not None and not block.reason,
    )


def _widths_at(anatomy: Anatomy, name: str, places: dict[str, str], homes: dict[str, str | None]) -> Iterator[Unit]:
    """The channels that several units make, of which ``name`` is the first."""
    for group in anatomy.groups:
        if homes.get(group.name, "") is None and _first_place(group, places) == name:
            yield Unit(name=f"{group.name} (width)", groups=(group.name,))


def _places(anatomy: Anatomy) -> dict[str, str]:
    """Layer → name of its unit: the block that it lies in, or the first layer outside of blocks with its channels."""
    blocks = [block.name for block in anatomy.blocks or ()]
    places = {}
    for layer in anatomy.layers:
        block = next((name for name in blocks if lies_in(layer.name, name)), None)
        places[layer.name] = block or layer.name
    for group in anatomy.groups:
        outs = [name for name in group.outs if name in places]
        if outs and not group.reason and all(places[name] == name for name in outs):
            places |= dict.fromkeys(outs, outs[0])
    return places


def _home(group: ChannelGroup, places: dict[str, str]) -> str | None:
    """The one unit whose layers make a group's channels; None where several do."""
    makers = {places[name] for name in group.outs if name in places}
    if not makers:  # of a recurrent layer: the first that reads them
        makers = {places[name] for name in group.ins[:1] if name in places}
    return makers.pop() if len(makers) == 1 else None


def _first_place(group: ChannelGroup, places: dict[str, str]) -> str | None:
    return next((places[name] for name in group.outs if name in places), None)
