"""How the file holds and computes each layer, in words."""

from torch import nn

from autocompress.layers.constraint import Constraint
from autocompress.passes.compose import Composed
from autocompress.passes.quantize import why_not
from autocompress.precision import Activations, Precision


def stored_as(composed: Composed) -> dict[str, str]:
    """Layer → weights/activations, with its codebook and sparsity: ``4-bit codebook/int8, 90% sparse``."""
    return {
        name: in_words(module, composed.plan.of(name), composed.constraints.get(name, Constraint()))
        for name, module in composed.model.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
    }


def in_words(layer: nn.Module, precision: Precision, constraint: Constraint) -> str:
    """What one layer gets of ``precision``: one that its kind cannot have leaves it in floats."""
    if constraint.indices is not None:
        activations = Activations.FP32 if why_not(layer, precision, None) else precision.activations
        words = f"{constraint.bits}-bit codebook/{activations}"
    else:
        words = str(Precision() if why_not(layer, precision, None) else precision)
    if constraint.kept is None:
        return words
    zeros = 1 - float(constraint.kept.float().mean())
    return f"{words}, {constraint.pattern or f'{zeros:.0%}'} sparse"
