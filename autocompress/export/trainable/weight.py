"""A weight of the file as something to train: the rule that it keeps, its master, its rounding."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.errors import ModelError
from autocompress.export.trainable.fake_quant import Rounding, fitted_steps
from autocompress.layers.constraint import Constraint


@dataclass(frozen=True, kw_only=True)
class WeightRule:
    """How one weight of the file is trained; without a rule it is trained as it lies there.

    ``bits``: 2 to 8, integers in ±(2^(bits-1) - 1); None keeps the file's own grid (float weights stay float).
    ``constraint``: what the master V keeps to, in the layer's orientation ``[c_out, ...]``.
    ``channel_scale [c_out]``, none of it 0: the file's weight is ``channel_scale ⊙ V``, as where BatchNorm was folded.
    Steps are V's; the file's scales are ``channel_scale`` × step, negative where BatchNorm turns a channel round.
    ``transposed``: the file stores the layer's ``[c_out, c_in]`` as ``[c_in, c_out]`` (MatMul).
    With ``constraint.indices`` all channels of a codebook share one step, so that equal weights are equal integers.
    """

    bits: int | None = None
    constraint: Constraint | None = None
    channel_scale: Tensor | None = None
    transposed: bool = False

    def __post_init__(self) -> None:
        if self.bits is not None and not 2 <= self.bits <= 8:
            raise ModelError(f"WeightRule.bits must lie in 2..8, got {self.bits}")

    @property
    def keeps_the_grid(self) -> bool:
        """Whether the file's own scales still fit."""
        return (
            self.bits is None
            and self.channel_scale is None
            and (self.constraint is None or self.constraint.indices is None)
        )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How the file rounds a weight: scales and zero points ``[channels]`` or one, along ``axis`` of the file."""

    scale: Tensor
    zero_point: Tensor
    axis: int
    low: int
    high: int


class Weight(nn.Module):
    """The file's weight, made from its master at every step."""

    channel_scale: Tensor | None

    def __init__(self, value: Tensor, grid: Grid | None, rule: WeightRule, *, trains_scales: bool) -> None:
        super().__init__()
        self.constraint, self.transposed = rule.constraint, rule.transposed
        self.axis, self._rank = _channel_axis(value, grid, rule), value.dim()
        scale = None if rule.channel_scale is None else rule.channel_scale.detach().clone().float()
        self.register_buffer("channel_scale", scale)
        self.master = nn.Parameter(self._start(value, rule).contiguous())
        self.rounding = None if grid is None else self._rounding(grid, rule, trains_scales=trains_scales)

    def forward(self) -> Tensor:
        """The weight in the file's orientation."""
        value = self.master if self.rounding is None else self.rounding(self.master)
        if self.channel_scale is not None:
            value = value * self._along(self.channel_scale)
        return value.t() if self.transposed else value

    @torch.no_grad()
    def stored(self) -> tuple[Tensor, Tensor]:
        """Integers in the file's orientation, as floats, and their scales ``[channels]``."""
        assert self.rounding is not None
        integers, scales = self.rounding.integers(self.master), self.rounding.steps()
        if self.channel_scale is not None:
            scales = scales * self.channel_scale
        return (integers.t() if self.transposed else integers), scales

    def _start(self, value: Tensor, rule: WeightRule) -> Tensor:
        master = value.t() if rule.transposed else value
        if self.channel_scale is not None:
            master = master / self._along(self.channel_scale)
        return (master if rule.constraint is None else rule.constraint.nearest(master)).clone()

    def _rounding(self, grid: Grid, rule: WeightRule, *, trains_scales: bool) -> Rounding:
        channels = self.master.shape[self.axis]
        each = torch.arange(channels)
        if rule.keeps_the_grid:
            members = each if grid.scale.numel() > 1 else torch.zeros_like(each)
            start, zero_point, low, high = grid.scale.reshape(-1), grid.zero_point, grid.low, grid.high
        else:
            if grid.zero_point.any():
                raise ModelError("a WeightRule changes weights around zero only; leave this one as the file has it")
            shares = rule.constraint is not None and rule.constraint.indices is not None
            members = each * rule.constraint.groups // channels if shares and rule.constraint else each
            high = 2 ** ((rule.bits or 8) - 1) - 1
            low, zero_point = -high, grid.zero_point
            start = fitted_steps(self.master.detach(), members, self.axis, high)
        points = zero_point.reshape(-1).float().expand(channels).clone()
        return Rounding(start.clone(), members, points, axis=self.axis, low=low, high=high, trained=trains_scales)

    def _along(self, per_channel: Tensor) -> Tensor:
        return per_channel.reshape([-1 if i == self.axis else 1 for i in range(self._rank)])


def _channel_axis(value: Tensor, grid: Grid | None, rule: WeightRule) -> int:
    if rule.transposed:
        if value.dim() != 2:
            raise ModelError(f"WeightRule.transposed needs a matrix, got {tuple(value.shape)}")
        return 0
    return grid.axis if grid is not None and grid.scale.numel() > 1 else 0
