"""Search spaces: which passes a search may use, and in which ranges. YAML in ``search_spaces/``."""

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from autocompress.errors import SpaceError, near
from autocompress.facts import Facts
from autocompress.passes.prune_channels import MOST_PRUNED, Criterion
from autocompress.passes.prune_weights import MOST_SPARSE
from autocompress.passes.share_weights import LEAST_BITS, MOST_BITS
from autocompress.paths import spaces_folder
from autocompress.precision import Format
from autocompress.students.family import shipped_families

DEFAULT = "default"


class Range(Facts):
    """All numbers from ``low`` to ``high``."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} and {self.high}")
        return self

    def clip(self, value: float) -> float:
        """The nearest number in the range."""
        return min(max(value, self.low), self.high)


class PruneRange(Facts):
    """Of ``prune_channels``: one ratio a stage, one criterion for all."""

    ratio: Range = Range(low=0.0, high=0.85)
    criterion: tuple[Criterion, ...] = Field((Criterion.L1,), min_length=1)

    @field_validator("ratio")
    @classmethod
    def _is_a_share(cls, ratio: Range) -> Range:
        if ratio.low < 0 or ratio.high > MOST_PRUNED:
            raise ValueError(f"a pruned ratio lies in [0, {MOST_PRUNED}], got [{ratio.low}, {ratio.high}]")
        return ratio


class StudentChoice(Facts):
    """Of ``student``: families whose networks race against the compressed one; those that take its inputs join."""

    families: tuple[str, ...] = Field(default_factory=lambda: tuple(shipped_families()), min_length=1)

    @field_validator("families")
    @classmethod
    def _are_known(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        known = shipped_families()
        for name in families:
            if name not in known:
                raise ValueError(f"families of students are {', '.join(known)}, not {name!r}{near(name, known)}")
        return families


class DropRange(Facts):
    """Of ``drop_blocks``: the share of a stage's droppable blocks that go, its last ones first, one a stage."""

    share: Range = Range(low=0.0, high=0.6)

    @field_validator("share")
    @classmethod
    def _is_a_share(cls, share: Range) -> Range:
        if share.low < 0 or share.high > 1:
            raise ValueError(f"a share of the blocks lies in [0, 1], got [{share.low}, {share.high}]")
        return share


class SparsityRange(Facts):
    """Of ``prune_weights``: one sparsity a stage, for the layers that are not factorized."""

    sparsity: Range = Range(low=0.0, high=0.9)

    @field_validator("sparsity")
    @classmethod
    def _is_a_share(cls, sparsity: Range) -> Range:
        if sparsity.low < 0 or sparsity.high > MOST_SPARSE:
            raise ValueError(f"a sparsity lies in [0, {MOST_SPARSE}], got [{sparsity.low}, {sparsity.high}]")
        return sparsity


class RankRange(Facts):
    """Of ``factorize``: the share of the full rank that stays, one a stage."""

    rank: Range = Range(low=0.2, high=1.0)

    @field_validator("rank")
    @classmethod
    def _is_a_share(cls, rank: Range) -> Range:
        if rank.low <= 0 or rank.high > 1:
            raise ValueError(f"a share of the full rank lies in (0, 1], got [{rank.low}, {rank.high}]")
        return rank


class TieChoice(Facts):
    """Of ``share_layers``: how many neighbouring blocks of equal structure may hold one set of weights."""

    blocks: tuple[Annotated[int, Field(ge=2)], ...] = Field((2,), min_length=1)


class CodebookChoice(Facts):
    """Of ``share_weights``: bits of an index, one a stage, for the layers that are not factorized."""

    bits: tuple[Annotated[int, Field(ge=LEAST_BITS, le=MOST_BITS)], ...] = Field((4,), min_length=1)


class PrecisionChoice(Facts):
    """Of ``quantize``: formats of weights and activations, one a stage."""

    precision: tuple[Format, ...] = Field((Format.INT8, Format.FP32), min_length=1)


class Techniques(Facts):
    """The passes of a space, in the order in which they run; one that is missing is not used."""

    student: StudentChoice | None = None
    drop_blocks: DropRange | None = None
    prune_channels: PruneRange | None = None
    prune_weights: SparsityRange | None = None
    factorize: RankRange | None = None
    share_layers: TieChoice | None = None
    share_weights: CodebookChoice | None = None
    quantize: PrecisionChoice | None = None

    def names(self) -> tuple[str, ...]:
        """The passes that are used."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)


class SearchSpace(Facts):
    """One space as its file states it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(1, alias="schema", ge=1, le=1)
    name: str
    about: str = ""
    passes: Techniques

    @model_validator(mode="after")
    def _uses_something(self) -> Self:
        if not self.passes.names():
            raise ValueError("a space uses at least one pass")
        return self

    def only(self, techniques: tuple[str, ...]) -> "SearchSpace":
        """The part of the space that uses nothing but ``techniques``.

        Raises:
            SpaceError: a technique that the space does not have.
        """
        known = self.passes.names()
        for name in techniques:
            if name not in known:
                raise SpaceError(
                    f"techniques of the space {self.name} are {', '.join(known)}; got {name!r}{near(name, known)}"
                )
        dropped: dict[str, Any] = {name: None for name in known if name not in techniques}
        return self.model_copy(update={"passes": self.passes.model_copy(update=dropped)})


def shipped_spaces() -> dict[str, Path]:
    """Name → file of the spaces that come with the package."""
    return {path.stem: path for path in sorted(spaces_folder().glob("*.yaml"))}


def load_space(name_or_file: str) -> SearchSpace:
    """A shipped space by name, or one from a YAML file.

    Raises:
        SpaceError: no such space, or a file that does not hold together.
    """
    shipped = shipped_spaces()
    path = shipped.get(name_or_file, Path(name_or_file))
    if not path.is_file():
        raise SpaceError(
            f"a space is one of {', '.join(shipped)} or a YAML file; got {name_or_file!r}{near(name_or_file, shipped)}"
        )
    try:
        return SearchSpace.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise SpaceError(f"{path} must be YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise SpaceError(
            f"{path}, at {place}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
        ) from error
