"""Residual networks of 1-D convolutions."""

from collections.abc import Mapping

from torch import Tensor, nn

from autocompress.students.knobs import Value
from autocompress.students.scaling import depths, stage_widths, strides

STAGES = 4


class SeriesBlock(nn.Module):
    """Two convolutions with norms beside a shortcut."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, *, separable: bool) -> None:
        super().__init__()
        self.conv1 = _normed(before, after, kernel, stride, separable=separable)
        self.conv2 = _normed(after, after, kernel, 1, separable=separable)
        changes = before != after or stride != 1
        self.shortcut = _normed(before, after, 1, stride, separable=False) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``[n, before, t]`` to ``[n, after, t / stride]``."""
        both: Tensor = self.conv2(self.conv1(x).relu()) + self.shortcut(x)
        return both.relu()


class SeriesNet(nn.Module):
    """Stem, stages, the mean over time, a linear layer. ``time_first`` is for samples ``[t, c]``."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], head: nn.Linear, *, time_first: bool) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.head = head
        self.time_first = time_first

    def forward(self, x: Tensor) -> Tensor:
        """``[n, c, t]``, or ``[n, t, c]`` where time is first, to ``[n, outputs]``."""
        x = x.transpose(1, 2) if self.time_first else x
        outputs: Tensor = self.head(self.stages(self.stem(x)).mean(dim=2))
        return outputs


def build_conv1d(values: Mapping[str, Value], shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Residual blocks of two convolutions, each stage at half the length of the one before while it is long enough.

    The longer axis of a sample is time.

    Source: Wang et al. 2017, sec. 3, https://arxiv.org/abs/1611.06455 (residual networks of 1-D convolutions with a
    mean over time); the blocks are of two convolutions here and their lengths shrink.
    """
    time_first = shape[0] > shape[1]
    channels, length = sorted(shape)
    kernel, separable = int(values["kernel"]), bool(values["separable"])
    widths = stage_widths(values, STAGES)
    stem_stride, stage_strides = strides(length, STAGES, stem=(0, 2))
    stem = nn.Sequential(_normed(channels, widths[0], kernel, stem_stride, separable=False), nn.ReLU())
    stages: list[nn.Module] = []
    before = widths[0]
    for count, width, stride in zip(depths(values), widths, stage_strides, strict=True):
        blocks = []
        for number in range(count):
            blocks.append(SeriesBlock(before, width, kernel, stride if number == 0 else 1, separable=separable))
            before = width
        stages.append(nn.Sequential(*blocks))
    return SeriesNet(stem, stages, nn.Linear(before, n_outputs), time_first=time_first)


def _normed(before: int, after: int, kernel: int, stride: int, *, separable: bool) -> nn.Sequential:
    """A convolution with its norm; depthwise and pointwise ones where it is to be separable."""

    def conv(c_in: int, c_out: int, length: int, step: int, groups: int = 1) -> nn.Conv1d:
        return nn.Conv1d(c_in, c_out, length, stride=step, padding=length // 2, groups=groups, bias=False)

    if not separable:
        return nn.Sequential(conv(before, after, kernel, stride), nn.BatchNorm1d(after))
    return nn.Sequential(
        conv(before, before, kernel, stride, before),
        nn.BatchNorm1d(before),
        conv(before, after, 1, 1),
        nn.BatchNorm1d(after),
    )
