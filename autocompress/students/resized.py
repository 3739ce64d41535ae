"""A network that sees its input at another size."""

import torch.nn.functional as F
from torch import Tensor, nn


class Resized(nn.Module):
    """``network`` behind a bilinear interpolation to ``size``, which belongs to the model and so to its file."""

    def __init__(self, network: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """``[n, c, h, w]`` of any height and width to the network's outputs."""
        outputs: Tensor = self.network(F.interpolate(images, self.size, mode="bilinear", align_corners=False))
        return outputs
