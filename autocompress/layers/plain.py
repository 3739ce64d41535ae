"""Whether a layer computes what its weight and its base class say."""

import torch
from torch import Tensor, nn

PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d)
Plain = nn.Linear | nn.Conv1d | nn.Conv2d


@torch.no_grad()
def is_plain(layer: Plain) -> bool:
    """Whether a layer computes what its base class would: subclasses may pad or scale on their own."""
    if type(layer) in PLAIN:
        return True
    base = next(kind.forward for kind in PLAIN if isinstance(layer, kind))
    try:
        return all(torch.allclose(layer(probe), base(layer, probe)) for probe in _probes(layer))  # type: ignore[arg-type]
    except RuntimeError:  # shapes differ
        return False


def _probes(layer: Plain) -> list[Tensor]:
    """Small inputs, of an even and an odd size where there is one."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Linear):
        return [torch.randn(1, layer.in_features, generator=generator)]
    reach = max((k - 1) * d + s for k, d, s in zip(layer.kernel_size, layer.dilation, layer.stride, strict=True))
    axes = len(layer.kernel_size)
    return [torch.randn(1, layer.in_channels, *[size] * axes, generator=generator) for size in (reach + 1, reach + 2)]
