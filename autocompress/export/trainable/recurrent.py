"""LSTM and GRU: ONNX's order of gates and layout brought to torch's."""

import torch
from torch import Tensor

from autocompress.export.trainable.node import Function, Node

_LSTM_GATES = (0, 2, 3, 1)  # ONNX: input, output, forget, cell; torch: input, forget, cell, output
_GRU_GATES = (1, 0, 2)  # ONNX: update, reset, hidden; torch: reset, update, new


def lstm(node: Node) -> Function:
    """All states, the last state, the last cell."""
    directions = _directions(node)

    def run(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        bias, h0, c0 = _optional(rest, (0, 2, 3))
        weights = _weights(w, r, bias, _LSTM_GATES)
        start = (_state(h0, x, r), _state(c0, x, r))
        states, last, cell = torch.lstm(x, start, weights, bias is not None, 1, 0.0, False, directions == 2, False)
        return _by_direction(states, directions), last, cell

    return run


def gru(node: Node) -> Function:
    """All states, the last state."""
    directions = _directions(node)
    if not node.get("linear_before_reset", 0):
        raise node.refuse("torch resets after the product (linear_before_reset = 1)")

    def run(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        bias, h0 = _optional(rest, (0, 2))
        weights = _weights(w, r, bias, _GRU_GATES)
        states, last = torch.gru(x, _state(h0, x, r), weights, bias is not None, 1, 0.0, False, directions == 2, False)
        return _by_direction(states, directions), last

    return run


def _directions(node: Node) -> int:
    node.require("direction", ("forward", "bidirectional"))
    node.require("layout", (0,))
    for attribute in ("activations", "clip", "input_forget"):
        if node.get(attribute, None):
            raise node.refuse(f"torch has no {attribute} to set")
    if len(node.shapes) > 4 and node.shapes[4] is not None:
        raise node.refuse("its sequences must have one length")
    if len(node.shapes) > 7 and node.shapes[7] is not None:
        raise node.refuse("torch has no peepholes")
    return 2 if node.get("direction", "forward") == "bidirectional" else 1


def _optional(rest: tuple[Tensor | None, ...], places: tuple[int, ...]) -> list[Tensor | None]:
    return [rest[place] if place < len(rest) else None for place in places]


def _weights(w: Tensor, r: Tensor, bias: Tensor | None, gates: tuple[int, ...]) -> list[Tensor]:
    """Per direction: input weight, state weight, and both biases where there are any."""
    flat = []
    for direction in range(w.shape[0]):
        flat += [_ordered(w[direction], gates), _ordered(r[direction], gates)]
        if bias is not None:
            flat += [_ordered(half, gates) for half in bias[direction].chunk(2)]
    return flat


def _ordered(stacked: Tensor, gates: tuple[int, ...]) -> Tensor:
    parts = stacked.chunk(len(gates))
    return torch.cat([parts[gate] for gate in gates])


def _state(given: Tensor | None, x: Tensor, r: Tensor) -> Tensor:
    """``[directions, n, width]``: the file's state for one sample serves all."""
    if given is None:
        return x.new_zeros(r.shape[0], x.shape[1], r.shape[2])
    return given.expand(-1, x.shape[1], -1).contiguous()


def _by_direction(states: Tensor, directions: int) -> Tensor:
    """``[steps, n, directions × width]`` to ONNX's ``[steps, directions, n, width]``."""
    steps, samples, width = states.shape
    return states.reshape(steps, samples, directions, width // directions).permute(0, 2, 1, 3)
