"""Networks for series: 1-D convolutions and recurrent layers."""

import math

import numpy as np

from autocompress.hardware.drawn.net import Activation, Net, Value
from autocompress.hardware.drawn.style import Style


def series_net(style: Style, rng: np.random.Generator) -> tuple[Net, Value]:
    """Convolutions along time, then classes."""
    net = Net(rng, (1, style.width(1, 16), style.one_of(64, 128, 256, 512, 1024)), style.factored)
    x = net.input
    for _ in range(style.whole(3, 7)):
        kernel, stride = style.one_of(1, 3, 5, 7, 9), style.one_of(1, 2, shares=(0.6, 0.4)) if x.side > 16 else 1
        if style.chance(0.2):
            x = net.conv(x, x.channels, kernel, stride, groups=x.channels, act=style.act)
        c_out = style.width(8, 256)
        y = net.conv(x, c_out, kernel, stride, act=style.act)
        x = net.add(net.conv(y, c_out, 3), y, Activation.RELU) if style.chance(0.3) else y
    return net, net.head(x, 10)


def recurrent_net(style: Style, rng: np.random.Generator) -> tuple[Net, Value]:
    """One to three LSTM or GRU layers over a series, then classes from the last step."""
    steps, features = style.one_of(8, 16, 32, 64, 128), style.width(4, 128)
    net = Net(rng, (1, steps, features))
    x = net.transpose(net.input, 1, 0, 2)
    gates = {"LSTM": 4, "GRU": 3}
    operator = "LSTM" if style.chance(0.5) else "GRU"
    for _ in range(style.whole(1, 3)):
        hidden, ways = style.width(16, 192), 2 if style.chance(0.25) else 1
        made = net.node(
            operator,
            [
                x,
                _weights(net, ways, gates[operator] * hidden, x.shape[2]),
                _weights(net, ways, gates[operator] * hidden, hidden),
                net.constant(np.zeros((ways, 2 * gates[operator] * hidden), np.float32)),
            ],
            (steps, ways, 1, hidden),
            hidden_size=hidden,
            direction="bidirectional" if ways == 2 else "forward",
        )
        x = net.reshape(net.transpose(made, 0, 2, 1, 3), steps, 1, ways * hidden)
    last = net.node("Gather", [x, net.constant(np.array(steps - 1, np.int64))], (1, x.shape[2]), axis=0)
    return net, net.linear(last, 10)


def _weights(net: Net, ways: int, rows: int, columns: int) -> str:
    array = net.rng.standard_normal((ways, rows, columns)) / math.sqrt(columns)
    return net.constant(array.astype(np.float32))
