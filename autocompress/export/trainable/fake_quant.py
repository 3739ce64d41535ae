"""Rounding that can be trained through: activations on the file's grid, weights on a grid that is learned.

The forward arithmetic is ONNX's ``DequantizeLinear(QuantizeLinear(x))``; gradients pass straight through inside of the
range. While a network is exported, the same arithmetic is written in elementary operators: torch's fused ones have no
shape rules for tracing.
"""

import numpy as np
import torch
from torch import Tensor, nn

_FRACTIONS = 21  # steps that are tried between a fifth of what the largest weight needs and all of it

_INSIDE = 0.499  # what rounds to an end of the range lies inside of it, and has a gradient


def fake_quantize(x: Tensor, *, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """``x`` rounded to ``scale`` × the integers from ``low - zero_point`` to ``high - zero_point``."""
    if x.dtype is not torch.float32:  # under autocast
        x = x.float()
    if torch.compiler.is_exporting():
        inverse = float(np.float32(1) / np.float32(scale))  # the fused operator's, in its precision
        return _rounded((x * inverse).clamp(low - zero_point - _INSIDE, high - zero_point + _INSIDE)) * scale
    return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, low, high)


def _rounded(v: Tensor) -> Tensor:
    """``v`` to the nearest integer, with the gradient of ``v``; both sums are exact in floating point."""
    return v + (v.round() - v).detach()


class Rounding(nn.Module):
    """Weights rounded to steps that are trained with them, as shares of where they started.

    A step is ``start × exp(gain)``: AdamW moves a gain by its rate, whatever the size of the step, and no step can
    become negative. ``members [channels]`` says which of the steps a channel uses.

    Source: Esser et al. 2020, LSQ, sec. 2.1 and 2.2, https://arxiv.org/abs/1902.08153, with the gradient scale of the
    paper; it trains the step itself, which AdamW would move as far whether it is large or small.
    """

    start: Tensor
    members: Tensor
    zero_point: Tensor

    def __init__(
        self, start: Tensor, members: Tensor, zero_point: Tensor, *, axis: int, low: int, high: int, trained: bool
    ) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros_like(start), requires_grad=trained)
        self.register_buffer("start", start)
        self.register_buffer("members", members)
        self.register_buffer("zero_point", zero_point)
        self.axis, self.low, self.high = axis, low, high

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as it is in the file."""
        factor = (self.start.numel() / (weight.numel() * self.high)) ** 0.5
        if torch.compiler.is_exporting() or weight.dim() == 1:  # torch's operator sums over no axis as over all
            gain = self.gain * factor + (self.gain - self.gain * factor).detach()
            steps, points = (self._along(t, weight) for t in (self._steps(gain), self.zero_point))
            inside = (weight * (1 / steps)).clamp(self.low - points - _INSIDE, self.high - points + _INSIDE)
            return _rounded(inside) * steps
        steps = self._steps(self.gain)
        return torch._fake_quantize_learnable_per_channel_affine(  # noqa: SLF001  # torch's LSQ has no public name
            weight, steps, self.zero_point, self.axis, self.low, self.high, factor
        )

    @torch.no_grad()
    def integers(self, weight: Tensor) -> Tensor:
        """The weight's integers, as floats."""
        steps, points = (self._along(t, weight) for t in (self.steps(), self.zero_point))
        return ((weight * (1 / steps)).round() + points).clamp(self.low, self.high)

    @torch.no_grad()
    def steps(self) -> Tensor:
        """The step of each channel, ``[channels]``."""
        return self._steps(self.gain)

    def _steps(self, gain: Tensor) -> Tensor:
        return (self.start * gain.exp()).index_select(0, self.members)

    def _along(self, per_channel: Tensor, weight: Tensor) -> Tensor:
        return per_channel.reshape([-1 if i == self.axis else 1 for i in range(weight.dim())])


def fitted_steps(weight: Tensor, members: Tensor, axis: int, high: int) -> Tensor:
    """For each group of channels, the step up to ``high`` integers that rounds its weights with least squared error.

    Eight bits take the largest weight; fewer clip it where that is better. The search is a grid: cost is 21 roundings.
    """
    rows = weight.movedim(axis, 0).flatten(1)
    count = int(members.max()) + 1
    peaks = torch.zeros(count).scatter_reduce(0, members, rows.abs().amax(1), "amax")
    full = torch.where(peaks > 0, peaks, 1.0) / high
    if high >= 127:
        return full
    best, least = full, torch.full_like(full, torch.inf)
    for fraction in torch.linspace(0.2, 1, _FRACTIONS):
        steps = (full * fraction)[members].unsqueeze(1)
        errors = ((rows / steps).round().clamp(-high, high) * steps - rows).square().sum(1)
        sums = torch.zeros(count).index_add(0, members, errors)
        best, least = torch.where(sums < least, full * fraction, best), torch.minimum(sums, least)
    return best
