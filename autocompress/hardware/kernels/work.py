"""What a kernel has to do, whatever does it: multiply-accumulates, and bytes that it reads and writes."""

from collections.abc import Callable, Mapping
from math import prod

from autocompress.hardware.kernels.kernel import Kernel

# These hand on the tensor that they get, under another shape.
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Dropout", "Constant"})
PICKS = frozenset({"Gather", "Slice", "Split", "GatherElements", "GatherND"})  # read what they write, no more

Count = Callable[[Kernel], int]


def work_of(kernel: Kernel) -> tuple[int, float]:
    """Multiply-accumulates and bytes of ``kernel``.

    Blocked convolutions count with their padding, which they compute. Bytes are each operand once; a view moves none.
    """
    count = _MACS.get(kernel.operator)
    return (count(kernel) if count else 0), _bytes(kernel)


def _bytes(kernel: Kernel) -> float:
    if kernel.operator in VIEWS:
        return 0.0
    written = sum(tensor.bytes for tensor in kernel.outputs if tensor.dtype)
    if kernel.operator in PICKS:
        return 2 * written
    return written + sum(tensor.bytes for tensor in kernel.inputs if tensor.dtype)


def _convolution(weight: int) -> Count:
    return lambda kernel: kernel.outputs[0].size * prod(kernel.inputs[weight].shape[1:])


def _transposed_convolution(kernel: Kernel) -> int:
    return kernel.input(0).size * prod(kernel.input(1).shape[1:])


def _matrix_product(kernel: Kernel) -> int:
    """The attribute of fused and general products alike is called ``transA``."""
    first = kernel.inputs[0].shape
    inner = first[-2] if kernel.attribute("transA", 0) and len(first) > 1 else first[-1]
    return kernel.outputs[0].size * inner


def _packed_product(kernel: Kernel) -> int:
    return kernel.outputs[0].size * kernel.integer("K", kernel.inputs[0].shape[-1])


def _recurrent(kernel: Kernel) -> int:
    """Every weight once a step and sample; a layout of 1 puts samples first, which the product does not see."""
    steps, samples = kernel.inputs[0].shape[:2]
    return steps * samples * (kernel.inputs[1].size + kernel.inputs[2].size)


def _attention(kernel: Kernel) -> int:
    """Both products of scaled dot-product attention: ``[b, n, d]``, or keys and values ``[b, heads, n, d]``."""
    query, key, value = (kernel.input(place) for place in range(3))
    if not key.shape or not value.shape:  # queries, keys and values packed in one: what the output has, three times
        out = kernel.outputs[0].shape
        return 2 * prod(out) * out[-2]
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _attention_with_weights(kernel: Kernel) -> int:
    """Of ``[b, n, d]`` by weights ``[d, 3 h]``: queries, keys and values, then both products of attention."""
    x, weights = kernel.input(0), kernel.input(1)
    return x.size * weights.shape[-1] + 2 * kernel.outputs[0].size * x.shape[-2]


def _any_attention(kernel: Kernel) -> int:
    """The operator of this name in ONNX has no weights, that of the runtime has."""
    return _attention_with_weights(kernel) if kernel.op.startswith("microsoft.") else _attention(kernel)


def _einsum(kernel: Kernel) -> int:
    """Each number of the output sums over the indices that it does not have."""
    terms, arrow, made = str(kernel.attribute("equation", "")).replace(" ", "").partition("->")
    if not arrow:  # the output has the indices that stand there once
        made = "".join(index for index in terms if terms.count(index) == 1)
    extents: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), kernel.inputs, strict=False):
        named = term.replace("...", "")[::-1]  # what dots stand for comes first, and is in the output
        extents.update(zip(named, tensor.shape[::-1], strict=False))
    return kernel.outputs[0].size * prod(extent for index, extent in extents.items() if index not in made)


# Operators beyond ONNX are those of https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
_MACS: Mapping[str, Count] = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys(
        (
            "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "QGemm", "QLinearMatMul", "MatMulInteger",
            "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
        ),
        _matrix_product,
    ),
    "MatMulNBits": _packed_product,
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    "MultiHeadAttention": _attention,
    "Attention": _any_attention,
    "QAttention": _attention_with_weights,
    "Einsum": _einsum,
}  # fmt: skip
MULTIPLIERS = frozenset(_MACS)
