"""Low-rank layers: one layer becomes two thin ones with fewer weights and multiplications."""

from enum import StrEnum
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from autocompress.errors import RecipeError
from autocompress.facts import Facts
from autocompress.graph.surgery import replace_module
from autocompress.layers.low_rank import low_rank_pair, most_rank, paying_rank
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, require_layers


class Method(StrEnum):
    """How a weight is factorized."""

    SVD = "svd"


class Factors(Facts):
    """How one layer is factorized."""

    method: Method = Method.SVD
    rank: int = Field(ge=1)


class Factorize(Pass):
    """Replace ``y = Wx + b`` by ``y = U(Vx) + b``; convolutions as matrices ``[c_out, c_in · k_h · k_w]``.

    A layer whose pair would have no fewer weights is left alone.

    Source: Denton et al. 2014, https://arxiv.org/abs/1404.0736; Zhang et al. 2015, sec. 2.2.1,
    https://arxiv.org/abs/1505.06798, without their response reconstruction (recovery does that work).
    """

    name: ClassVar[str] = "factorize"
    stage: ClassVar[Stage] = Stage.DECOMPOSE
    source: ClassVar[str] = "https://arxiv.org/abs/1505.06798"
    saves: ClassVar[str] = "ms, bytes, RAM"

    layers: dict[str, Factors] = Field(default_factory=dict)

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:
        """Replace layers in place."""
        require_layers(model, list(self.layers), "factorize.layers")
        outcome = Outcome()
        originals: dict[str, nn.Module] = {}
        for name, factors in self.layers.items():
            layer = model.get_submodule(name)
            reason = why_not(layer)
            if reason:
                outcome.skipped[name] = reason
                continue
            assert isinstance(layer, nn.Linear | nn.Conv2d)
            if factors.rank > most_rank(layer):
                raise RecipeError(
                    f"factorize.layers.{name}.rank must lie in [1, {most_rank(layer)}] at the layer's final width, "
                    f"got {factors.rank}; nearest: {most_rank(layer)}"
                )
            if factors.rank > paying_rank(layer):
                outcome.skipped[name] = f"rank {factors.rank} saves no weights; it does up to {paying_rank(layer)}"
                continue
            originals[name] = layer
            replace_module(model, name, low_rank_pair(layer, factors.rank).train(layer.training))
            outcome.changed[name] = f"rank {factors.rank} of {most_rank(layer)}"
        if originals and not _runs(model, context.example):
            _put_back(model, context.example, originals, outcome)
        return outcome


def why_not(layer: nn.Module) -> str:
    """Why a layer has no low-rank pair; empty when it has one."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"a {type(layer).__name__} cannot be factorized; linear layers and 2-d convolutions can"
    if isinstance(layer, nn.Conv2d) and layer.groups != 1:
        return "it is a grouped convolution"
    if not _is_plain(layer):
        return f"a {type(layer).__name__} does more than its weight says"
    return ""


@torch.no_grad()
def _is_plain(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether a layer computes what its base class would: subclasses may pad or scale on their own."""
    if type(layer) in (nn.Linear, nn.Conv2d):
        return True
    base = nn.Linear.forward if isinstance(layer, nn.Linear) else nn.Conv2d.forward
    try:
        return all(torch.allclose(layer(probe), base(layer, probe)) for probe in _probes(layer))  # type: ignore[arg-type]
    except RuntimeError:  # shapes differ
        return False


def _probes(layer: nn.Linear | nn.Conv2d) -> list[Tensor]:
    """Small inputs, of an even and an odd size where there is one."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Linear):
        return [torch.randn(1, layer.in_features, generator=generator)]
    reach = max((k - 1) * d + s for k, d, s in zip(layer.kernel_size, layer.dilation, layer.stride, strict=True))
    return [torch.randn(1, layer.in_channels, size, size, generator=generator) for size in (reach + 1, reach + 2)]


@torch.no_grad()
def _runs(model: nn.Module, example: Tensor) -> bool:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()(example)
    except Exception:  # whatever the network raises
        return False
    finally:
        for module, training in modes:
            module.training = training
    return True


def _put_back(model: nn.Module, example: Tensor, originals: dict[str, nn.Module], outcome: Outcome) -> None:
    """Restore layers whose weight the module around them reads itself, as ``nn.MultiheadAttention`` does."""
    pairs = {name: model.get_submodule(name) for name in originals}
    for name, layer in originals.items():
        replace_module(model, name, layer)
    for name, pair in pairs.items():
        replace_module(model, name, pair)
        if not _runs(model, example):
            replace_module(model, name, originals[name])
            del outcome.changed[name]
            outcome.skipped[name] = "the module around it reads its weight without calling it"
