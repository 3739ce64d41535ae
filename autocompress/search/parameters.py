"""The parameters that Optuna sees, and the recipe that a choice of them means."""

from collections.abc import Mapping
from dataclasses import dataclass

from autocompress.graph.anatomy import Anatomy
from autocompress.graph.layer_table import LayerFacts
from autocompress.precision import Format
from autocompress.recipe import Base, Recipe, Recovery
from autocompress.search.space import Range, SearchSpace
from autocompress.search.steps import UNUSED, Steps, Value, can_be_factorized

__all__ = ["Knob", "RecipeBuilder", "Value"]


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One parameter: a range of numbers, or a choice of words. ``strongest`` compresses most."""

    name: str
    range: Range | None = None
    choices: tuple[str, ...] = ()
    strongest: Value | None = None

    @property
    def kind(self) -> str:
        """What it sets, whatever the stage."""
        return self.name.split(".")[0]


@dataclass(frozen=True, kw_only=True)
class RecipeBuilder:
    """Turns parameters into recipes for one network.

    A stage has up to six parameters: ``drop.i`` (share of blocks that go), ``prune.i`` (share of channels that go),
    ``sparse.i`` (share of single weights that go), ``rank.i`` (share of the full rank that stays), ``codebook.i`` (bits
    of its indices) and ``precision.i``. The network has two: ``criterion`` and ``tie`` (how many blocks share weights).
    All are always there, so that samplers see a fixed space.

    ``codebooks`` is what layers with a codebook compute in where parts are treated one by one: None is the first
    precision of the space.
    """

    space: SearchSpace
    anatomy: Anatomy
    base: Base
    recovery: Recovery
    seed: int
    align: int
    codebooks: Format | None = None

    def knobs(self) -> tuple[Knob, ...]:
        """Every parameter, in a fixed order; those that can change nothing are left out."""
        passes, found = self.space.passes, []
        for stage in range(len(self.anatomy.stages)):
            found += self._knobs_of(stage)
        prunes = any(knob.kind == "prune" for knob in found)
        if prunes and passes.prune_channels and len(passes.prune_channels.criterion) > 1:
            found.append(Knob(name="criterion", choices=tuple(passes.prune_channels.criterion)))
        if passes.share_layers and self.anatomy.alike:
            counts = passes.share_layers.blocks
            found.append(Knob(name="tie", choices=(UNUSED, *map(str, counts)), strongest=str(max(counts))))
        return tuple(found)

    def _knobs_of(self, stage: int) -> list[Knob]:
        passes, found = self.space.passes, []
        if passes.drop_blocks and self.anatomy.droppable(stage):
            share = passes.drop_blocks.share
            found.append(Knob(name=f"drop.{stage}", range=share, strongest=share.high))
        if passes.prune_channels and self.anatomy.groups_of_stage(stage):
            found.append(Knob(name=f"prune.{stage}", range=passes.prune_channels.ratio))
        if passes.prune_weights:
            sparsity = passes.prune_weights.sparsity
            found.append(Knob(name=f"sparse.{stage}", range=sparsity, strongest=sparsity.high))
        if passes.factorize and any(map(can_be_factorized, self._layers_of(stage))):
            found.append(Knob(name=f"rank.{stage}", range=passes.factorize.rank))
        if passes.share_weights:
            bits = passes.share_weights.bits
            choices = (UNUSED, *map(str, bits))
            found.append(Knob(name=f"codebook.{stage}", choices=choices, strongest=str(min(bits))))
        if passes.quantize and len(passes.quantize.precision) > 1:
            found.append(Knob(name=f"precision.{stage}", choices=tuple(passes.quantize.precision)))
        return found

    def uniform(
        self, ratio: float = 0.0, precision: Format = Format.INT8, rank: float = 1.0, *, strongest: bool = False
    ) -> dict[str, Value]:
        """The same setting in every stage, clipped to the space.

        What has no argument is left out as far as the space allows, or as strong as can be with ``strongest``.
        """
        wanted: dict[str, Value] = {"prune": ratio, "rank": rank, "precision": precision.value}
        values: dict[str, Value] = {}
        for knob in self.knobs():
            value = wanted.get(knob.kind, 0.0 if knob.range else knob.choices[0])
            if strongest and knob.strongest is not None:
                value = knob.strongest
            values[knob.name] = knob.range.clip(float(value)) if knob.range else value
        return values

    def steps(self, values: Mapping[str, Value]) -> Steps:
        """The passes that ``values`` mean."""
        return Steps(space=self.space, anatomy=self.anatomy, align=self.align, values=values)

    def recipe(self, values: Mapping[str, Value]) -> Recipe:
        """The full recipe that ``values`` mean; a missing value leaves its stage as it is."""
        return Recipe(base=self.base, passes=self.steps(values).all(), recovery=self.recovery, seed=self.seed)

    def _layers_of(self, stage: int) -> list[LayerFacts]:
        return [layer for layer in self.anatomy.layers if self.anatomy.stage_of[layer.name] == stage]
