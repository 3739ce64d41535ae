"""What a graph's kernels say about where its time goes: in sentences, for whoever made the network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from autocompress.hardware.kernels.runtime_graph import PlacedKernel, RuntimeGraph
from autocompress.units import Kind, format_quantity

NAMED = 5  # layers that a note names at most
ALIGNMENT = 4  # of channels, below which the runtime leaves its blocked layout
# Operators that only move numbers: an int8 border moves past them.
_MOVING = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "ReorderInput", "ReorderOutput"}
_LAYOUT = {"Transpose", "ReorderInput", "ReorderOutput"}
_CONVERTING = {"QuantizeLinear", "DequantizeLinear"}
_PLAIN_CONVOLUTIONS = {"Conv", "microsoft.FusedConv"}


@dataclass(frozen=True, kw_only=True)
class Missed:
    """A float convolution outside the blocked layout: which width keeps it out, and the nearest that would not."""

    layer: str
    what: str
    width: int
    nearest: int
    us: float


def notes_on(graph: RuntimeGraph, us: Sequence[float], channel_block: int) -> tuple[str, ...]:
    """Conversions inside an int8 network, changes of layout, and float convolutions whose widths cost them theirs.

    Args:
        graph: of the runtime.
        us: predicted microseconds of each of its kernels.
        channel_block: of the machine; 4 and less means that it has no blocked layout.
    """
    total = sum(us)
    found = (
        _islands(graph, us, total),
        _layout_changes(graph, us, total),
        _missed_layout(list(missed_blocks(graph, us, channel_block)), total),
    )
    return tuple(note for note in found if note)


def island_kernels(graph: RuntimeGraph) -> list[int]:
    """Places of conversions between int8 and float that are not at the network's ends.

    Where an int8 network takes its input and leaves its output it must convert; everywhere else a conversion is a pair
    of roundings that did not fuse into an integer kernel, or a float kernel between integer ones.
    """
    makers = {name: placed for placed in graph.kernels for name in placed.makes}
    readers: dict[str, list[PlacedKernel]] = {}
    for placed in graph.kernels:
        for name in placed.reads:
            readers.setdefault(name, []).append(placed)
    return [
        place
        for place, placed in enumerate(graph.kernels)
        if (placed.kernel.operator == "QuantizeLinear" and not _comes_from_input(placed, makers))
        or (placed.kernel.operator == "DequantizeLinear" and not _goes_to_output(placed, readers))
    ]


def missed_blocks(graph: RuntimeGraph, us: Sequence[float], channel_block: int) -> Iterator[Missed]:
    """Float convolutions of images that the runtime runs in the plain layout because of their widths.

    Source: nchwc_transformer.cc of onnxruntime: dense convolutions need input channels in multiples of four, unless
    there are fewer than a block; grouped ones output channels in multiples of four, and whole blocks in every group.
    """
    if channel_block <= ALIGNMENT:
        return
    for placed, time_us in zip(graph.kernels, us, strict=True):
        kernel = placed.kernel
        if kernel.op not in _PLAIN_CONVOLUTIONS or len(kernel.inputs) < 2:
            continue
        image, weight = kernel.inputs[:2]
        if image.dtype != "float" or len(image.shape) != 4 or not weight.stored:
            continue
        groups = int(kernel.attribute("group", 1))  # type: ignore[arg-type]
        missed = _missed_width(image.shape[1], weight.shape[0], groups, channel_block)
        if missed is not None:
            what, width, unit = missed
            nearest = max(unit, round(width / unit) * unit)
            yield Missed(layer=placed.name, what=what, width=width, nearest=nearest, us=time_us)


def _missed_width(c_in: int, c_out: int, groups: int, block: int) -> tuple[str, int, int] | None:
    """Which width, its value and the multiple that it must be of; None where widths are not the reason."""
    if groups == 1:
        return ("input channels", c_in, ALIGNMENT) if c_in >= block and c_in % ALIGNMENT else None
    if c_out % ALIGNMENT:
        return "channels", c_out, ALIGNMENT
    is_depthwise = groups == c_in == c_out
    if not is_depthwise and (c_in // groups % block or c_out // groups % block):
        each = c_in // groups if c_in // groups % block else c_out // groups
        return "channels of a group", each, block
    return None


def _comes_from_input(placed: PlacedKernel, makers: dict[str, PlacedKernel]) -> bool:
    made_by = makers.get(placed.reads[0])
    while made_by is not None and made_by.kernel.operator in _MOVING:
        made_by = makers.get(made_by.reads[0])
    return made_by is None and not placed.kernel.inputs[0].stored


def _goes_to_output(placed: PlacedKernel, readers: dict[str, list[PlacedKernel]]) -> bool:
    if placed.kernel.inputs[0].stored:
        return False
    waiting = [placed]
    while waiting:
        for reader in readers.get(waiting.pop().makes[0], []):
            if reader.kernel.operator not in _MOVING:
                return False
            waiting.append(reader)
    return True


def _islands(graph: RuntimeGraph, us: Sequence[float], total: float) -> str:
    places = island_kernels(graph)
    if not places:
        return ""
    floats = sorted(
        {
            reader.kernel.operator
            for reader in graph.kernels
            for place in places
            if graph.kernels[place].kernel.operator == "DequantizeLinear"
            and graph.kernels[place].makes[0] in reader.reads
            and reader.kernel.operator not in _CONVERTING
        }
    )
    around = f"; float inside: {_listed(floats, str)}" if floats else ""
    count, share = _count(len(places), "conversion"), _share(sum(us[place] for place in places), total)
    return f"int8 islands: {count} between int8 and float inside the network, {share}{around}"


def _layout_changes(graph: RuntimeGraph, us: Sequence[float], total: float) -> str:
    times: dict[str, list[float]] = {}
    for placed, time_us in zip(graph.kernels, us, strict=True):
        if placed.kernel.operator in _LAYOUT:
            times.setdefault(placed.kernel.operator, []).append(time_us)
    if not times:
        return ""
    counts = ", ".join(f"{len(each)} {name}" for name, each in sorted(times.items()))
    return f"layout changes: {counts}, {_share(sum(map(sum, times.values())), total)}"


def _missed_layout(missed: list[Missed], total: float) -> str:
    if not missed:
        return ""
    missed.sort(key=lambda each: -each.us)
    layers = _listed(missed, lambda each: f"{each.layer} has {each.what} {each.width}, nearest {each.nearest}")
    return (
        f"plain layout: {_count(len(missed), 'float convolution')} outside the blocked layout because of widths, "
        f"{_share(sum(each.us for each in missed), total)}: {layers}"
    )


def _listed(items: Sequence[object], text: Callable[..., str]) -> str:
    more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(text(each) for each in items[:NAMED]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _share(us: float, total: float) -> str:
    return f"{format_quantity(us / 1e3, Kind.TIME)} ({us / total:.0%})" if total else "no time"
