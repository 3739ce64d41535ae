"""What a kernel's time follows from: the path through the runtime that it takes, its amounts of work, its shape.

A path is one piece of code in the runtime, so time is a smooth function of shape within it and jumps between paths:
ONNX Runtime computes float convolutions in a layout of channel blocks or, where widths do not fit it, through a matrix
product; depthwise convolutions and those of 8-bit integers have code of their own. (onnxruntime/core/mlas/lib: snchwc,
convolve, qdwconv, qgemm; core/optimizer/nchwc_transformer.cc.)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, log2, prod

from autocompress.hardware.kernels.kernel import VIEWS, Kernel, Shape, Tensor

STEPS_PER_OCTAVE = 2.0
BUFFERS = 2.0  # of the largest size: the runtime gives the memory of dead tensors to later ones
NEAR_BYTES = 0.5e6  # about half of the caches of a core
BLOCK = 16  # channels of a vector; with 8 every other remainder says the same
EMPTY = Tensor("", ())
_PRODUCTS = {"Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
_INT_PRODUCTS = {"QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}


@dataclass(frozen=True)
class Context:
    """What else a network moves through the caches between two runs of a kernel.

    ``stored_bytes``: its weights; ``touched_bytes``: those and the buffers of its activations. A kernel's weights are read
    from nearby in a small network and from memory in a large one: the same depthwise convolution takes up to twice as
    long. Both are rounded to half octaves: finer tells networks apart that do not differ.
    """

    stored_bytes: float
    touched_bytes: float

    @classmethod
    def of(cls, kernels: Iterable[Kernel]) -> "Context":
        """Of one network."""
        stored = largest = 0.0
        for kernel in kernels:
            stored += kernel.stored_bytes
            largest = max(largest, kernel.moved_bytes)
        return cls(_rounded(stored), _rounded(stored + BUFFERS * largest))


def _rounded(size: float) -> float:
    steps = round(log2(max(size, 1.0)) * STEPS_PER_OCTAVE)
    return float(2.0 ** (steps / STEPS_PER_OCTAVE))


@dataclass(frozen=True)
class Description:
    """``path`` names the code; ``terms`` are amounts of work, none negative; ``features`` describe the shape."""

    path: str
    terms: tuple[float, ...]
    features: tuple[float, ...]


def describe(kernel: Kernel, context: "Context") -> Description:
    """The kernel as numbers; never fails, whatever the operator."""
    found = _DESCRIBERS.get(kernel.operator, _moves)(kernel)
    own = kernel.stored_bytes
    terms = (*found.terms, own * min(1.0, max(0.0, log2(max(context.touched_bytes, 1.0) / NEAR_BYTES) / 2)))
    features = (*found.features, _log(own), _log(context.stored_bytes), _log(context.touched_bytes))
    return Description(found.path, terms, features)


def _of(kernel: Kernel, place: int) -> Tensor:
    return kernel.inputs[place] if place < len(kernel.inputs) else EMPTY


def _log(value: float) -> float:
    return log2(max(value, 1e-3))


def _ints(kernel: Kernel, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = kernel.attribute(name, default)
    return tuple(int(each) for each in value) if isinstance(value, tuple) else default


def _fill(width: int, block: int) -> float:
    """The share of whole blocks that ``width`` fills."""
    return width / (ceil(width / block) * block)


def _conv(kernel: Kernel) -> Description:
    quantized = kernel.operator == "QLinearConv"
    x, weight = _of(kernel, 0), _of(kernel, 3 if quantized else 1)
    window = weight.shape[2:]
    last = quantized and kernel.attribute("channels_last", 0) == 1
    out = kernel.outputs[0].shape
    extents, c_out = (out[1:-1], out[-1]) if last else (out[2:], out[1])
    ins = x.shape[1:-1] if last else x.shape[2:]
    c_in = x.shape[-1] if last else x.shape[1]
    blocked = kernel.op.startswith("nchwc.")
    group = int(kernel.attribute("group", 1))  # type: ignore[arg-type]
    strides = _ints(kernel, "strides", (1,) * len(window))
    pads = _ints(kernel, "pads", (0,) * 2 * len(window))
    taps, positions = prod(window), out[0] * prod(extents)
    into, from_ = max(1, c_out // group), max(1, weight.shape[1])
    kind = "dense" if group == 1 else "depthwise" if from_ == 1 else "grouped"
    vectors = float(positions * (c_out // BLOCK) * taps)  # of a depthwise convolution in integers
    tail = float(positions * (c_out % BLOCK) * taps)
    if blocked and kind == "dense" and c_in < BLOCK:
        kind = "first"
    if kind == "dense" and taps == 1:
        kind = "pointwise"
    if kind == "grouped" and into % BLOCK:
        kind = "odd_grouped"
    if quantized and kind == "depthwise":
        kind = "depthwise_tail" if tail else "depthwise"
    layout = "int8" if quantized else "blocked" if blocked else "plain"
    if len(window) == 1:
        layout += "1d"
    macs = positions * c_out * from_ * taps
    steps = positions * group * ceil(into / BLOCK) * from_ * taps
    rows = positions // max(1, extents[-1] if extents else 1)
    adds = sum(bool(t.dtype) and len(t.shape) == len(x.shape) and not t.stored for t in kernel.inputs[1:])
    width = extents[-1] if extents else 1
    act = str(kernel.attribute("activation", ""))
    terms = (
        1.0,
        vectors if quantized and "depthwise" in kind else float(steps),
        tail if quantized and "depthwise" in kind else float(macs),
        float(
            rows
            * ceil(into / (4 * BLOCK))
            * group
            * (from_ if kind != "depthwise" else 1)
            * (window[0] if window else 1)
        ),
        x.bytes,
        kernel.outputs[0].bytes * (1 + adds),
        weight.bytes,
        float(positions * from_ * group * taps) if taps > 1 and not blocked else 0.0,
        float(group),
    )
    features = (
        _log(positions),
        _log(width),
        _log(from_),
        _log(into),
        _log(group),
        _log(taps),
        float(window[-1]) if window else 1.0,
        float(max(strides, default=1)),
        _fill(into, BLOCK),
        _fill(into, 4 * BLOCK),
        _fill(from_, 4),
        _fill(width, 6),
        _log(x.bytes),
        _log(weight.bytes),
        float(adds),
        float(sum(pads) > 0),
        float({"": 0, "Relu": 1, "Clip": 1}.get(act, 2)),
        _log(prod(ins)),
        _log(vectors),
        _log(tail),
        float(c_out % BLOCK if kind.startswith("depthwise") else into % BLOCK),
        float(into % 4 == 0) + float(into % 8 == 0),
        float(x.dtype == "int8"),
    )
    return Description(f"conv_{layout}_{kind}", terms, features)


def _product(kernel: Kernel) -> Description:
    quantized = kernel.operator in _INT_PRODUCTS
    a = _of(kernel, 0)
    place = {"QGemm": 3, "QLinearMatMul": 3}.get(kernel.operator, 1)
    b, out = _of(kernel, place), kernel.outputs[0].shape
    turned = bool(kernel.attribute("transA", 0))
    inner = a.shape[-2] if turned and len(a.shape) > 1 else a.shape[-1] if a.shape else 1
    columns = out[-1] if out else 1
    batch = prod(b.shape[:-2]) if len(b.shape) > 2 else 1
    rows = max(1, prod(out) // max(1, columns * batch))
    path = "product_int8" if quantized else "product"
    if kernel.operator == "DynamicQuantizeMatMul":
        path = "product_dynamic"
    if not b.stored:
        path += "_values"
    elif rows == 1:
        path += "_row"
    macs = batch * rows * columns * inner
    terms = (
        1.0,
        float(batch * rows * ceil(columns / BLOCK) * inner),
        float(macs),
        float(batch * ceil(rows / 12) * ceil(columns / 32) * 1.0),
        a.bytes,
        kernel.outputs[0].bytes,
        b.bytes,
        b.bytes if not b.stored else 0.0,
        float(batch),
    )
    act = str(kernel.attribute("activation", ""))
    features = (
        _log(rows),
        _log(columns),
        _log(inner),
        _log(batch),
        _fill(columns, BLOCK),
        _fill(columns, 4 * BLOCK),
        _fill(inner, 4),
        _fill(rows, 12),
        float(rows % 12),
        float(columns % BLOCK == 0) + float(columns % 4 == 0),
        float(inner % BLOCK == 0) + float(inner % 4 == 0),
        _log(a.bytes),
        _log(b.bytes),
        _log(kernel.outputs[0].bytes),
        float(bool(kernel.attribute("transB", 0))) + 2.0 * turned,
        float(act != ""),
        float(kernel.operator in {"MatMul", "FusedMatMul", "QLinearMatMul"}),
        float(a.dtype == "int8"),
    )
    return Description(path, terms, features)


def _nbits(kernel: Kernel) -> Description:
    a, out = _of(kernel, 0), kernel.outputs[0].shape
    columns = int(kernel.attribute("N", out[-1]))  # type: ignore[arg-type]
    inner = int(kernel.attribute("K", a.shape[-1]))  # type: ignore[arg-type]
    bits = int(kernel.attribute("bits", 4))  # type: ignore[arg-type]
    block = int(kernel.attribute("block_size", 32))  # type: ignore[arg-type]
    rows = prod(out[:-1])
    macs = float(rows * columns * inner)
    stored = sum(t.bytes for t in kernel.inputs[1:] if t.stored)
    terms = (1.0, macs, macs * bits, 0.0, a.bytes, kernel.outputs[0].bytes, stored, macs / block, 0.0)
    features = (
        _log(rows),
        _log(columns),
        _log(inner),
        float(bits),
        _log(block),
        _fill(columns, BLOCK),
        _fill(inner, block),
    )
    return Description("product_nbits", terms, features)


def _recurrent(kernel: Kernel) -> Description:
    x, weight, again = (_of(kernel, place) for place in range(3))
    steps, ways, hidden = x.shape[0], weight.shape[0] if weight.shape else 1, int(kernel.attribute("hidden_size", 1))  # type: ignore[arg-type]
    rows = 4 if kernel.operator == "LSTM" else 3
    outer = float(steps * ways * rows * hidden * x.shape[-1])
    inner = float(steps * ways * rows * hidden * hidden)
    terms = (
        1.0,
        outer,
        inner,
        float(steps * ways),
        x.bytes,
        kernel.outputs[0].bytes,
        weight.bytes,
        again.bytes * steps,
        float(steps * ways * hidden),
    )
    features = (_log(steps), _log(hidden), _log(x.shape[-1]), float(ways), _fill(hidden, BLOCK), _fill(hidden, 4))
    return Description(f"recurrent_{kernel.operator.lower()}", terms, features)


def _moves(kernel: Kernel) -> Description:
    """Everything that is bound by moving numbers: elementwise, norms, pooling, reordering, views."""
    read = sum(t.bytes for t in kernel.inputs if t.dtype)
    written = sum(t.bytes for t in kernel.outputs)
    biggest = max(kernel.inputs, key=lambda t: t.size, default=EMPTY)
    out = kernel.outputs[0] if kernel.outputs else EMPTY
    elements = float(max(biggest.size, out.size))
    row = float(_row_length(kernel, biggest.shape, out.shape))
    window = prod(_ints(kernel, "kernel_shape", ()))
    channels = out.shape[-1] if kernel.attribute("channels_last", 0) else out.shape[1] if len(out.shape) > 1 else 1
    parts = float(max(len(kernel.outputs), sum(1 for t in kernel.inputs if t.dtype and not t.stored)))
    spread = float(sum(t.size == biggest.size for t in kernel.inputs if t.dtype))
    terms = (1.0, elements, elements / max(row, 1.0), float(out.size * window), read, written, parts, 0.0, 0.0)
    features = (
        _log(elements), _log(row), _log(elements / max(row, 1.0)), _log(out.size), _log(window), parts, spread,
        _fill(int(row), BLOCK), _fill(channels, BLOCK), _log(channels), float(biggest.dtype == "float"), _log(read),
    )  # fmt: skip
    return Description(_move_path(kernel), terms, features)


def _move_path(kernel: Kernel) -> str:
    if kernel.operator in VIEWS:
        return "move_view"
    if kernel.operator == "Transpose":
        return f"move_transpose_{_turn(kernel)}"
    if kernel.operator in {"Add", "Mul", "Sub", "Div", "QLinearAdd", "QLinearMul"}:
        shapes = [t.shape for t in kernel.inputs if len(t.shape) > 0 or not t.stored][:4]
        real = [s for s in shapes if prod(s) > 1]
        same = len({s for s in real}) <= 1
        return f"move_{kernel.op}_{'same' if same and len(real) > 1 else 'scalar' if len(real) < 2 else 'spread'}"
    if kernel.operator in {"QuantizeLinear", "DequantizeLinear"}:
        return f"move_{kernel.op}_{'tensor' if _of(kernel, 1).size == 1 else 'channels'}"
    if kernel.operator in {"ReorderInput", "ReorderOutput"}:
        return f"move_{kernel.op}"
    return f"move_{kernel.op}"


def _turn(kernel: Kernel) -> str:
    """How a transposition moves memory, whatever its axes: axes that stay together count as one."""
    shape = _of(kernel, 0).shape
    order = _ints(kernel, "perm", tuple(reversed(range(len(shape)))))
    real = [axis for axis in order if shape[axis] > 1]
    groups: list[list[int]] = []
    for axis in real:
        between = range(groups[-1][-1] + 1, axis) if groups else ()
        if groups and axis > groups[-1][-1] and all(shape[each] == 1 for each in between):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    ranks = {axis: place for place, axis in enumerate(sorted(group[0] for group in groups))}
    return "".join(str(ranks[group[0]]) for group in groups) if len(groups) > 1 else "none"


def _row_length(kernel: Kernel, shape: Shape, out: Shape) -> int:
    """The run of numbers that is treated as one: what a norm spans, what is copied in one piece."""
    if not shape:
        return 1
    if kernel.operator in {"Softmax", "LayerNormalization", "SkipLayerNormalization", "Gelu", "BiasGelu"}:
        return shape[-1]
    if kernel.operator in {"ReduceMean", "GlobalAveragePool", "QLinearGlobalAveragePool"}:
        return max(1, prod(shape) // max(1, prod(out)))
    if kernel.operator in {"Concat", "Split", "QLinearConcat"}:
        axis = int(kernel.attribute("axis", 0))  # type: ignore[arg-type]
        parts = kernel.inputs if kernel.operator != "Split" else kernel.outputs
        small = min((t.shape for t in parts if len(t.shape) == len(shape)), key=prod, default=shape)
        return prod(small[axis:])
    if kernel.operator == "Transpose":
        order = _ints(kernel, "perm", ())
        kept = 1
        for place in range(len(order) - 1, -1, -1):
            if order[place] != place:
                break
            kept *= shape[place]
        return kept
    small = min((t.shape for t in kernel.inputs if t.dtype and t.size > 1), key=prod, default=shape)
    return prod(small) if prod(small) < prod(shape) else shape[-1]


_DESCRIBERS: dict[str, Callable[[Kernel], Description]] = {
    "Conv": _conv,
    "FusedConv": _conv,
    "QLinearConv": _conv,
    **dict.fromkeys(_PRODUCTS | _INT_PRODUCTS, _product),
    "MatMulNBits": _nbits,
    "LSTM": _recurrent,
    "GRU": _recurrent,
}
