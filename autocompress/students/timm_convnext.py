"""ConvNeXt by timm."""

from collections.abc import Mapping
from typing import Any

import timm
from timm.layers import Mlp
from torch import nn

from autocompress.students.knobs import Value
from autocompress.students.scaling import depths, stage_widths, strides

STAGES = 4
LAYER_SCALE = 0.1  # Touvron et al. 2021, sec. 2, https://arxiv.org/abs/2103.17239, for networks of up to 18 blocks


def build_convnext(values: Mapping[str, Value], shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Depthwise convolution, norm and two 1x1 convolutions a block; the stem cuts patches whose size follows.

    Source: Liu et al. 2022, https://arxiv.org/abs/2201.03545
    """
    channels, height, width = shape
    widths = stage_widths(values, STAGES)
    patch, stages = strides(min(height, width), STAGES, stem=(1, 2))
    model: Any = timm.create_model(
        "convnext_atto",
        num_classes=n_outputs,
        in_chans=channels,
        depths=depths(values),
        dims=widths,
        kernel_sizes=int(values["kernel"]),
        patch_size=patch,
        ls_init_value=LAYER_SCALE,
    )
    for number, stage in enumerate(model.stages):
        _downsample(stage, stages[number])
        wide = widths[number]
        for block in stage.blocks:  # whose expansion timm does not let through
            block.mlp = Mlp(wide, int(values["expansion"]) * wide, act_layer=nn.GELU, use_conv=True)
    network: nn.Module = model
    return network


def _downsample(stage: Any, stride: int) -> None:
    """Give the convolution between two stages this stride; timm's is 2, and after patches of 2 for the first too."""
    if isinstance(stage.downsample, nn.Identity):
        return
    norm, conv = stage.downsample
    if stride == 1 and conv.in_channels == conv.out_channels:
        stage.downsample = nn.Identity()
    elif conv.stride[0] != stride:
        stage.downsample = nn.Sequential(norm, nn.Conv2d(conv.in_channels, conv.out_channels, stride, stride=stride))
