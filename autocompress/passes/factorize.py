"""Factors: one layer becomes a chain of thin ones with fewer weights, where that pays on the target."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from autocompress.errors import RecipeError
from autocompress.facts import Facts
from autocompress.graph.layer_cost import estimated_time
from autocompress.graph.layer_table import LayerFacts, layer_table
from autocompress.graph.surgery import replace_module
from autocompress.layers.factor_form import Form, Ranks
from autocompress.layers.factor_forms import FORMS, Method
from autocompress.layers.plain import is_plain
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, require_layers
from autocompress.passes.prune_weights import passed_on

Rank = Annotated[int, Field(ge=1)]


class Gain(StrEnum):
    """What factors must be at least: estimated faster on the target, or only smaller."""

    FASTER = "faster"
    SMALLER = "smaller"


class Factors(Facts):
    """How one layer is factorized; ``ranks`` are of the output and the input channels."""

    method: Method = Method.SVD
    rank: Rank | None = None
    ranks: tuple[Rank, Rank] | None = None

    @model_validator(mode="after")
    def _has_the_ranks_of_its_method(self) -> Self:
        if self.method is Method.TUCKER2 and (self.ranks is None or self.rank is not None):
            raise ValueError("the method tucker2 needs ranks: [out, in], and no rank")
        if self.method is not Method.TUCKER2 and (self.rank is None or self.ranks is not None):
            raise ValueError(f"the method {self.method} needs rank: a number, and no ranks")
        return self

    @property
    def form(self) -> Form:
        """The chain that the method makes."""
        return FORMS[self.method]

    def values(self) -> Ranks:
        """The ranks as the form takes them."""
        return self.ranks or (self.rank or 1,)

    def __str__(self) -> str:
        return f"{self.method}, " + (f"ranks {list(self.ranks)}" if self.ranks else f"rank {self.rank}")


@dataclass(kw_only=True)
class _Trial:
    """A layer that has been replaced by a chain of zeros, to see whether that pays."""

    layer: nn.Module
    chain: nn.Sequential
    factors: Factors
    before: LayerFacts | None
    after: list[LayerFacts] = field(default_factory=list)


class Factorize(Pass):
    """Replace layers by chains of thin ones: ``svd``, ``spatial_svd`` and ``tucker2`` by least squares, ``cp`` by ALS.

    A layer whose chain would have no fewer weights is left alone, and so is one whose chain is estimated to be no
    faster on the target, unless ``gain`` is ``smaller``.

    Source: Denton et al. 2014, https://arxiv.org/abs/1404.0736; Zhang et al. 2015, sec. 2.2.1,
    https://arxiv.org/abs/1505.06798, without their response reconstruction (recovery does that work); Jaderberg et al.
    2014, https://arxiv.org/abs/1405.3866; Kim et al. 2016, https://arxiv.org/abs/1511.06530; Lebedev et al. 2015,
    https://arxiv.org/abs/1412.6553.
    """

    name: ClassVar[str] = "factorize"
    stage: ClassVar[Stage] = Stage.DECOMPOSE
    source: ClassVar[str] = "https://arxiv.org/abs/1505.06798"
    saves: ClassVar[str] = "ms, bytes, RAM"

    layers: dict[str, Factors] = Field(default_factory=dict)
    gain: Gain = Gain.FASTER

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:
        """Replace layers in place."""
        require_layers(model, list(self.layers), "factorize.layers")
        outcome = Outcome()
        if not self.layers:
            return outcome
        table = {facts.name: facts for facts in layer_table(model, context.example)}
        trials: dict[str, _Trial] = {}
        for name, factors in self.layers.items():
            layer = model.get_submodule(name)
            if reason := why_not(name, layer, factors):
                outcome.skipped[name] = reason
                continue
            chain = factors.form.empty(layer, factors.values())
            trials[name] = _Trial(layer=layer, chain=chain, factors=factors, before=table.get(name))
        _run(model, context.example, trials, outcome)
        for name, trial in trials.items():
            self._decide(model, name, trial, context, outcome)
        return outcome

    def _decide(self, model: nn.Module, name: str, trial: _Trial, context: PassContext, outcome: Outcome) -> None:
        """Fill the chain, or put the layer back where the estimate speaks against it."""
        ratio = None
        if trial.before is not None and trial.after:
            block = context.channel_block
            ratio = estimated_time(trial.after, block) / estimated_time([trial.before], block)
        if self.gain is Gain.FASTER and (ratio is None or ratio >= 1):
            replace_module(model, name, trial.layer)
            time = "of unknown time" if ratio is None else f"estimated at {ratio:.2f} times the layer's time"
            outcome.skipped[name] = (
                f"{trial.factors} is {time} on this target; gain: smaller factorizes it for its bytes"
            )
            return
        words = ""
        if not context.shapes_only:
            words = trial.factors.form.fill(trial.chain, trial.layer, trial.factors.values())
        parts = [
            str(trial.factors),
            f"{weights_of(trial.layer):,} → {weights_of(trial.chain):,} weights",
            "" if ratio is None else f"estimated at {ratio:.2f} times its time",
            words,
        ]
        outcome.changed[name] = "; ".join(part for part in parts if part)
        if name in context.constraints:
            outcome.constraints |= passed_on(context.constraints[name], thin_layers(name, trial.chain))


def thin_layers(name: str, chain: nn.Module) -> dict[str, nn.Module]:
    """The thin layers that stand where ``name`` was, by their names in the model; empty where nothing was replaced."""
    return {f"{name}.{part}": layer for part, layer in chain.named_children()}


def weights_of(module: nn.Module) -> int:
    """Weights of a layer or of a chain, biases left out."""
    return sum(value.numel() for name, value in module.named_parameters() if name.rpartition(".")[2] == "weight")


def why_not(name: str, layer: nn.Module, factors: Factors) -> str:
    """Why a layer cannot have these factors, or would have no fewer weights by them; empty when it would.

    Raises:
        RecipeError: a rank beyond what the layer has.
    """
    if reason := factors.form.takes(layer):
        return reason
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    if not is_plain(layer):
        return f"a {type(layer).__name__} does more than its weight says"
    _require_ranks(name, layer, factors)
    before, after = weights_of(layer), weights_of(factors.form.empty(layer, factors.values()))
    if after < before:
        return ""
    most = _most_paying(layer, factors.form, before) if factors.rank else 0
    return f"{factors} saves no weights, {before:,} would become {after:,}" + (f"; rank {most} does" if most else "")


def _require_ranks(name: str, layer: nn.Module, factors: Factors) -> None:
    place = f"factorize.layers.{name}." + ("ranks" if factors.ranks else "rank")
    most = factors.form.most(layer)
    values = factors.values()
    if all(value <= limit for value, limit in zip(values, most, strict=True)):
        return
    nearest = [min(value, limit) for value, limit in zip(values, most, strict=True)]
    if factors.rank:
        raise RecipeError(
            f"{place} must lie in [1, {most[0]}] at the layer's final width, got {values[0]}; nearest: {nearest[0]}"
        )
    raise RecipeError(
        f"{place} must lie in [1, {most[0]}] × [1, {most[1]}] at the layer's final widths, "
        f"got {list(values)}; nearest: {nearest}"
    )


def _most_paying(layer: nn.Module, form: Form, weights: int) -> int:
    """The largest rank with fewer weights; a chain of one rank has the same number of weights for each of it."""
    return (weights - 1) // weights_of(form.empty(layer, (1,)))


def _run(model: nn.Module, example: Tensor, trials: dict[str, _Trial], outcome: Outcome) -> None:
    """Put the chains in place and note their facts; those that the model cannot run are taken out again."""
    for name, trial in trials.items():
        replace_module(model, name, trial.chain)
    table = _table(model, example)
    if table is None:
        table = _run_one_by_one(model, example, trials, outcome)
    for name, trial in trials.items():
        trial.after = [facts for facts in table if facts.name in thin_layers(name, trial.chain)]


def _run_one_by_one(
    model: nn.Module, example: Tensor, trials: dict[str, _Trial], outcome: Outcome
) -> tuple[LayerFacts, ...]:
    """Leave out layers whose weight the module around them reads itself, as ``nn.MultiheadAttention`` does."""
    for name, trial in trials.items():
        replace_module(model, name, trial.layer)
    for name, trial in list(trials.items()):
        replace_module(model, name, trial.chain)
        if _table(model, example) is None:
            replace_module(model, name, trial.layer)
            del trials[name]
            outcome.skipped[name] = "the module around it reads its weight without calling it"
    return layer_table(model, example)


def _table(model: nn.Module, example: Tensor) -> tuple[LayerFacts, ...] | None:
    try:
        return layer_table(model, example)
    except Exception:  # whatever the network raises
        return None
