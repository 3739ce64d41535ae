"""Recurrent layers: a product over all steps, and a smaller one in each."""

from typing import NamedTuple

from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.paths.description import BLOCK, Description, fill, log

GATES = {"LSTM": 4, "GRU": 3}


class Terms(NamedTuple):
    """Amounts of work, those of products at the same places."""

    starts: float
    state_macs: float  # in products of one row each, slower than those over all steps
    macs: float
    steps: float
    read_bytes: float
    written_bytes: float
    weight_bytes: float
    reread_bytes: float  # weights of the state, in every step
    states: float


class Features(NamedTuple):
    """The shape; amounts as logarithms."""

    steps: float
    hidden: float
    inputs: float
    directions: float
    block_fill: float
    hidden_fill: float


def recurrent(kernel: Kernel) -> Description:
    """A recurrent layer over ``[steps, n, inputs]`` as numbers."""
    x, weight, state_weight = (kernel.input(place) for place in range(3))
    steps, inputs = x.shape[0], x.shape[-1]
    directions = weight.shape[0] if weight.shape else 1
    hidden = kernel.integer("hidden_size", 1)
    gate_rows = steps * directions * GATES[kernel.operator] * hidden
    terms = Terms(
        starts=1.0,
        state_macs=float(gate_rows * hidden),
        macs=float(gate_rows * (inputs + hidden)),
        steps=float(steps * directions),
        read_bytes=x.bytes,
        written_bytes=kernel.outputs[0].bytes,
        weight_bytes=weight.bytes,
        reread_bytes=state_weight.bytes * steps,
        states=float(steps * directions * hidden),
    )
    features = Features(
        steps=log(steps),
        hidden=log(hidden),
        inputs=log(inputs),
        directions=float(directions),
        block_fill=fill(hidden, BLOCK),
        hidden_fill=fill(hidden, 4),
    )
    return Description(f"recurrent_{kernel.operator.lower()}", terms, features)
