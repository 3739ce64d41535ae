"""Which activations are alive when, over the order in which a graph's kernels run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.kernels.runtime_graph import PlacedKernel, RuntimeGraph

VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"}
# Kernels of the runtime that write over an input of the output's size when nobody reads it any more.
OVERWRITING = {
    "Abs", "Add", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "LeakyRelu", "Log",
    "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub",
    "Tanh", "ThresholdedRelu",
}  # fmt: skip
_SUMMED_INPUT = 3  # of a convolution that adds a shortcut: it is written over
_SUMMING = {"Conv", "FusedConv"}
_PADDED_FLOATS = 128 * 128  # what a plain convolution unfolds at a time when it has fewer filters than positions
_MOST_UNFOLDED = 2**22  # bytes of an integer image; a guess that fits the one file measured with far larger ones
_FLOAT, _POINTER = 4, 8


@dataclass(frozen=True)
class Buffer:
    """Memory that holds one activation or several in turn, from kernel ``first`` to kernel ``last``, both included."""

    bytes: int
    first: int
    last: int


def live_bytes(graph: RuntimeGraph) -> int:
    """The most bytes of activations, with the workspace of the kernel that runs, that are alive at once.

    The caller holds inputs until the end, and gets outputs then.
    """
    alive = _alive(buffers(graph), len(graph.kernels))
    works = [workspace_bytes(placed.kernel) for placed in graph.kernels]
    return max((held + work for held, work in zip(alive, works, strict=True)), default=0)


def _alive(held: Iterable[Buffer], count: int) -> list[int]:
    change = [0] * (count + 1)
    for buffer in held:
        change[buffer.first] += buffer.bytes
        change[buffer.last + 1] -= buffer.bytes
    total, alive = 0, []
    for step in change[:count]:
        total += step
        alive.append(total)
    return alive


def buffers(graph: RuntimeGraph) -> list[Buffer]:
    """The memory that activations take, in the order in which it is first used; stored weights are none of it.

    The runtime plans ahead: an output takes the memory of a dead activation of its shape where there is one, which
    therefore stays allocated in between.
    """
    plan = _Plan(graph)
    for place in range(len(graph.kernels)):
        plan.run(place)
    return plan.found


class _Plan:
    """Gives memory to activations, kernel by kernel."""

    def __init__(self, graph: RuntimeGraph) -> None:
        self.graph = graph
        self.origin = _origins(graph)
        self.kept = _kept(graph, self.origin)
        self.last = _last_reads(graph, self.origin) | dict.fromkeys(self.kept, len(graph.kernels) - 1)
        self.found: list[Buffer] = []
        self.place_of: dict[str, int] = {}  # activation → index into found
        self.dead: list[tuple[Tensor, int]] = []  # what it was made for, index into found; the latest dead first
        self.shape_of: dict[int, Tensor] = {}

    def run(self, place: int) -> None:
        """One kernel: memory for what it makes, then what it was the last to read is dead."""
        placed = self.graph.kernels[place]
        for name, tensor in named_inputs(placed):
            if name in self.origin and self.origin[name] not in self.place_of:
                self._start(name, tensor, 0)  # an input of the graph: there from the beginning
        for name, tensor in named_outputs(placed):
            if self.origin.get(name) == name:
                self._give(name, tensor, place)
        read = dict.fromkeys(self.origin[name] for name in (*placed.reads, *placed.makes) if name in self.origin)
        for root in read:
            index = self.place_of[root]
            if root not in self.kept and self.found[index].last == place:
                self.dead.insert(0, (self.shape_of[index], index))

    def _give(self, name: str, tensor: Tensor, place: int) -> None:
        index = self._overwritten(place, tensor)
        if index is None and name not in self.kept:
            index = self._left_over(tensor)
        if index is None:
            self._start(name, tensor, place)
        else:
            self.place_of[name] = index
            self.found[index] = replace(self.found[index], last=self.last[name])

    def _start(self, name: str, tensor: Tensor, place: int) -> None:
        self.place_of[name] = len(self.found)
        self.shape_of[len(self.found)] = tensor
        self.found.append(Buffer(int(tensor.bytes), place, self.last[name]))

    def _overwritten(self, place: int, made: Tensor) -> int | None:
        """The memory of an input that dies here, if the kernel can write over it."""
        placed = self.graph.kernels[place]
        inputs = list(named_inputs(placed))
        if placed.kernel.operator in _SUMMING:
            inputs = inputs[_SUMMED_INPUT:]
        elif placed.kernel.operator not in OVERWRITING:
            return None
        for name, tensor in inputs:
            root = self.origin.get(name)
            if root is not None and tensor.bytes == made.bytes and self.last[root] == place and root not in self.kept:
                return self.place_of[root]
        return None

    def _left_over(self, made: Tensor) -> int | None:
        """The memory of the latest dead activation of the same shape."""
        for position, (tensor, index) in enumerate(self.dead):
            if tensor.shape == made.shape and tensor.bytes == made.bytes:
                del self.dead[position]
                return index
        return None


def _last_reads(graph: RuntimeGraph, origin: dict[str, str]) -> dict[str, int]:
    """Activation with memory of its own → the last kernel that reads it or a view of it."""
    last = {root: place for place, placed in enumerate(graph.kernels) for root in placed.makes if root in origin}
    for place, placed in enumerate(graph.kernels):
        last |= {origin[name]: place for name in placed.reads if name in origin}
    return last


def _kept(graph: RuntimeGraph, origin: dict[str, str]) -> set[str]:
    """Inputs and outputs of the graph, which are the caller's."""
    read = {name for placed in graph.kernels for name in placed.reads}
    made = {name for placed in graph.kernels for name in placed.makes}
    return {root for name, root in origin.items() if name not in read or name not in made}


def _origins(graph: RuntimeGraph) -> dict[str, str]:
    """Activation → the activation whose memory it is a view of, or itself."""
    origin: dict[str, str] = {}
    for placed in graph.kernels:
        for name, tensor in named_inputs(placed):
            if not tensor.stored:
                origin.setdefault(name, name)
        first = placed.reads[0] if placed.reads else ""
        is_view = placed.kernel.operator in VIEWS and first in origin
        for name, tensor in named_outputs(placed):
            if not tensor.stored:
                origin[name] = origin[first] if is_view else name
    return origin


def named_inputs(placed: PlacedKernel) -> Iterable[tuple[str, Tensor]]:
    """Names and tensors of what a kernel reads."""
    return zip(placed.reads, (tensor for tensor in placed.kernel.inputs if tensor.dtype), strict=True)


def named_outputs(placed: PlacedKernel) -> Iterable[tuple[str, Tensor]]:
    """Names and tensors of what a kernel makes."""
    return zip((name for name in placed.makes if name), placed.kernel.outputs, strict=True)


def workspace_bytes(kernel: Kernel) -> int:
    """What a kernel allocates for itself while it runs, as far as it is known: images unfolded for a matrix product."""
    if kernel.op in _SUMMING:
        return _plain_convolution(kernel)
    return _integer_convolution(kernel) if kernel.operator == "QLinearConv" else 0


def _plain_convolution(kernel: Kernel) -> int:
    """Unfolds the whole image when that has fewer positions than there are filters, else a piece of fixed size."""
    weight = kernel.inputs[1].shape
    if _is_pointwise(kernel, weight):
        return 0
    positions = kernel.outputs[0].size // (weight[0] * max(1, kernel.outputs[0].shape[0]))
    unfolded = positions * math.prod(weight[1:])
    return _FLOAT * (unfolded if weight[0] > positions else min(unfolded, _PADDED_FLOATS))


def _integer_convolution(kernel: Kernel) -> int:
    """The unfolded image or, depthwise, a pointer to each of its pixels."""
    weight, made = kernel.inputs[3].shape, kernel.outputs[0]
    positions = made.size // (weight[0] * max(1, made.shape[0]))
    if weight[1] == 1 and kernel.attribute("group", 1) == weight[0]:
        return _POINTER * positions * math.prod(weight[2:])
    return 0 if _is_pointwise(kernel, weight) else min(_MOST_UNFOLDED, positions * math.prod(weight[1:]))


def _is_pointwise(kernel: Kernel, weight: tuple[int, ...]) -> bool:
    strides = kernel.attribute("strides", ())
    pads = kernel.attribute("pads", ())
    moves = any(step != 1 for step in strides) if isinstance(strides, tuple) else False
    return math.prod(weight[2:]) == 1 and not moves and not (isinstance(pads, tuple) and any(pads))
