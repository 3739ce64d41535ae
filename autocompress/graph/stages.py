"""Layers grouped into a handful of stages, so that a search has few dimensions."""

from itertools import pairwise

from autocompress.graph.layer_table import LayerFacts

MOST_STAGES = 5


def stages_of(layers: tuple[LayerFacts, ...], most: int = MOST_STAGES) -> tuple[tuple[str, ...], ...]:
    """Layers of one resolution together, in order of execution, at most ``most`` stages of layer names.

    A layer that works on a pooled vector (squeeze-excite, the head) belongs to the stage that it follows. A network of
    one resolution (a transformer, an MLP) is cut into three parts of equal depth instead.
    """
    stages: dict[int, list[str]] = {}
    current = max((layer.positions for layer in layers), default=1)
    for layer in layers:
        current = layer.positions if layer.positions > 1 else current
        stages.setdefault(current, []).append(layer.name)
    runs = list(stages.values())
    if len(runs) < 2:
        return _by_depth([layer.name for layer in layers])
    while len(runs) > most:
        smallest = min(range(len(runs) - 1), key=lambda i: len(runs[i]) + len(runs[i + 1]))
        runs[smallest : smallest + 2] = [runs[smallest] + runs[smallest + 1]]
    return tuple(tuple(run) for run in runs)


def _by_depth(names: list[str]) -> tuple[tuple[str, ...], ...]:
    parts = min(3, len(names))
    bounds = [round(i * len(names) / parts) for i in range(parts + 1)] if parts else [0]
    return tuple(tuple(names[a:b]) for a, b in pairwise(bounds))
