"""Transformers and perceptrons."""

import numpy as np

from autocompress.hardware.drawn.net import Activation, Net, Value
from autocompress.hardware.drawn.style import Style

DEEP_ACROSS = 8  # tokens in a row, up to which a network may have a dozen blocks
MOST_SCORES = 1_500_000  # of one attention: heads × tokens²


def token_net(style: Style, rng: np.random.Generator) -> tuple[Net, Value]:
    """A vision transformer: patches, blocks of attention and perceptron, classes."""
    patch = style.one_of(4, 8, 16)
    across = style.whole(3, 16)
    heads = style.one_of(1, 2, 3, 4, 6, 8, 12)
    depth_of_head = style.one_of(16, 24, 32, 48, 64, shares=(0.15, 0.1, 0.35, 0.1, 0.3))
    net = Net(rng, (1, 3, patch * across, patch * across), style.factored)
    is_deep = across <= DEEP_ACROSS and style.chance(0.4)
    width = style.width(32, 192 if is_deep else 512)
    x = net.node(
        "Conv", [net.input, net.weight(width, 3, patch, patch), net.vector(width)], (1, width, across, across),
        kernel_shape=[patch] * 2, strides=[patch] * 2, pads=[0] * 4, dilations=[1, 1], group=1,
    )  # fmt: skip
    x = net.transpose(net.reshape(x, 1, width, across**2), 0, 2, 1)
    if style.chance(0.6):
        token = net.constant(rng.standard_normal((1, 1, width)).astype(np.float32))
        x = net.concat([Value(token, (1, 1, width)), x], axis=1)
    x = net.node("Add", [x, net.weight(1, x.shape[1], width)], x.shape)
    mixes, attend = style.chance(0.15), attention
    if style.chance(0.3):
        attend = channel_attention if style.chance(0.5) else context_attention
    for _ in range(style.whole(6, 12) if is_deep else style.whole(2, 5)):
        normed = net.layer_norm(x)
        mixed = _mixed_tokens(net, style, normed) if mixes else attend(net, style, normed, heads, depth_of_head)
        x = net.add(x, mixed)
        inner = style.width(width, width * 4)
        hidden = net.linear(net.layer_norm(x), inner, Activation.GELU)
        if style.chance(0.15):
            hidden = net.linear(net.linear(hidden, style.width(inner / 8, inner / 2)), inner)
        x = net.add(x, net.linear(hidden, width))
    x = net.layer_norm(x)
    if style.chance(0.5):
        pooled = net.node("ReduceMean", [x, net.ints(1)], (1, width), keepdims=0)
    else:
        pooled = net.node("Gather", [x, net.constant(np.array(0, np.int64))], (1, width), axis=1)
    return net, net.linear(pooled, style.one_of(2, 10, 100, 1000))


def attention(net: Net, style: Style, x: Value, heads: int, depth: int) -> Value:
    """Attention of all tokens to all: ``heads`` of ``depth`` channels each."""
    n, tokens, width = x.shape
    while heads > 1 and heads * tokens**2 > MOST_SCORES:
        heads //= 2
    inner = heads * depth
    split = (n, heads, tokens, depth)
    if style.chance(0.75):
        joint = net.reshape(net.linear(x, 3 * inner), n, tokens, 3, heads, depth)
        joint = net.transpose(joint, 2, 0, 3, 1, 4)
        parts = _unbound(net, joint)
    else:
        parts = [net.transpose(net.reshape(net.linear(x, inner), n, tokens, heads, depth), 0, 2, 1, 3) for _ in "qkv"]
    query, key, value = parts
    scale = net.constant(np.array(depth**-0.25, np.float32))
    key = net.scaled(net.transpose(key, 0, 1, 3, 2), scale)
    scores = net.node("MatMul", [net.scaled(query, scale), key], (n, heads, tokens, tokens))
    weights = net.node("Softmax", [scores], scores.shape, axis=-1)
    seen = net.node("MatMul", [weights, value], split)
    return net.linear(net.reshape(net.transpose(seen, 0, 2, 1, 3), n, tokens, inner), width)


def channel_attention(net: Net, style: Style, x: Value, heads: int, depth: int) -> Value:
    """Attention of channels to each other, as in XCiT."""
    n, tokens, width = x.shape
    inner = heads * depth
    joint = net.reshape(net.linear(x, 3 * inner), n, tokens, 3, heads, depth)
    query, key, value = _unbound(net, net.transpose(joint, 2, 0, 3, 4, 1))
    scores = net.node("MatMul", [query, net.transpose(key, 0, 1, 3, 2)], (n, heads, depth, depth))
    seen = net.node("MatMul", [net.node("Softmax", [scores], scores.shape, axis=-1), value], value.shape)
    order = (0, 3, 1, 2) if style.chance(0.5) else (0, 3, 2, 1)
    return net.linear(net.reshape(net.transpose(seen, *order), n, tokens, inner), width)


def context_attention(net: Net, style: Style, x: Value, heads: int, depth: int) -> Value:
    """Attention of queries to a summary of all tokens, whose cost does not grow with their square, as in CoaT."""
    n, tokens, width = x.shape
    inner = heads * depth
    query, key, value = (net.reshape(net.linear(x, inner), n, tokens, heads, depth) for _ in "qkv")
    if style.chance(0.5):
        key = net.node("Softmax", [key], key.shape, axis=1)
        query, key, value = (net.transpose(each, 0, 2, 1, 3) for each in (query, key, value))
    else:
        query, key, value = (net.transpose(each, 0, 2, 1, 3) for each in (query, key, value))
        key = net.node("Softmax", [key], key.shape, axis=2)
    context = net.node("MatMul", [net.transpose(key, 0, 1, 3, 2), value], (n, heads, depth, depth))
    seen = net.node("MatMul", [query, context], query.shape)
    return net.linear(net.reshape(net.transpose(seen, 0, 2, 1, 3), n, tokens, inner), width)


def _unbound(net: Net, joint: Value) -> list[Value]:
    """The parts of ``joint`` along its first axis, without that axis."""
    one, rest = (1, *joint.shape[1:]), joint.shape[1:]
    parts = net.several("Split", [joint, net.ints(*[1] * joint.shape[0])], [one] * joint.shape[0], axis=0)
    return [net.node("Squeeze", [part, net.ints(0)], rest) for part in parts]


def _mixed_tokens(net: Net, style: Style, x: Value) -> Value:
    """A perceptron across the tokens, as in MLP-Mixer."""
    turned = net.transpose(x, 0, 2, 1)
    hidden = net.linear(turned, style.width(8, 2 * x.shape[1]), Activation.GELU)
    return net.transpose(net.linear(hidden, x.shape[1]), 0, 2, 1)


def perceptron(style: Style, rng: np.random.Generator) -> tuple[Net, Value]:
    """Linear layers on a vector."""
    net = Net(rng, (1, style.width(16, 1024)), style.factored)
    x = net.input
    for _ in range(style.whole(2, 6)):
        x = net.linear(x, style.width(16, 2048), style.act)
    return net, net.linear(x, style.one_of(1, 2, 10, 100))
