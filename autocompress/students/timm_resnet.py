"""Residual networks by timm."""

from collections.abc import Mapping

import timm
from torch import nn

from autocompress.students.knobs import Value
from autocompress.students.scaling import depths, stage_widths, strides

STAGES = 4


def build_resnet(values: Mapping[str, Value], shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Basic blocks of two 3x3 convolutions; the stem is a 3x3 convolution whose stride follows from the size.

    Blocks begin as they are drawn, not as identities, which a training as short as a student's would have to wake up.

    Source: He et al. 2016, https://arxiv.org/abs/1512.03385, whose networks for CIFAR have such a stem; He et al. 2019,
    sec. 4.2, https://arxiv.org/abs/1812.01187 (shortcuts that average before they narrow).
    """
    channels, height, width = shape
    widths, counts = stage_widths(values, STAGES), depths(values)
    if counts[-1] == 0:  # an empty stage passes on what it gets
        widths = (*widths[:-1], widths[-2])
    model: nn.Module = timm.create_model(
        "resnet18",
        num_classes=n_outputs,
        in_chans=channels,
        layers=counts,
        channels=widths,
        stem_type="deep",  # the one whose width can be given; its three convolutions are replaced
        stem_width=widths[0] // 2,
        avg_down=True,
        zero_init_last=False,
        block_args={"attn_layer": "se"} if values["squeeze_excite"] else {},
    )
    stem, stages = strides(min(height, width), STAGES, stem=(0, 2), fine=bool(values["fine_stem"]))
    model.conv1 = nn.Conv2d(channels, widths[0], 3, stride=min(stem, 2), padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    if stem < 4:
        model.maxpool = nn.Identity()
    for stage, stride in enumerate(stages, 1):
        if stride == 1:
            keep_size(model.get_submodule(f"layer{stage}"))
    return model


def keep_size(stage: nn.Module) -> None:
    """Give every convolution and pooling in ``stage`` the stride 1, in place."""
    for module in list(stage.modules()):
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool2d):
                setattr(module, name, nn.Identity())
