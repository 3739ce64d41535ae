"""What was done to each layer, for the report."""

from collections.abc import Mapping

from autocompress.graph.layer_table import LayerFacts
from autocompress.precision import FilePlan
from autocompress.result import LayerRow


def layer_rows(
    before: tuple[LayerFacts, ...],
    after: Mapping[str, str],
    params_after: Mapping[str, int],
    plan: FilePlan,
    notes: tuple[str, ...],
) -> tuple[LayerRow, ...]:
    """One row per layer of the base; a layer that became several shows them joined by ``then``.

    Args:
        before: the base's layers.
        after: layer → description in the compressed model, in order of execution.
        params_after: layer → parameters in the compressed model.
        plan: which precision each layer has in the file.
        notes: ``pass: layer: reason`` of what was skipped.
    """
    return tuple(_row(layer, after, params_after, plan, notes) for layer in before)


def _row(
    layer: LayerFacts, after: Mapping[str, str], params_after: Mapping[str, int], plan: FilePlan, notes: tuple[str, ...]
) -> LayerRow:
    parts = [name for name in after if name == layer.name or name.startswith(f"{layer.name}.")]
    return LayerRow(
        layer=layer.name,
        before=str(layer),
        after=" then ".join(after[name] for name in parts) or "removed",
        precision=str(plan.of(layer.name)),
        params_before=layer.params,
        params_after=sum(params_after[name] for name in parts),
        note="; ".join(note.split(": ", 2)[-1] for note in notes if f": {layer.name}: " in note),
    )
