"""An architecture made: its network with random weights."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from autocompress.errors import SpaceError
from autocompress.students.conv1d import build_conv1d
from autocompress.students.family import Architecture, families_for, kind_of_input
from autocompress.students.knobs import InputKind, Value
from autocompress.students.mlp import build_mlp
from autocompress.students.resized import Resized
from autocompress.students.timm_convnext import build_convnext
from autocompress.students.timm_mbconv import build_mbconv
from autocompress.students.timm_resnet import build_resnet
from autocompress.students.timm_vit import build_vit, vit_size

Builder = Callable[[Mapping[str, Value], tuple[int, ...], int], nn.Module]
BUILDERS: Mapping[str, Builder] = {
    "resnet": build_resnet,
    "mbconv": build_mbconv,
    "convnext": build_convnext,
    "vit": build_vit,
    "mlp": build_mlp,
    "conv1d": build_conv1d,
}
LEAST_PIXELS = 4
JITTER = 1e-3


def build(architecture: Architecture, *, shape: tuple[int, ...], n_outputs: int, seed: int) -> nn.Module:
    """The network of ``architecture`` for float inputs of ``shape`` (without the batch), in training mode.

    The same seed gives the same weights; torch's own generator is left as it was.

    Raises:
        SpaceError: the family does not take inputs of this shape.
    """
    _require_shape(architecture, shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(architecture, shape, n_outputs)
        _tell_apart(network)
        return network.train()


def input_size(architecture: Architecture, shape: tuple[int, ...]) -> tuple[int, int]:
    """The height and width that the network of an image family sees, at inputs of ``shape``."""
    share = float(architecture.values["resolution"])
    height, width = (max(LEAST_PIXELS, round(share * pixels)) for pixels in shape[1:])
    return vit_size(architecture.values, (height, width)) if architecture.family == "vit" else (height, width)


def _network(architecture: Architecture, shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    builder = BUILDERS[architecture.family]
    if architecture.kind is not InputKind.IMAGE:
        return builder(architecture.values, shape, n_outputs)
    size = input_size(architecture, shape)
    network = builder(architecture.values, (shape[0], *size), n_outputs)
    return network if size == shape[1:] else Resized(network, size)


@torch.no_grad()
def _tell_apart(network: nn.Module) -> None:
    """Move biases and the weights of norms, which begin as zeros and ones, by a thousandth, each another way.

    A file holds equal constants once. So that of the untrained student, from which its size is known before it is
    trained, would be smaller than that of the trained one, where no two are equal.
    """
    for parameter in network.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter), alpha=JITTER)


def _require_shape(architecture: Architecture, shape: tuple[int, ...]) -> None:
    if kind_of_input(shape) is not architecture.kind:
        fitting = ", ".join(families_for(shape)) or "none"
        raise SpaceError(
            f"{architecture.family} takes samples of the kind {architecture.kind}, got the shape {list(shape)}; "
            f"families for it: {fitting}"
        )
    if architecture.kind is InputKind.IMAGE and min(shape[1:]) < LEAST_PIXELS:
        raise SpaceError(f"{architecture.family} takes images of at least 4x4 pixels, got {shape[1]}x{shape[2]}")
