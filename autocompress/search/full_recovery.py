"""The recipe of a finalist: more steps than a trial had, with the roundings of the file where they matter."""

from autocompress.passes import Quantize, ShareWeights
from autocompress.recipe import Recipe

FULL_BITS = 8  # that round so finely that training need not know


def fully_recovered(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with at least ``steps`` of recovery, of which some train the roundings of weights with few bits.

    Those lose more by rounding than training in floating point wins back: on CIFAR-10 a depthwise network ends 5 points
    higher so with 3-bit weights, half a point with 4-bit ones, and where it was with 8-bit ones
    (``tests/benchmarks/quantization_aware.py --network depthwise``).
    """
    longer = recipe.with_steps(max(steps, recipe.recovery.steps))
    aware = longer.recovery.model_copy(update={"quantize_aware": _rounds_to_few_bits(recipe)})
    return longer.model_copy(update={"recovery": aware})


def has_few_bits(recipe: Recipe) -> bool:
    """Whether any weight is stored as integers of less than eight bits."""
    if not any(step.name == Quantize.name for step in recipe.passes):
        return False
    settings = Quantize.model_validate(recipe.settings_of(Quantize.name))
    bits = [each.weights.bits for each in (settings.default, *settings.layers.values())]
    return any(each is not None and each < FULL_BITS for each in bits)


def _rounds_to_few_bits(recipe: Recipe) -> bool:
    if not any(step.name == Quantize.name for step in recipe.passes):
        return False
    return has_few_bits(recipe) or bool(recipe.settings_of(ShareWeights.name))
