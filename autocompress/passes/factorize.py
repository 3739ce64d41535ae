"""Low-rank layers: one layer becomes two thin ones with fewer weights and multiplications."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field
from torch import nn

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

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:  # noqa: ARG002  # needs no data
        """Replace layers in place."""
        require_layers(model, list(self.layers), "factorize.layers")
        outcome = Outcome()
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
            replace_module(model, name, low_rank_pair(layer, factors.rank).train(layer.training))
            outcome.changed[name] = f"rank {factors.rank} of {most_rank(layer)}"
        return outcome


def why_not(layer: nn.Module) -> str:
    """Why a layer has no low-rank pair; empty when it has one."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"a {type(layer).__name__} cannot be factorized; linear layers and 2-d convolutions can"
    if isinstance(layer, nn.Conv2d) and layer.groups != 1:
        return "it is a grouped convolution"
    return ""
