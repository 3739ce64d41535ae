"""Eight-bit arithmetic, decided per layer and carried out when the file is written."""

from typing import ClassVar

from pydantic import Field
from torch import nn

from autocompress.passes.base import Outcome, Pass, PassContext, Stage, require_layers
from autocompress.precision import INT8, FilePlan, Precision


class Quantize(Pass):
    """Post-training static quantization: int8 weights per channel, calibrated 8-bit activations.

    The network in PyTorch stays in floating point; ``autocompress.export`` writes the integers. A layer's entry also
    covers the layers inside it.

    Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877; Krishnamoorthi 2018, sec. 3,
    https://arxiv.org/abs/1806.08342
    """

    name: ClassVar[str] = "quantize"
    stage: ClassVar[Stage] = Stage.PRECISION
    source: ClassVar[str] = "https://arxiv.org/abs/1806.08342"
    saves: ClassVar[str] = "ms, bytes, RAM"

    default: Precision = INT8
    layers: dict[str, Precision] = Field(default_factory=dict)

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:  # noqa: ARG002  # works on the file
        """Check the names; the model is not changed."""
        require_layers(model, list(self.layers), "quantize.layers")
        return Outcome()

    def finalize(self, plan: FilePlan) -> FilePlan:
        """The plan with this pass's precisions."""
        return plan.model_copy(update={"default": self.default, "layers": {**plan.layers, **self.layers}})
