"""From a file's nodes to a list of calls that serves any batch.

A file has one batch size, and its shape constants say so. All nodes run here twice side by side, on one file-sized
batch and on two at once: the axis in which a tensor differs carries the batch, and shapes are made free there. At the
end both must have computed the same, sample by sample: a network that mixes samples is refused, not trained wrongly.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor

from autocompress.errors import ModelError
from autocompress.export.trainable.fake_quant import fake_quantize
from autocompress.export.trainable.leaves import Leaves
from autocompress.export.trainable.node import Function, Node
from autocompress.export.trainable.operators import Operator, operator_of
from autocompress.export.trainable.reading import File, attributes_of

# Rounded numbers that these move about stay on their grid, so they are not rounded again.
_KEEP_THE_GRID = {
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Expand", "MaxPool",
}  # fmt: skip
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "Equal", "Greater", "Less"}
Values = dict[str, Tensor]
_Grid = tuple[float, int, int, int]  # scale, zero point, lowest and highest integer


@dataclass(frozen=True, kw_only=True)
class Call:
    """One function of named tensors; ``dead`` are those that nothing later reads."""

    function: Function
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...] = ()

    def run(self, values: Values) -> None:
        """Compute the outputs into ``values``."""
        results = self.function(*[values[name] if name else None for name in self.inputs])
        values.update(zip(self.outputs, (results,) if isinstance(results, Tensor) else results, strict=False))
        for name in self.dead:
            del values[name]


def plan_calls(file: File, leaves: Leaves) -> tuple[Call, ...]:
    """The calls in order; what they need of the file's constants is added to ``leaves``.

    Raises:
        ModelError: an unknown operator, or one that cannot run at another batch.
    """
    planner = _Planner(file, leaves)
    with torch.no_grad():
        for node in file.nodes:
            planner.add(node)
        planner.check()
    return _freed(planner.calls, keep=file.output_name)


class _Planner:
    """The two runs side by side, and the calls that they agree on."""

    def __init__(self, file: File, leaves: Leaves) -> None:
        self.calls: list[Call] = []
        self._file, self._leaves = file, leaves
        self._batch = file.input_shape[0]
        self._samples = [_sample(file, seed) for seed in (0, 1)]
        self._one: Values = {file.input_name: self._samples[0]}
        self._two: Values = {file.input_name: torch.cat(self._samples)}
        self._same: dict[str, str] = {}  # a tensor that only renames another
        self._grids: dict[str, _Grid] = {}

    def add(self, node: NodeProto) -> None:
        """Turn one node into a call, or into nothing where it only renames."""
        if node.op_type == "DequantizeLinear":
            self._dequantize(node)
        elif node.op_type == "QuantizeLinear":
            self._quantize(node)
        else:
            self._compute(node)

    def _compute(self, node: NodeProto) -> None:
        operator = operator_of(node.op_type, node.name)
        inputs = [self._source(name) for name in node.input]
        passed = tuple(name for place, name in enumerate(inputs) if place not in operator.static)
        self._add_leaves(node, operator, inputs)
        facts = self._facts(node, inputs)
        for place in operator.static:
            if place < len(inputs) and inputs[place] and facts.constants[place] is None:
                raise facts.refuse(f"its input {place} must be constant")
        self._append(node, operator.build(facts), passed)
        if node.op_type in _KEEP_THE_GRID and inputs[0] in self._grids:
            self._grids.update(dict.fromkeys(node.output, self._grids[inputs[0]]))

    def _append(
        self, node: NodeProto, function: Function, inputs: tuple[str, ...], trial: Function | None = None
    ) -> None:
        """Add a call; ``trial`` takes its place in the two runs."""
        call = Call(function=function, inputs=inputs, outputs=tuple(node.output))
        tried = Call(function=trial or function, inputs=inputs, outputs=call.outputs)
        try:
            tried.run(self._one)
            tried.run(self._two)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ModelError(
                f"node {node.name!r} ({node.op_type}) must run at any batch: {str(error).splitlines()[0]}; "
                "export the file with batch 1"
            ) from error
        self.calls.append(call)

    def _dequantize(self, node: NodeProto) -> None:
        if node.input[0] in self._file.constants:
            self._leaves.add_dequantized(node)
            self._refresh(node.output[0])
            return
        source = self._source(node.input[0])
        if self._grids.get(source) != self._grid(node, self._grids.get(source)):
            raise ModelError(f"node {node.name!r} must dequantize with the scale that its input was quantized with")
        self._same[node.output[0]] = source

    def _quantize(self, node: NodeProto) -> None:
        source, grid = self._source(node.input[0]), self._grid(node, None)
        if self._grids.get(source) == grid:
            self._same[node.output[0]] = source
            return
        scale, zero_point, low, high = grid
        function = partial(fake_quantize, scale=scale, zero_point=zero_point, low=low, high=high)
        if source in self._file.constants:
            self._leaves.add_constant(source, trained=True)
            self._refresh(source)
        self._append(node, function, (source,), trial=_same)  # rounding would hide what the two runs have in common
        self._grids[node.output[0]] = grid

    def _grid(self, node: NodeProto, default: _Grid | None) -> _Grid:
        """The grid that a node's constants say; 8 bits without sign where there is no zero point."""
        constants = [self._file.constants.get(name) for name in node.input[1:]]
        if constants[0] is None or constants[0].size != 1:
            raise ModelError(f"node {node.name!r} must have one constant scale for all activations")
        point = constants[1] if len(constants) > 1 else None
        if point is None:
            low, high = default[2:] if default is not None else (0, 255)
            return float(constants[0].item()), 0, low, high
        limits = np.iinfo(point.dtype)
        return float(constants[0].item()), int(point.item()), int(limits.min), int(limits.max)

    def _source(self, name: str) -> str:
        return self._same.get(name, name)

    def _add_leaves(self, node: NodeProto, operator: Operator, inputs: list[str]) -> None:
        for place, name in enumerate(inputs):
            value = self._file.constants.get(name)
            if value is None or place in operator.static:
                continue
            is_factor = node.op_type in _ELEMENTWISE and value.size == 1
            self._leaves.add_constant(name, trained=not is_factor and place not in operator.fixed)
            self._refresh(name)

    def _refresh(self, name: str) -> None:
        """Bring a new leaf into both runs."""
        if name not in self._one:
            self._one[name] = self._two[name] = self._leaves.value(name)

    def _facts(self, node: NodeProto, inputs: list[str]) -> Node:
        return Node(
            op=node.op_type,
            name=node.name,
            attributes=attributes_of(node),
            constants=tuple(self._file.constants.get(name) for name in inputs),
            shapes=tuple(self._shape(name) for name in inputs),
            batch_axes=tuple(self._batch_axis(node, name) for name in inputs),
            batch=self._batch,
            n_outputs=len(node.output),
        )

    def _shape(self, name: str) -> tuple[int, ...] | None:
        found = self._one.get(name, self._file.constants.get(name))
        return None if found is None else tuple(found.shape)

    def _batch_axis(self, node: NodeProto, name: str) -> int | None:
        if name not in self._one:
            return None
        one, two = self._one[name].shape, self._two[name].shape
        axes = [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(axes) > 1 or any(two[i] != 2 * one[i] for i in axes):
            raise ModelError(f"node {node.name!r} ({node.op_type}) must see the batch in one axis, got {tuple(two)}")
        return axes[0] if axes else None

    def check(self) -> None:
        """Raise a ModelError unless a batch is computed as its samples are."""
        name, half = self._file.output_name, self._batch
        if name in self._same:
            self.calls.append(Call(function=_same, inputs=(self._same[name],), outputs=(name,)))
            self._one[name], self._two[name] = self._one[self._same[name]], self._two[self._same[name]]
        first, both = self._one[name], self._two[name]
        second = self._run_again()
        expected = torch.cat([first, second])
        far = both.shape != expected.shape or not torch.allclose(
            both, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
        )
        if far:
            raise ModelError(
                "a trainable file computes each sample by itself; "
                f"at batch {2 * half} its outputs differ from those at {half}"
            )

    def _run_again(self) -> Tensor:
        values = self._leaves()
        values[self._file.input_name] = self._samples[1]
        for call in self.calls:
            is_rounding = isinstance(call.function, partial) and call.function.func is fake_quantize
            Call(function=_same if is_rounding else call.function, inputs=call.inputs, outputs=call.outputs).run(values)
        result: Tensor = values[self._file.output_name]
        return result


def _same(x: Tensor) -> Tensor:
    return x


def _sample(file: File, seed: int) -> Tensor:
    """Numbers for a trial run: normal, or zeros and ones where inputs are integers."""
    generator = torch.Generator().manual_seed(seed)
    if file.input_type.kind == "f":
        return torch.randn(file.input_shape, generator=generator)
    return torch.randint(0, 2, file.input_shape, generator=generator).to(_TORCH_TYPES.get(file.input_type.name))


_TORCH_TYPES: dict[Any, torch.dtype] = {
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


def _freed(calls: list[Call], keep: str) -> tuple[Call, ...]:
    """The calls, each forgetting what is read there for the last time; leaves are parameters and stay anyway."""
    seen = {keep, ""}
    freed = []
    for call in reversed(calls):
        last = tuple(name for name in dict.fromkeys(call.inputs) if name not in seen)
        seen.update(call.inputs)
        freed.append(Call(function=call.function, inputs=call.inputs, outputs=call.outputs, dead=last))
    return tuple(reversed(freed))
