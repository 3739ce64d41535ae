"""What a unit of a network may become: joint choices of every technique that treats it alone."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from pydantic import Field

from autocompress.facts import Facts
from autocompress.graph.anatomy import Anatomy
from autocompress.graph.units import Unit, by_units, units_of
from autocompress.precision import Format
from autocompress.search.parameters import Value
from autocompress.search.space import Range, SearchSpace
from autocompress.search.steps import blocks_that_may_go, can_be_factorized

PRUNED = (0.0, 0.25, 0.5, 0.75)
RANKS = (1.0, 0.5, 0.25)
SPARSE = (0.0, 0.6, 0.85)
GONE = 1.0  # of the blocks of a unit


class Choice(Facts):
    """One treatment of one unit; the fields are those of a stage's parameters. The default changes nothing."""

    prune: float = Field(0.0, ge=0, lt=1, description="share of the channels that go")
    rank: float = Field(1.0, gt=0, le=1, description="share of the full rank that stays")
    sparse: float = Field(0.0, ge=0, lt=1, description="share of single weights that go")
    codebook: int | None = Field(None, ge=2, le=8, description="bits of the indices into a codebook")
    precision: Format = Format.FP32
    drop: bool = Field(False, description="whether the whole block goes")

    @property
    def technique_names(self) -> frozenset[str]:
        """The passes that the choice needs."""
        used = {
            "drop_blocks": self.drop,
            "prune_channels": self.prune > 0,
            "factorize": self.rank < 1,
            "prune_weights": self.sparse > 0,
            "share_weights": self.codebook is not None,
            "quantize": self.precision is not Format.FP32,
        }
        return frozenset(name for name, is_used in used.items() if is_used)


def choices_by_unit(
    anatomy: Anatomy, space: SearchSpace, codebooks: Format | None = None
) -> tuple[tuple[Choice, ...], ...]:
    """What each unit of a network may become; of each stage's blocks only as many may go as the space says.

    ``codebooks``: see ``choices_of``.
    """
    share = space.passes.drop_blocks.share.high if space.passes.drop_blocks else 0.0
    stages = range(len(anatomy.stages))
    going = {name for stage in stages for name in blocks_that_may_go(anatomy.droppable(stage), share)}
    fine = by_units(anatomy)
    rows = {unit: choices_of(unit, fine, space, codebooks) for unit in units_of(anatomy)}
    return tuple(
        tuple(choice for choice in row if not choice.drop or unit.block in going) for unit, row in rows.items()
    )


def choices_of(unit: Unit, anatomy: Anatomy, space: SearchSpace, codebooks: Format | None = None) -> tuple[Choice, ...]:
    """Every joint choice of a unit, what changes least first; a space without a technique has none of its choices.

    ``codebooks`` is what layers with a codebook compute in, INT8 or FP32; None is the first precision of the space.
    """
    passes = space.passes
    formats = passes.quantize.precision if passes.quantize else (Format.FP32,)
    if not unit.layers:
        return tuple(Choice(prune=share) for share in _pruned(unit, space))
    layers = [layer for layer in anatomy.layers if layer.name in unit.layers]
    low_rank = passes.factorize is not None and any(map(can_be_factorized, layers))
    ranks = _within(RANKS, passes.factorize.rank) if low_rank and passes.factorize else (1.0,)
    sparse = _within(SPARSE, passes.prune_weights.sparsity) if passes.prune_weights else (0.0,)
    bits: Sequence[int | None] = (None, *(passes.share_weights.bits if passes.share_weights else ()))
    found = [
        Choice(prune=share, rank=rank, sparse=zeros, codebook=codebook, precision=form)
        for share, rank, zeros, (form, codebook) in product(
            _pruned(unit, space), ranks, sparse, _stored(formats, bits, codebooks or formats[0])
        )
        if not (zeros and rank < 1)  # factors are not made sparse
    ]
    found.sort(key=_strength)
    gone = (Choice(drop=True),) if passes.drop_blocks and unit.droppable else ()
    return (*found, *gone)


def values_of(picked: Mapping[int, Choice]) -> dict[str, Value]:
    """Parameters of an anatomy ``by_units`` that mean a choice for each of some units, by their places."""
    values: dict[str, Value] = {}
    for unit, choice in picked.items():
        values[f"drop.{unit}"] = GONE if choice.drop else 0.0
        values[f"prune.{unit}"] = choice.prune
        values[f"rank.{unit}"] = choice.rank
        values[f"sparse.{unit}"] = choice.sparse
        values[f"codebook.{unit}"] = "none" if choice.codebook is None else str(choice.codebook)
        values[f"precision.{unit}"] = choice.precision.value
    return values


def _pruned(unit: Unit, space: SearchSpace) -> tuple[float, ...]:
    prune = space.passes.prune_channels
    return _within(PRUNED, prune.ratio) if prune and unit.groups else (0.0,)


def _stored(
    formats: Sequence[Format], bits: Sequence[int | None], codebooks: Format
) -> Iterator[tuple[Format, int | None]]:
    """How weights may be stored."""
    yield from ((form, None) for form in formats)
    yield from ((codebooks, count) for count in bits if count is not None)


def _within(values: Sequence[float], range_: Range) -> tuple[float, ...]:
    """Those that a space allows, clipped to it."""
    return tuple(dict.fromkeys(range_.clip(value) for value in values))


def _strength(choice: Choice) -> float:
    """About what share of a layer's bits is gone."""
    bits = choice.codebook or choice.precision.bits or 32
    return -((1 - choice.prune) ** 2) * choice.rank * (1 - choice.sparse) * bits
