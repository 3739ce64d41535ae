"""The parameters that Optuna sees, and the recipe that a choice of them means."""

from collections.abc import Mapping
from dataclasses import dataclass

from autocompress.graph.anatomy import Anatomy
from autocompress.graph.layer_table import LayerFacts
from autocompress.passes.prune_channels import Criterion, kept_width
from autocompress.precision import INT8, Activations, Format, Precision
from autocompress.recipe import Base, PassStep, Recipe, Recovery
from autocompress.search.space import Range, SearchSpace

WHOLE = 0.9  # a layer that would keep more of its rank stays whole: the pair would cost more than it
Value = float | str


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One parameter: a range of numbers, or a choice of words."""

    name: str
    range: Range | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RecipeBuilder:
    """Turns parameters into recipes for one network.

    A stage has three parameters: ``prune.i`` (share of channels that go), ``rank.i`` (share of the full rank that
    stays) and ``precision.i``. All are always there, so that samplers see a fixed space.
    """

    space: SearchSpace
    anatomy: Anatomy
    base: Base
    recovery: Recovery
    seed: int
    align: int

    def knobs(self) -> tuple[Knob, ...]:
        """Every parameter, in a fixed order; those that can change nothing are left out."""
        passes, found = self.space.passes, []
        for stage in range(len(self.anatomy.stages)):
            if passes.prune_channels and self.anatomy.groups_of_stage(stage):
                found.append(Knob(name=f"prune.{stage}", range=passes.prune_channels.ratio))
            if passes.factorize and self._factorizable(stage):
                found.append(Knob(name=f"rank.{stage}", range=passes.factorize.rank))
            if passes.quantize and len(passes.quantize.precision) > 1:
                found.append(Knob(name=f"precision.{stage}", choices=tuple(passes.quantize.precision)))
        prunes = any(knob.name.startswith("prune.") for knob in found)
        if prunes and passes.prune_channels and len(passes.prune_channels.criterion) > 1:
            found.append(Knob(name="criterion", choices=tuple(passes.prune_channels.criterion)))
        return tuple(found)

    def uniform(self, ratio: float = 0.0, precision: Format = Format.INT8, rank: float = 1.0) -> dict[str, Value]:
        """The same setting in every stage, clipped to the space."""
        wanted = {"prune": ratio, "rank": rank}
        values: dict[str, Value] = {}
        for knob in self.knobs():
            kind = knob.name.split(".")[0]
            if knob.range is not None:
                values[knob.name] = knob.range.clip(wanted[kind])
            elif kind == "precision":
                values[knob.name] = precision.value
            else:
                values[knob.name] = knob.choices[0]
        return values

    def recipe(self, values: Mapping[str, Value]) -> Recipe:
        """The full recipe that ``values`` mean; a missing value leaves its stage as it is."""
        kept = self._kept_widths(values)
        steps = (self._prune(values), self._factorize(values, kept), self._quantize(values))
        return Recipe(
            base=self.base, passes=tuple(step for step in steps if step), recovery=self.recovery, seed=self.seed
        )

    def _ratios(self, values: Mapping[str, Value]) -> dict[str, float]:
        return {
            group.name: round(float(values.get(f"prune.{stage}", 0.0)), 4)
            for stage in range(len(self.anatomy.stages))
            for group in self.anatomy.groups_of_stage(stage)
        }

    def _kept_widths(self, values: Mapping[str, Value]) -> dict[str, int]:
        ratios = self._ratios(values)
        return {g.name: kept_width(g, ratios[g.name], self.align) for g in self.anatomy.groups if g.name in ratios}

    def _prune(self, values: Mapping[str, Value]) -> PassStep | None:
        kept = self._kept_widths(values)
        widths = {group.name: group.width for group in self.anatomy.groups}
        ratios = {name: ratio for name, ratio in self._ratios(values).items() if kept[name] < widths[name]}
        if not ratios or self.space.passes.prune_channels is None:
            return None
        criterion = values.get("criterion", self.space.passes.prune_channels.criterion[0])
        return PassStep(
            name="prune_channels",
            settings={"ratios": ratios, "criterion": Criterion(str(criterion)).value, "align": self.align},
        )

    def _factorize(self, values: Mapping[str, Value], kept: dict[str, int]) -> PassStep | None:
        layers = {}
        for layer in self.anatomy.layers:
            share = float(values.get(f"rank.{self.anatomy.stage_of[layer.name]}", 1.0))
            if share > WHOLE or layer.groups > 1 or layer.kind == "Conv1d":
                continue
            c_in, c_out = self.anatomy.widths_after(layer, kept)
            columns = c_in * _window(layer.kernel)
            rank = _aligned(share * min(c_out, columns), self.align)
            if rank < min(c_out, columns) and rank * (c_out + columns) < c_out * columns:
                layers[layer.name] = {"method": "svd", "rank": rank}
        # What a rank is worth is measured on the candidate's own file, so none is left out for its estimated time.
        return PassStep(name="factorize", settings={"layers": layers, "gain": "smaller"}) if layers else None

    def _quantize(self, values: Mapping[str, Value]) -> PassStep | None:
        choice = self.space.passes.quantize
        if choice is None:
            return None
        of_stage = [
            Format(str(values.get(f"precision.{stage}", choice.precision[0])))
            for stage in range(len(self.anatomy.stages))
        ]
        if all(form is Format.FP32 for form in of_stage):
            return None
        of_layer = {layer.name: of_stage[self.anatomy.stage_of[layer.name]] for layer in self.anatomy.layers}
        others = {name: form for name, form in of_layer.items() if form is not Format.INT8}
        settings: dict[str, object] = {"default": INT8.model_dump(mode="json", exclude_none=True)}
        if others:
            settings["layers"] = {
                name: _precision(form).model_dump(mode="json", exclude_none=True) for name, form in others.items()
            }
        return PassStep(name="quantize", settings=settings)

    def _factorizable(self, stage: int) -> bool:
        return any(layer.groups == 1 and layer.kind != "Conv1d" for layer in self._layers_of(stage))

    def _layers_of(self, stage: int) -> list[LayerFacts]:
        return [layer for layer in self.anatomy.layers if self.anatomy.stage_of[layer.name] == stage]


def _precision(form: Format) -> Precision:
    """Integer weights go with int8 arithmetic, others with float."""
    return Precision(weights=form, activations=Activations.FP32 if form.bits is None else Activations.INT8)


def summary(recipe: Recipe) -> str:
    """The recipe in a few words, for tables."""
    parts = []
    ratios = recipe.settings_of("prune_channels").get("ratios", {})
    if ratios:
        mean = sum(ratios.values()) / len(ratios)
        parts.append(
            f"−{mean:.0%} channels in {len(ratios)} groups ({recipe.settings_of('prune_channels')['criterion']})"
        )
    factored = recipe.settings_of("factorize").get("layers", {})
    if factored:
        parts.append(f"low rank in {len(factored)} layers")
    if any(step.name == "quantize" for step in recipe.passes):
        floats = len(recipe.settings_of("quantize").get("layers", {}))
        parts.append(f"int8{f', {floats} layers fp32' if floats else ''}")
    return " · ".join(parts) or "unchanged"


def _window(kernel: tuple[int, ...]) -> int:
    size = 1
    for side in kernel:
        size *= side
    return size


def _aligned(value: float, align: int) -> int:
    step = align
    while step > 1 and value < 2 * step:
        step //= 2
    return max(1, round(value / step) * step)
