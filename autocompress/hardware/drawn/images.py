"""Convolutional networks of several manners."""

from collections.abc import Callable, Mapping

import numpy as np

from autocompress.hardware.drawn.net import Activation, Net, Value
from autocompress.hardware.drawn.style import Style

MOST_VALUES = 800_000  # of an activation: keeps a drawn network to a few milliseconds
MOST_MACS = 90e6  # of one layer
SMALL, SMALL_MACS = 0.5, (1e6, 20e6)  # of the networks, and of a layer then: budgets ask for fast ones
MOST_BYTES = 50e6  # of weights before the last block
DOWN_TO_THE_END = 0.25  # of them: wide layers on one to nine positions, as deep networks have on small images
WIDE_HEADS = 0.2  # of the networks: a convolution of the means, with more weights than all blocks of a small network
Block = Callable[[Net, Style, Value, int, int], Value]


def factored(net: Net, style: Style, x: Value, c_out: int, *, kernel: int, stride: int) -> Value:
    """A convolution as it comes out of factorization: two or three smaller ones."""
    rank = style.width(max(2, min(x.channels, c_out) / 8), max(4, min(x.channels, c_out)))
    form = style.whole(0, 3)
    if kernel == 1 or form == 0:
        return net.conv(net.conv(x, rank, kernel, stride), c_out, act=style.act)
    if form == 1:
        tall = net.conv(x, rank, (kernel, 1), 1)
        return net.conv(tall, c_out, (1, kernel), 1, act=style.act)
    inner = style.width(max(2, rank / 2), max(4, rank))
    reduced = net.conv(x, rank)
    if form == 2:
        return net.conv(net.conv(reduced, inner, kernel, stride), c_out, act=style.act)
    return net.conv(net.conv(reduced, rank, kernel, stride, groups=rank), c_out, act=style.act)


def plain(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """One convolution, sometimes factored."""
    kernel = style.one_of(1, 3, 5, 7, shares=(0.2, 0.6, 0.14, 0.06))
    if style.chance(0.15):
        return factored(net, style, x, c_out, kernel=kernel, stride=stride)
    return net.conv(x, c_out, kernel, stride, act=style.act)


def residual(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """Two 3×3 convolutions beside a shortcut."""
    inner = style.width(c_out * 0.4, c_out * 1.2)
    made = net.conv(net.conv(x, inner, 3, stride, act=style.act), c_out, 3)
    return net.add(made, _shortcut(net, style, x, c_out, stride), style.act)


def bottleneck(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """Reduce, convolve (perhaps in groups), expand."""
    inner = style.width(c_out * 0.2, c_out)
    groups = 1
    if style.chance(0.8):
        size = style.one_of(4, 8, 16, 24, 32, 64, shares=(0.2, 0.3, 0.2, 0.1, 0.1, 0.1))
        groups = max(1, inner // size)
        inner = groups * size
    made = net.conv(x, inner, act=style.act)
    made = net.conv(made, inner, 3, stride, groups=groups, act=style.act)
    if style.chance(0.25):
        made = squeeze_excite(net, style, made)
    return net.add(net.conv(made, c_out), _shortcut(net, style, x, c_out, stride), style.act)


def inverted(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """Expand, depthwise, perhaps squeeze and excite, project."""
    inner = style.width(x.channels * 1.0, x.channels * 6.0)
    made = net.conv(x, inner, act=style.act) if style.chance(0.9) else x
    kernel = style.one_of(3, 5, 7, shares=(0.55, 0.33, 0.12))
    made = net.conv(made, made.channels, kernel, stride, groups=made.channels, act=style.act)
    if style.chance(0.45):
        made = squeeze_excite(net, style, made)
    made = net.conv(made, c_out)
    return net.add(made, x) if made.shape == x.shape else made


def separable(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """Depthwise and pointwise, as in the first MobileNet."""
    kernel = style.one_of(3, 5, 7, shares=(0.7, 0.2, 0.1))
    inner = x.channels * style.one_of(1, 2, shares=(0.85, 0.15))  # two filters a channel, now and then
    made = net.conv(x, inner, kernel, stride, groups=x.channels, act=style.act)
    return net.conv(made, c_out, act=style.act)


def channels_last(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """ConvNeXt's: a large depthwise window, then a normalized two-layer perceptron on the channels."""
    if stride > 1 or c_out != x.channels:
        x = net.conv(x, c_out, 2 if stride > 1 else 1, 1) if x.side < 4 else _downsampled(net, x, c_out, stride)
    made = net.conv(x, c_out, style.one_of(3, 5, 7, 9, shares=(0.15, 0.2, 0.5, 0.15)), groups=c_out)
    rows = net.layer_norm(net.transpose(made, 0, 2, 3, 1))
    if style.chance(0.3) and c_out % 2 == 0:
        rows = _gated(net, rows)
    rows = net.linear(net.linear(rows, style.width(c_out, c_out * 4), Activation.GELU), c_out)
    if style.chance(0.5):
        rows = net.scaled(rows, net.vector(c_out, 1.0))
    return net.add(net.transpose(rows, 0, 3, 1, 2), x)


def joined(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """Branches side by side, joined along the channels: Inception, DenseNet, SqueezeNet, GhostNet."""
    if stride > 1:
        x = net.pool(x, largest=style.chance(0.5))
    whole, width = x, max(4, c_out // 3)
    if style.chance(0.4):
        x = net.act(net.norm(x), style.act)
    parts = [net.conv(x, style.width(width * 0.5, width * 1.5), k, act=style.act) for k in (1, 3)]
    if style.chance(0.4):
        cheap = net.conv(parts[0], parts[0].channels, 3, groups=parts[0].channels, act=style.act)
        parts.append(cheap)
    if style.chance(0.5):
        parts.append(whole)
    if style.chance(0.5):
        parts.append(net.conv(net.pool(x, 3, 1, largest=style.chance(0.5)), style.width(width * 0.4, width)))
    return net.concat(parts)


def shuffled(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """ShuffleNet's: half of the channels pass a separable branch, then both halves are interleaved."""
    if stride > 1 or x.channels % 2:
        return separable(net, style, x, c_out + c_out % 2, stride)
    half = x.channels // 2
    shape = (x.shape[0], half, *x.shape[2:])
    left = net.node("Slice", [x, net.ints(0), net.ints(half), net.ints(1)], shape)
    right = net.node("Slice", [x, net.ints(half), net.ints(x.channels), net.ints(1)], shape)
    right = net.conv(right, half, act=style.act)
    right = net.conv(net.conv(right, half, 3, groups=half), half, act=style.act)
    both = net.concat([left, right])
    n, c, h, w = both.shape
    mixed = net.transpose(net.reshape(both, n, 2, half, h, w), 0, 2, 1, 3, 4)
    return net.reshape(mixed, n, c, h, w)


def selective(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """Branches weighted against each other channel by channel: selective kernels, split attention."""
    n, c = 2, c_out
    both = net.concat([net.conv(x, c, k, stride, act=style.act) for k in (3, style.one_of(1, 3, 5))])
    h, w = both.shape[2:]
    stacked = net.reshape(both, 1, n, c, h, w)
    summed = net.node("ReduceSum", [stacked, net.ints(1)], (1, c, h, w), keepdims=0)
    inner = style.width(max(2, c / 16), max(4, c / 2))
    scores = net.conv(net.conv(net.mean(summed), inner, act=Activation.RELU), n * c)
    shares = net.node("Softmax", [net.reshape(scores, 1, n, c, 1, 1)], (1, n, c, 1, 1), axis=1)
    weighted = net.node("Mul", [stacked, shares], stacked.shape)
    return net.node("ReduceSum", [weighted, net.ints(1)], (1, c, h, w), keepdims=0)


def two_scales(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """A second branch at half the resolution, brought back and added: HRNet, feature pyramids."""
    fine = net.conv(x, c_out, 3, stride, act=style.act)
    if fine.side < 4 or fine.side % 2:
        return fine
    coarse = net.conv(fine, style.width(c_out, c_out * 2), 3, 2, act=style.act)
    coarse = net.conv(net.conv(coarse, coarse.channels, 3, act=style.act), c_out)
    return net.add(fine, net.larger(coarse, fine.shape[2:]), style.act)


def parallel(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    """Windows of two sizes and a norm side by side, added: RepVGG and MobileOne, before they are folded."""
    depthwise = style.chance(0.6)
    width, groups = (x.channels, x.channels) if depthwise else (c_out, 1)
    made = net.conv(x, width, 3, stride, groups=groups)
    made = net.add(made, net.conv(x, width, 1, stride, groups=groups))
    if made.shape == x.shape:
        made = net.add(made, net.norm(x))
    made = net.act(made, style.act)
    return net.conv(made, c_out, act=style.act) if depthwise else made


def squeeze_excite(net: Net, style: Style, x: Value) -> Value:
    """Channels weighted by what their means say."""
    inner = style.width(max(2, x.channels / 16), max(4, x.channels / 3))
    gate = net.conv(net.conv(net.mean(x), inner, act=Activation.RELU), x.channels)
    if style.chance(0.4):
        return net.scaled(x, net.node("HardSigmoid", [gate], gate.shape, alpha=1 / 6, beta=0.5))
    return net.scaled(x, net.act(gate, Activation.SIGMOID))


BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "plain": (plain,),
    "residual": (residual, residual, plain),
    "bottleneck": (bottleneck, bottleneck, residual),
    "inverted": (inverted,),
    "separable": (separable, separable, plain),
    "channels_last": (channels_last,),
    "joined": (joined, plain),
    "shuffled": (shuffled,),
    "branches": (selective, two_scales, parallel, plain),
    "mixed": (
        plain,
        residual,
        bottleneck,
        inverted,
        separable,
        channels_last,
        joined,
        shuffled,
        selective,
        two_scales,
        parallel,
    ),
}


def image_net(manner: str, style: Style, rng: np.random.Generator) -> tuple[Net, Value]:
    """A network of ``BLOCKS[manner]`` for images of a random size, in stages that halve it."""
    side = style.one_of(32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 192, 224)
    net = Net(rng, (1, style.one_of(3, 3, 3, 1), side, side), style.factored)
    x = _stem(net, style)
    blocks = BLOCKS[manner]
    stages = min(style.whole(2, 5), max(1, int(np.log2(x.side)) - 1 + style.whole(0, 1)))
    last = style.width(48, 2048)
    if style.chance(DOWN_TO_THE_END):
        stages, last = max(stages, int(np.log2(x.side))), style.width(256, 1024)
    most_macs = float(np.exp(rng.uniform(*np.log(SMALL_MACS)))) if style.chance(SMALL) else MOST_MACS
    first, growth = x.channels, max(1.0, (last / x.channels) ** (1 / stages))
    for stage in range(1, stages + 1):
        width = first * growth**stage
        for place in range(style.whole(1, 1 + stage)):
            c_out = x.channels if place and style.chance(0.75) else style.width(width * 0.85, width * 1.15)
            stride = 2 if place == 0 and x.side > 2 and (stage > 1 or style.chance(0.5)) else 1
            block = blocks[int(rng.integers(len(blocks)))]
            if net.stored_bytes > MOST_BYTES:
                break
            x = block(net, style, x, min(c_out, affordable(x, stride, most_macs)), stride)
    hidden = style.width(128, 1280) if style.chance(WIDE_HEADS) else 0
    return net, net.head(x, style.one_of(2, 10, 100, 1000, shares=(0.3, 0.4, 0.2, 0.1)), hidden, style.act)


def affordable(x: Value, stride: int, most_macs: float = MOST_MACS) -> int:
    """The width at which a 3×3 convolution from ``x`` takes ``most_macs``: a few milliseconds at most."""
    positions = float(np.prod(x.shape[2:])) / stride**2
    return max(4, int(min(most_macs / (positions * 9 * x.channels), MOST_VALUES / positions)))


def _gated(net: Net, rows: Value) -> Value:
    """One half of the channels, which lie at the end, passes a nonlinearity; then both are joined again."""
    half = (*rows.shape[:-1], rows.shape[-1] // 2)
    left, right = net.several("Split", [rows, net.ints(half[-1], half[-1])], [half, half], axis=-1)
    return net.concat([net.act(left, Activation.GELU), right], axis=len(half) - 1)


def _stem(net: Net, style: Style) -> Value:
    x, side = net.input, net.input.side
    width = style.width(8, 64) if style.chance(0.85) else style.whole(1, 8)  # a few as pruning may leave them
    if side >= 96 and style.chance(0.2):
        return _downsampled(net, x, width, 4)
    halves = side >= 96 or style.chance(0.3)
    x = net.conv(x, width, style.one_of(3, 5, 7, shares=(0.5, 0.25, 0.25)), 2 if halves else 1, act=style.act)
    return net.pool(x, 3, 2) if style.chance(0.4) or side > 160 else x


def _downsampled(net: Net, x: Value, c_out: int, stride: int) -> Value:
    """A convolution of windows that do not overlap."""
    side = tuple(n // stride for n in x.shape[2:])
    return net.node(
        "Conv",
        [x, net.weight(c_out, x.channels, stride, stride), net.vector(c_out)],
        (x.shape[0], c_out, *side),
        kernel_shape=[stride] * 2,
        strides=[stride] * 2,
        pads=[0] * 4,
        dilations=[1, 1],
        group=1,
    )


def _shortcut(net: Net, style: Style, x: Value, c_out: int, stride: int) -> Value:
    if stride == 1 and x.channels == c_out:
        return x
    if stride > 1 and style.chance(0.3):
        return net.conv(net.pool(x, largest=False), c_out) if x.side % 2 == 0 else net.conv(x, c_out, 1, stride)
    return net.conv(x, c_out, 1, stride)
