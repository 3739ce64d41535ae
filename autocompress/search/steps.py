"""The passes that a choice of parameters means for one network, with settings that hold for all of them together.

What one pass takes away is not named by those that follow: layers in dropped blocks, whole layers that became factors.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from autocompress.graph.anatomy import Anatomy, lies_in
from autocompress.graph.layer_table import LayerFacts
from autocompress.passes.prune_channels import Criterion, kept_width
from autocompress.passes.share_weights import saves_bytes
from autocompress.precision import INT8, Activations, Format
from autocompress.recipe import PassStep
from autocompress.search.space import SearchSpace

WHOLE = 0.9  # a layer that would keep more of its rank stays whole: the pair would cost more than it
LEAST_SPARSE = 0.3  # below it the bitmap of an int8 layer takes about half of what its zeros save
UNUSED = "none"
Value = float | str
Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """One choice of parameters for one network; a missing value leaves its stage as it is."""

    space: SearchSpace
    anatomy: Anatomy
    align: int
    values: Mapping[str, Value]

    def all(self) -> tuple[PassStep, ...]:
        """The passes that change anything, in the order in which they run."""
        factors = {"layers": self._factors, "gain": "smaller"} if self._factors else {}
        # What a rank is worth is measured on the candidate's own file, so none is left out for its estimated time.
        found: dict[str, Settings] = {
            "drop_blocks": {"blocks": list(self._dropped)} if self._dropped else {},
            "prune_channels": self._pruning,
            "prune_weights": {"layers": self._sparsities} if self._sparsities else {},
            "factorize": factors,
            "share_layers": {"groups": [list(group) for group in self._tied]} if self._tied else {},
            "share_weights": {"layers": self._codebooks} if self._codebooks else {},
            "quantize": self._precisions(),
        }
        return tuple(PassStep(name=name, settings=settings) for name, settings in found.items() if settings)

    @cached_property
    def kept(self) -> dict[str, int]:
        """Group → channels that remain, for the groups that may be pruned."""
        groups = {group.name: group for group in self.anatomy.groups}
        return {
            name: kept_width(groups[name], ratio, self.align) if ratio else groups[name].width  # whatever divides it
            for name, ratio in self._ratios.items()
        }

    def _share(self, kind: str, stage: int, unused: float) -> float:
        return float(self.values.get(f"{kind}.{stage}", unused))

    def _stage(self, layer: LayerFacts) -> int:
        return self.anatomy.stage_of[layer.name]

    @cached_property
    def _dropped(self) -> tuple[str, ...]:
        """The last blocks of each stage: the first ones are followed by what has been trained on their outputs."""
        found: list[str] = []
        for stage in range(len(self.anatomy.stages)):
            blocks = self.anatomy.droppable(stage)
            found += blocks_that_may_go(blocks, self._share("drop", stage, 0.0))
        return tuple(found)

    def _is_gone(self, name: str) -> bool:
        return any(lies_in(name, block) for block in self._dropped)

    @cached_property
    def _layers(self) -> tuple[LayerFacts, ...]:
        return tuple(layer for layer in self.anatomy.layers if not self._is_gone(layer.name))

    @cached_property
    def _ratios(self) -> dict[str, float]:
        return {
            group.name: round(self._share("prune", stage, 0.0), 4)
            for stage in range(len(self.anatomy.stages))
            for group in self.anatomy.groups_of_stage(stage)
        }

    @cached_property
    def _pruning(self) -> Settings:
        """Each group by one of its layers that is still there."""
        choice = self.space.passes.prune_channels
        ratios = {}
        for group in self.anatomy.groups:
            here = next((name for name in group.outs if not self._is_gone(name)), None)
            if here is not None and self.kept.get(group.name, group.width) < group.width:
                ratios[here] = self._ratios[group.name]
        if not ratios or choice is None:
            return {}
        criterion = Criterion(str(self.values.get("criterion", choice.criterion[0])))
        return {"ratios": ratios, "criterion": criterion.value, "align": self.align}

    @cached_property
    def _factors(self) -> dict[str, Settings]:
        found = {}
        for layer in self._layers:
            share = self._share("rank", self._stage(layer), 1.0)
            if share > WHOLE or not can_be_factorized(layer):
                continue
            c_in, c_out = self.anatomy.widths_after(layer, self.kept)
            columns = c_in * prod(layer.kernel)
            rank = aligned_rank(share * min(c_out, columns), self.align)
            if rank < min(c_out, columns) and rank * (c_out + columns) < c_out * columns:
                found[layer.name] = {"method": "svd", "rank": rank}
        return found

    @cached_property
    def _whole(self) -> tuple[LayerFacts, ...]:
        """The layers whose own weight is in the file."""
        return tuple(
            layer for layer in self._layers if layer.name not in self._factors and layer.name not in self.anatomy.copies
        )

    @cached_property
    def _sparsities(self) -> dict[str, Settings]:
        shares = {layer.name: round(self._share("sparse", self._stage(layer), 0.0), 4) for layer in self._whole}
        return {name: {"sparsity": share} for name, share in shares.items() if share >= LEAST_SPARSE}

    @cached_property
    def _tied(self) -> tuple[tuple[str, ...], ...]:
        """Neighbours among the blocks that are still of equal structure, and are treated alike from there on."""
        count = str(self.values.get("tie", UNUSED))
        if count == UNUSED:
            return ()
        groups = []
        for names in self.anatomy.alike:
            same: dict[object, list[str]] = {}
            for name in names:
                if not any(lies_in(block, name) or lies_in(name, block) for block in self._dropped):
                    same.setdefault(self._structure(name), []).append(name)
            groups += [group for like in same.values() for group in _in_groups(like, int(count)) if len(group) > 1]
        return tuple(groups)

    @cached_property
    def tied_share(self) -> float:
        """About what share of the weights' bytes the file leaves out, as blocks share them."""
        others = tuple(name for group in self._tied for name in group[1:])
        bits = {layer.name: self._bits(layer) for layer in self._layers}
        gone = sum(each for name, each in bits.items() if any(lies_in(name, block) for block in others))
        return gone / max(1.0, sum(bits.values()))

    def _bits(self, layer: LayerFacts) -> float:
        """Of a layer's weights, about."""
        c_in, c_out = self.anatomy.widths_after(layer, self.kept)
        numbers, columns, stage = float(self._weights(layer)), c_in * prod(layer.kernel), self._stage(layer)
        if layer.name in self._factors:
            numbers = float(self._factors[layer.name]["rank"] * (c_out + columns))
        numbers *= 1 - float(self._sparsities.get(layer.name, {}).get("sparsity", 0.0))
        codebook = str(self.values.get(f"codebook.{stage}", UNUSED))
        form = Format(str(self.values.get(f"precision.{stage}", Format.FP32)))
        return numbers * (form.bits or 32 if codebook == UNUSED else int(codebook))

    def _structure(self, block: str) -> object:
        """What of a block's layers decides whether one set of weights can serve another block, too."""
        return tuple(
            (
                layer.name.removeprefix(block),
                self.anatomy.widths_after(layer, self.kept),
                str(self._factors.get(layer.name)),
                str(self._sparsities.get(layer.name)),
                *(self.values.get(f"{kind}.{self._stage(layer)}") for kind in ("codebook", "precision")),
            )
            for layer in self.anatomy.layers_in(block)
        )

    @cached_property
    def _codebooks(self) -> dict[str, Settings]:
        found = {}
        others = tuple(name for group in self._tied for name in group[1:])
        for layer in self._whole:
            bits = str(self.values.get(f"codebook.{self._stage(layer)}", UNUSED))
            if bits == UNUSED or any(lies_in(layer.name, block) for block in others):
                continue
            zeros = self._sparsities.get(layer.name, {}).get("sparsity", 0.0)
            if saves_bytes(int(self._weights(layer) * (1 - zeros)), int(bits)):
                found[layer.name] = {"bits": int(bits)}
        return found

    def _weights(self, layer: LayerFacts) -> int:
        c_in, c_out = self.anatomy.widths_after(layer, self.kept)
        return c_out * max(1, c_in // layer.groups) * prod(layer.kernel)

    def _precisions(self) -> Settings:
        choice = self.space.passes.quantize
        if choice is None:
            return {}
        form_of = {
            layer.name: Format(str(self.values.get(f"precision.{self._stage(layer)}", choice.precision[0])))
            for layer in self._layers
        }
        # A weight is stored one way, whatever the stages of the layers that hold it.
        form_of |= {
            copy: form_of[first] for copy, first in self.anatomy.copies.items() if {copy, first} <= form_of.keys()
        }
        for name in set(self._with_codebook()) & form_of.keys():
            # A codebook's table is int8 or float; its indices have the few bits.
            form_of[name] = form_of[name] if form_of[name].bits is None else Format.INT8
        if all(form is Format.FP32 for form in form_of.values()):
            return {}
        default = Format.INT8 if Format.INT8 in form_of.values() else next(iter(form_of.values()))
        settings: Settings = {"default": _stated(default)}
        others = {name: _stated(form) for name, form in form_of.items() if form is not default}
        return settings | ({"layers": others} if others else {})

    def _with_codebook(self) -> Iterator[str]:
        """The layers whose weight is a codebook: those named, and those that hold the weight of one of them."""
        yield from self._codebooks
        yield from (copy for copy, first in self.anatomy.copies.items() if first in self._codebooks)
        for first, *others in self._tied:
            for layer in self.anatomy.layers_in(first):
                if layer.name in self._codebooks:
                    yield from (other + layer.name.removeprefix(first) for other in others)


def blocks_that_may_go(blocks: Sequence[str], share: float) -> Sequence[str]:
    """The last of a stage's blocks, so many as ``share`` of them, rounded."""
    return blocks[len(blocks) - int(share * len(blocks) + 0.5) :]


def _in_groups(names: list[str], count: int) -> list[tuple[str, ...]]:
    return [tuple(names[start : start + count]) for start in range(0, len(names), count)]


def can_be_factorized(layer: LayerFacts) -> bool:
    """Whether a low-rank pair can take the layer's place."""
    return layer.groups == 1 and layer.kind != "Conv1d"


def _stated(form: Format) -> Settings:
    """A layer's precision as recipes state it: integer weights go with int8 arithmetic, others with float."""
    activations = Activations.FP32 if form.bits is None else Activations.INT8
    return INT8.model_copy(update={"weights": form, "activations": activations}).model_dump(
        mode="json", exclude_none=True
    )


def aligned_rank(value: float, align: int) -> int:
    """The nearest multiple of ``align``, of its halvings where the rank is small."""
    step = align
    while step > 1 and value < 2 * step:
        step //= 2
    return max(1, round(value / step) * step)
