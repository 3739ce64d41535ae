"""Whole kinds of network that can be left out of what a predictor learns from, told by their kernels."""

from collections.abc import Callable, Mapping, Sequence

from autocompress.hardware.kernels.kernel import Kernel

_SECOND = {"MatMul": 1, "FusedMatMul": 1, "QLinearMatMul": 3, "MatMulInteger": 1, "MatMulIntegerToFloat": 1}
_FILTER = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}


def has_attention(kernels: Sequence[Kernel]) -> bool:
    """Whether activations are multiplied with activations."""
    return any(
        kernel.operator in {"MultiHeadAttention", "Attention"}
        or (kernel.operator in _SECOND and not kernel.inputs[_SECOND[kernel.operator]].stored)
        for kernel in kernels
    )


def has_depthwise(kernels: Sequence[Kernel]) -> bool:
    """Whether some convolution has a filter for each channel alone."""
    return any(
        kernel.operator in _FILTER
        and int(kernel.attribute("group", 1)) > 1
        and kernel.inputs[_FILTER[kernel.operator]].shape[1] == 1
        for kernel in kernels
    )


KINDS: Mapping[str, Callable[[Sequence[Kernel]], bool]] = {"transformers": has_attention, "depthwise": has_depthwise}
