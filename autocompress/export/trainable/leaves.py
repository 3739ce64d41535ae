"""The tensors that a file's network starts from: parameters, rounded weights, fixed numbers."""

import re
from collections.abc import Mapping

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor, nn

from autocompress.errors import ModelError
from autocompress.export.trainable.reading import File, attributes_of
from autocompress.export.trainable.weight import Grid, Weight, WeightRule
from autocompress.layers.constraint import Constraint


class Leaves(nn.Module):
    """Constants of a file by tensor name, made when they are first asked for, each initializer once."""

    def __init__(self, file: File, rules: Mapping[str, WeightRule], *, trains_scales: bool) -> None:
        super().__init__()
        self.floats = nn.ParameterDict()
        self.weights = nn.ModuleDict()
        self.fixed = nn.Module()
        self._rules, self._trains_scales = rules, trains_scales
        self._keys: dict[str, str] = {}  # initializer → the name of its parameter, module or buffer
        self._places: dict[str, tuple[str, str]] = {}  # tensor → initializer, kind
        self._constants = file.constants

    def forward(self) -> dict[str, Tensor]:
        """All leaves, weights rounded."""
        made = {key: weight() for key, weight in self.weights.items()}
        found: dict[str, Tensor] = {}
        for tensor, (name, kind) in self._places.items():
            key = self._keys[name]
            if kind == "float":
                found[tensor] = self.floats[key]
            else:
                found[tensor] = made[key] if kind == "weight" else getattr(self.fixed, key)
        return found

    def value(self, tensor: str) -> Tensor:
        """One leaf."""
        name, kind = self._places[tensor]
        key = self._keys[name]
        if kind == "weight":
            made: Tensor = self.weights[key]()
            return made
        found: Tensor = self.floats[key] if kind == "float" else getattr(self.fixed, key)
        return found

    def constrained(self) -> list[tuple[nn.Parameter, Constraint]]:
        """Masters with what they keep to."""
        weights = [weight for weight in self.weights.values() if isinstance(weight, Weight)]
        return [(weight.master, weight.constraint) for weight in weights if weight.constraint is not None]

    def weight(self, initializer: str) -> Weight | None:
        """The trained weight that is stored in ``initializer``; None where it is a plain parameter or fixed."""
        key = self._keys.get(initializer)
        found = self.weights[key] if key is not None and key in self.weights else None
        return found if isinstance(found, Weight) else None

    def float_parameter(self, initializer: str) -> nn.Parameter | None:
        """The plain parameter that is stored in ``initializer``."""
        key = self._keys.get(initializer)
        return self.floats[key] if key is not None and key in self.floats else None

    def add_constant(self, name: str, *, trained: bool) -> None:
        """Make an initializer a leaf: a parameter if it is a float and trained."""
        if name in self._places:
            return
        value = torch.from_numpy(np.array(self._constants[name]))
        rule = self._rules.get(name)
        if rule is not None:
            if rule.bits is not None:
                raise ModelError(f"WeightRule.bits is for weights that the file rounds, got {rule.bits} for {name!r}")
            self._add_weight(name, name, value, None, rule)
        elif trained and value.is_floating_point():
            self.floats[self._key(name)] = nn.Parameter(value)
            self._places[name] = name, "float"
        else:
            self.fixed.register_buffer(self._key(name), value)
            self._places[name] = name, "fixed"

    def add_dequantized(self, node: NodeProto) -> None:
        """Make what a DequantizeLinear reads from the file a leaf: a bias in 32 bits, a weight in eight."""
        name, output = node.input[0], node.output[0]
        if name in self._keys:
            self._places[output] = name, "float" if self._keys[name] in self.floats else "weight"
            return
        stored = self._constants[name]
        integers = torch.from_numpy(np.array(stored))
        scale = torch.from_numpy(np.array(self._constants[node.input[1]]))
        axis = int(attributes_of(node).get("axis", 1)) % max(integers.dim(), 1)
        has_point = len(node.input) > 2 and node.input[2]
        points = torch.from_numpy(np.array(self._constants[node.input[2]])) if has_point else torch.zeros(1)
        along = [-1 if scale.numel() > 1 and i == axis else 1 for i in range(integers.dim())]
        value = (integers - points.to(torch.int32).reshape(along)) * scale.reshape(along)
        if integers.dtype == torch.int32:
            self.floats[self._key(name)] = nn.Parameter(value)
            self._places[output] = name, "float"
            return
        limits = np.iinfo(stored.dtype)
        low = -limits.max if limits.min and not points.any() else limits.min
        grid = Grid(scale=scale.reshape(-1), zero_point=points.float().reshape(-1), axis=axis, low=low, high=limits.max)
        self._add_weight(output, name, value, grid, self._rules.get(name, WeightRule()))

    def _add_weight(self, tensor: str, name: str, value: Tensor, grid: Grid | None, rule: WeightRule) -> None:
        try:
            weight = Weight(value, grid, rule, trains_scales=self._trains_scales)
        except ModelError as error:
            raise ModelError(f"initializer {name!r}: {error}") from error
        self.weights[self._key(name)] = weight
        self._places[tensor] = name, "weight"

    def _key(self, name: str) -> str:
        """A name that modules and structure files accept, of its own for each initializer."""
        plain = key = "t_" + re.sub(r"\W", "_", name)  # "t_": no name of nn.Module's own
        while key in self._keys.values():
            key = f"{plain}_{len(self._keys)}"
        self._keys[name] = key
        return key
