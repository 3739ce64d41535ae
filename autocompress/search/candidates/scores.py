"""Scores of untrained networks: how many inputs they tell apart, and how much signal flows through their weights."""

import copy
import math

import torch
from torch import Tensor, nn

from autocompress.facts import Facts
from autocompress.graph.surgery import example_input

SAMPLES = 16
# Classes by name: timm has its own of the same names.
ACTIVATIONS = {
    "ReLU",
    "ReLU6",
    "SiLU",
    "Swish",
    "GELU",
    "GELUTanh",
    "QuickGELU",
    "Hardswish",
    "HardSwish",
    "HardSwishMe",
}
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)


class Scores(Facts):
    """What is known of an architecture before any training; more is taken for better, of all four.

    ``naswot`` and ``synflow`` are logarithms, and depend on the input's size: they compare networks for one task. None
    is less than any number: all inputs look alike, or no signal comes through.
    """

    params: int
    macs: int
    naswot: float | None
    synflow: float | None

    def ranked(self) -> tuple[float, float, float, float]:
        """All four as numbers to sort by."""
        least = -math.inf
        return (
            self.params,
            self.macs,
            least if self.naswot is None else self.naswot,
            least if self.synflow is None else self.synflow,
        )


def naswot(model: nn.Module, inputs: Tensor) -> float | None:
    """Log-determinant of how alike the inputs' patterns of active units are; the network is left alone.

    Other activations than ReLU count as active where what they are given is above zero.

    Source: Mellor et al. 2021, sec. 3, https://arxiv.org/abs/2006.04647
    """
    model = copy.deepcopy(model).train()  # statistics of this batch: running ones of an untrained network mean nothing
    alike = torch.zeros(len(inputs), len(inputs), dtype=torch.float64)

    def count(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        active = (given[0].detach().reshape(len(inputs), -1) > 0).float()
        alike.add_((active @ active.T + (1 - active) @ (1 - active).T).double())

    for module in model.modules():
        if type(module).__name__ in ACTIVATIONS:
            module.register_forward_pre_hook(count)
    with torch.no_grad():
        model(inputs)
    sign, logarithm = torch.linalg.slogdet(alike)
    return float(logarithm) if sign > 0 and math.isfinite(logarithm) else None


def synflow(model: nn.Module, shape: tuple[int, ...]) -> float | None:
    """Log10 of how much signal flows through the weights: the sum of ``|w · dR/dw|``; the network is left alone.

    R sums the outputs for an input of ones, all weights taken positive. Norms pass on what they are given.

    Source: Tanaka et al. 2020, sec. 6, https://arxiv.org/abs/2006.05467; as a score of architectures, Abdelfattah et
    al. 2021, sec. 3.2, https://arxiv.org/abs/2101.08134
    """
    model = copy.deepcopy(model).eval().double()  # products over many layers leave the range of single precision
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _NORMS):
                module.register_forward_hook(_passed_on)
        for parameter in model.parameters():
            parameter.requires_grad_(True).abs_()
    model(torch.ones((1, *shape), dtype=torch.float64)).sum().backward()
    total = sum(float((p * p.grad).detach().abs().sum()) for p in model.parameters() if p.grad is not None)
    return math.log10(total) if 0 < total < math.inf else None


def scores_of(model: nn.Module, shape: tuple[int, ...], *, params: int, macs: int, inputs: Tensor | None) -> Scores:
    """Both scores beside the counts; ``inputs [n, ...]`` None is normal noise."""
    if inputs is None:
        inputs = example_input(shape, batch=SAMPLES)
    with torch.enable_grad():
        return Scores(params=params, macs=macs, naswot=naswot(model, inputs), synflow=synflow(model, shape))


def _passed_on(_module: nn.Module, given: tuple[Tensor, ...], _made: Tensor) -> Tensor:
    return given[0]
