"""Inverted bottlenecks by timm."""

from collections.abc import Mapping
from typing import Any

from timm.models import build_model_with_cfg
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

from autocompress.students.knobs import Value
from autocompress.students.scaling import depths, stage_widths, strides

STAGES = 5


def build_mbconv(values: Mapping[str, Value], shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """A stage of depthwise separable blocks, then stages of inverted bottlenecks, all with ReLU, which int8 fuses.

    The head widens the last stage's channels by ``expansion``, as another bottleneck would.

    Source: Sandler et al. 2018, https://arxiv.org/abs/1801.04381; Tan and Le 2019, https://arxiv.org/abs/1905.11946
    """
    channels, height, width = shape
    widths, counts = stage_widths(values, STAGES), depths(values)
    stem, stages = strides(min(height, width), STAGES, stem=(0, 1))
    squeeze = "_se0.25" if values["squeeze_excite"] else ""
    kernel, expansion = int(values["kernel"]), int(values["expansion"])
    blocks = [
        [
            f"{'ds' if stage == 0 else 'ir'}_r{count}_k{kernel}_s{stages[stage]}_c{widths[stage]}{squeeze}"
            + ("" if stage == 0 else f"_e{expansion}")
        ]
        for stage, count in enumerate(counts)
        if count
    ]
    model: Any = build_model_with_cfg(
        EfficientNet,  # create_model refuses block_args and multipliers of these
        "efficientnet_b0",
        False,
        block_args=decode_arch_def(blocks),
        num_classes=n_outputs,
        in_chans=channels,
        stem_size=widths[0],
        num_features=expansion * widths[len(blocks) - 1],
        act_layer=nn.ReLU,
    )
    model.conv_stem.stride = (stem, stem)
    network: nn.Module = model
    return network
