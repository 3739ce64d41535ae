"""Vision transformers by timm."""

from collections.abc import Mapping

import timm
from torch import nn

from autocompress.students.knobs import Value


def vit_size(values: Mapping[str, Value], size: tuple[int, int]) -> tuple[int, int]:
    """The height and width of whole patches that comes nearest below ``size``."""
    return tuple(patch * count for patch, count in zip(_patches(values, size), _tokens(values, size), strict=True))  # type: ignore[return-value]


def build_vit(values: Mapping[str, Value], shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Pre-norm transformer blocks over patches, their mean classified.

    Source: Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929; the mean in the place of a class token, Beyer et
    al. 2022, https://arxiv.org/abs/2205.01580
    """
    channels, height, width = shape
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=n_outputs,
        in_chans=channels,
        img_size=(height, width),
        patch_size=_patches(values, (height, width)),
        embed_dim=int(values["width"]),
        depth=int(values["depth"]),
        num_heads=int(values["heads"]),
        mlp_ratio=int(values["expansion"]),
        class_token=False,
        global_pool="avg",
    )
    return model


def _tokens(values: Mapping[str, Value], size: tuple[int, int]) -> tuple[int, int]:
    """Tokens along height and width, no more than pixels."""
    return min(int(values["tokens"]), size[0]), min(int(values["tokens"]), size[1])


def _patches(values: Mapping[str, Value], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a patch."""
    rows, columns = _tokens(values, size)
    return size[0] // rows, size[1] // columns
