"""What a model says of itself: its normalization, its size, the identity of its weights."""

import hashlib
from typing import Any

import torch
from torch import nn

from autocompress.models.timm_zoo import has_fixed_timm_size
from autocompress.user_code import is_code


def normalization_of(
    model: nn.Module, channels: int | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std in timm's configuration of ``model``; None without one, or if not of so many ``channels``."""
    config = _config_of(model)
    mean, std = tuple(config.get("mean") or ()), tuple(config.get("std") or ())
    if not mean or len(mean) != len(std) or (channels is not None and len(mean) != channels):
        return None
    return mean, std


def configured_size(model: nn.Module) -> int | None:
    """Height of the images that the model's weights were trained on, from timm's configuration."""
    size = _config_of(model).get("input_size")
    return int(size[-2]) if size else None


def has_fixed_size(spec: str) -> bool:
    """Whether the timm model ``spec`` is built for one image size; unknown, so False, for own code."""
    return not is_code(spec) and has_fixed_timm_size(spec)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of the state dict, in order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _config_of(model: nn.Module) -> dict[str, Any]:
    config = getattr(model, "pretrained_cfg", None)
    return config if isinstance(config, dict) else {}
