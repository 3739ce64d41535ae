"""The trainable network of a file: a plain list of calls on its parameters."""

from collections.abc import Mapping

from onnx import ModelProto
from torch import Tensor, nn

from autocompress.errors import ModelError, near
from autocompress.export.trainable.calls import Call, plan_calls
from autocompress.export.trainable.leaves import Leaves
from autocompress.export.trainable.reading import read
from autocompress.export.trainable.weight import WeightRule
from autocompress.layers.constraint import Constraint


class OnnxNetwork(nn.Module):
    """What an ONNX file computes, for any batch size, with its weights as parameters.

    Float constants of the file are parameters, each once, so what layers share stays shared; single numbers in sums and
    products (a factor of attention) are not trained, nor are statistics of BatchNorm. In a file with
    QuantizeLinear/DequantizeLinear pairs, activations are rounded on the file's grid, int8 weights are rounded from
    float masters on trained steps, and int32 biases are plain floats.

    Args:
        proto: one input ``[batch, ...]``, one output. Left alone. Build it before its names are shortened: that also
            merges equal constants, which would then be trained as one.
        rules: how single weights are trained, by the name of the initializer that holds them.
        trains_scales: whether the steps of integer weights are trained.

    Raises:
        ModelError: an operator that torch does not compute the same way; an operation across the batch; a rule for a
            weight that the file does not have.
    """

    def __init__(
        self, proto: ModelProto, rules: Mapping[str, WeightRule] | None = None, *, trains_scales: bool = True
    ) -> None:
        super().__init__()
        file = read(proto)
        for name in rules or {}:
            if name not in file.constants:
                raise ModelError(
                    f"a WeightRule names an initializer of the file, got {name!r}{near(name, file.constants)}"
                )
        self.leaves = Leaves(file, rules or {}, trains_scales=trains_scales)
        self._input, self._output = file.input_name, file.output_name
        self._calls: tuple[Call, ...] = plan_calls(file, self.leaves)

    def forward(self, x: Tensor) -> Tensor:
        """The file's output ``[n, ...]``."""
        values: dict[str, Tensor] = self.leaves()
        values[self._input] = x
        for call in self._calls:
            call.run(values)
        return values[self._output]

    def tie(self, initializer: str, other: str) -> None:
        """Train one weight of the file as another: the same master, rounded on the same steps."""
        first, second = self.leaves.weight(other), self.leaves.weight(initializer)
        if first is None or second is None:
            raise ModelError(f"weights that are tied need a WeightRule each, got {initializer!r} and {other!r}")
        second.master, second.rounding = first.master, first.rounding

    def constrained(self) -> list[tuple[nn.Parameter, Constraint]]:
        """The masters that keep to a constraint, for ``autocompress.layers.constraint.held``."""
        return self.leaves.constrained()
