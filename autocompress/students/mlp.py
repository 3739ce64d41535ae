"""Residual multilayer perceptrons."""

from collections.abc import Mapping

from torch import Tensor, nn

from autocompress.students.knobs import Value


class MlpBlock(nn.Module):
    """``x + norm(W2 relu(norm(W1 x)))``."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.narrow = nn.Linear(hidden, width, bias=False)
        self.norm_out = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, width]`` to the same."""
        inner: Tensor = self.norm_out(self.narrow(self.norm(self.widen(x)).relu()))
        return x + inner


def build_mlp(values: Mapping[str, Value], shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """A linear layer in, residual blocks, a linear layer out.

    Source: Gorishniy et al. 2021, sec. 3.2, https://arxiv.org/abs/2106.11959; their norms stand before the linear
    layers, these after them, where the file has none of them left.
    """
    width = int(values["width"])
    blocks = [MlpBlock(width, int(values["expansion"]) * width) for _ in range(int(values["depth"]))]
    return nn.Sequential(
        nn.Linear(shape[0], width, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        *blocks,
        nn.ReLU(),
        nn.Linear(width, n_outputs),
    )
