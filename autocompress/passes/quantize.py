"""Number formats, decided per layer and carried out when the file is written."""

from typing import ClassVar

from pydantic import Field
from torch import nn

from autocompress.errors import RecipeError
from autocompress.graph.layer_table import WEIGHTED
from autocompress.graph.surgery import modules_of
from autocompress.layers.constraint import Constraint
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, require_layers
from autocompress.precision import INT8, Activations, Calibration, FilePlan, Format, Precision


class Quantize(Pass):
    """Fewer bits for weights, integers for arithmetic, layer by layer. An entry also covers the layers inside its own.

    Weights have one scale per output channel (or per ``block`` of inputs); fewer than 8 bits are stored packed. Static
    int8 arithmetic takes the ranges of activations from training samples by ``calibration``. ``correct_bias`` moves
    biases by the mean error of the rounded weights; ``equalize`` evens the channels of neighbouring layers first.

    The network in PyTorch stays in floating point; ``autocompress.export`` writes the integers, and trains them where
    the recovery is quantization-aware.

    Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877; Krishnamoorthi 2018, sec. 3,
    https://arxiv.org/abs/1806.08342; Nagel et al. 2019 (bias, equalization), https://arxiv.org/abs/1906.04721
    """

    name: ClassVar[str] = "quantize"
    stage: ClassVar[Stage] = Stage.PRECISION
    source: ClassVar[str] = "https://arxiv.org/abs/1806.08342"
    saves: ClassVar[str] = "ms, bytes, RAM"

    default: Precision = INT8
    layers: dict[str, Precision] = Field(default_factory=dict)
    calibration: Calibration = Calibration.MIN_MAX
    correct_bias: bool = False
    equalize: bool = False

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:
        """Check what is asked; the model is not changed.

        Raises:
            RecipeError: an absent layer, or one with two storage formats.
        """
        require_layers(model, list(self.layers), "quantize.layers")
        plan = self.finalize(FilePlan())
        outcome, firsts = Outcome(), first_holders(model)
        for name, module in modules_of(model, (*WEIGHTED, nn.RNNBase)):
            first = firsts.get(name, name)
            precision, constraint = plan.of(first), context.constraints.get(name)
            if name in self.layers and constraint is not None:
                _refuse_two_formats(name, precision, constraint)
            reason = why_not(module, precision, constraint)
            if plan.of(name) != precision:
                outcome.skipped[name] = f"it shares its weight with {first}, which is {precision}"
            elif reason:
                outcome.skipped[name] = reason
            elif precision != Precision():
                outcome.changed[name] = str(precision)
        return outcome

    def finalize(self, plan: FilePlan) -> FilePlan:
        """The plan with this pass's part."""
        return plan.model_copy(
            update={
                "default": self.default,
                "layers": {**plan.layers, **self.layers},
                "calibration": self.calibration,
                "correct_bias": self.correct_bias,
                "equalize": self.equalize,
            }
        )


def first_holders(model: nn.Module) -> dict[str, str]:
    """Layer → the first that holds the same weight: its precision is that of all of them."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(layer.weight), name) for name, layer in modules_of(model, WEIGHTED)}


def granted(layer: nn.Module, precision: Precision, constraint: Constraint | None) -> Precision:
    """What of ``precision`` the file has for ``layer``; for a codebook, the format of its table."""
    if isinstance(layer, nn.RNNBase):
        return Precision()
    activations = Activations.FP32 if _why_not_dynamic(layer, precision) else precision.activations
    if constraint is not None and constraint.indices is not None:
        in_integers = activations is not Activations.FP32
        return Precision(weights=Format.INT8 if in_integers else Format.FP32, activations=activations)
    block = None if _why_no_blocks(layer, precision, constraint) else precision.block
    return Precision(weights=precision.weights, activations=activations, block=block)


def why_not(layer: nn.Module, precision: Precision, constraint: Constraint | None) -> str:
    """Why ``layer`` does not get all of ``precision``, and what it gets; empty when it gets all."""
    if precision == Precision():
        return ""
    if isinstance(layer, nn.RNNBase):
        return f"a {type(layer).__name__} is computed and stored in fp32"
    if constraint is not None and constraint.indices is not None:
        if precision == granted(layer, precision, constraint):
            return ""
        return f"its weights are a codebook of {constraint.bits} bits already, stored as such"
    return _why_not_dynamic(layer, precision) or _why_no_blocks(layer, precision, constraint)


def _why_not_dynamic(layer: nn.Module, precision: Precision) -> str:
    if precision.activations is not Activations.INT8_DYNAMIC or isinstance(layer, nn.Linear):
        return ""
    return (
        "int8 with ranges found at each inference is for linear layers, the runtime's convolution is slower so; "
        f"its weights are stored as {precision.weights}"
    )


def _why_no_blocks(layer: nn.Module, precision: Precision, constraint: Constraint | None) -> str:
    if precision.block is None:
        return ""
    if constraint is not None:
        reason = "weights in blocks are stored whole, this layer is sparse"
    elif not isinstance(layer, nn.Linear):
        reason = "weights in blocks are for linear layers, the runtime has no such convolution"
    elif layer.in_features < precision.block:
        reason = f"its {layer.in_features} inputs are less than a block of {precision.block}"
    else:
        return ""
    return f"{reason}; its weights are stored as {precision.weights} with one scale per output channel"


def _refuse_two_formats(name: str, precision: Precision, constraint: Constraint) -> None:
    """A codebook and an entry of its own with other bits contradict each other."""
    clustered = constraint.indices is not None
    if clustered and (precision.weights.bits not in (None, 8) or precision.block is not None):
        raise RecipeError(
            f"quantize.layers.{name} stores weights as {precision.weights}, share_weights as a codebook of "
            f"{constraint.bits} bits; a layer has one of them: nearest: weights int8 without block"
        )
    if constraint.kept is not None and precision.block is not None:
        raise RecipeError(
            f"quantize.layers.{name} keeps weights in blocks, prune_weights leaves most of them out; "
            "a layer has one of them: nearest: the same weights without block"
        )
