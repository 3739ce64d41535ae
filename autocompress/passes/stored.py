"""How the file holds and computes each layer, in words."""

from torch import nn

from autocompress.graph.layer_table import WEIGHTED
from autocompress.graph.surgery import modules_of
from autocompress.layers.constraint import Constraint
from autocompress.passes.compose import Composed
from autocompress.passes.quantize import first_holders, granted
from autocompress.precision import Precision


def stored_as(composed: Composed) -> dict[str, str]:
    """Layer → weights/activations, with its codebook and sparsity: ``4-bit codebook/int8, 90% sparse``."""
    firsts = first_holders(composed.model)
    return {
        name: in_words(layer, composed.plan.of(firsts[name]), composed.constraints.get(name))
        for name, layer in modules_of(composed.model, WEIGHTED)
    }


def in_words(layer: nn.Module, precision: Precision, constraint: Constraint | None) -> str:
    """What one layer gets of ``precision``, and what its weight keeps to."""
    found = granted(layer, precision, constraint)
    words = str(found)
    if constraint is not None and constraint.indices is not None:
        words = f"{constraint.bits}-bit codebook/{found.activations}"
    if constraint is None or constraint.kept is None:
        return words
    zeros = 1 - float(constraint.kept.float().mean())
    return f"{words}, {constraint.pattern or f'{zeros:.0%}'} sparse"
