"""Recipes: the complete, explicit and replayable account of how one model was compressed.

::

    schema: 1
    base: {model: resnet18, sha256: ...}
    passes:
      - prune_channels: {ratios: {layer1.0.conv1: 0.25}, criterion: l1}
      - factorize: {layers: {fc: {method: svd, rank: 32}}}
      - quantize: {default: {weights: int8, activations: int8}}
    recovery: {steps: 600, distill: {logits: 0.9, temperature: 2.0}}
    seed: 0

What a pass's settings mean is checked by the pass itself (``autocompress.passes``).
"""

from enum import StrEnum
from typing import Any, Self

import yaml
from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from autocompress.errors import RecipeError
from autocompress.facts import Facts

SCHEMA = 1


class Arithmetic(StrEnum):
    """The number format that recovery computes in; weights are kept in fp32 either way."""

    FP32 = "fp32"
    BF16 = "bf16"


class Base(Facts):
    """Which model a recipe was made for; ``sha256`` is of its weights, names and values."""

    model: str
    sha256: str = ""


class PassStep(Facts):
    """One pass by name with its settings; ``{name: settings}`` in YAML."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" not in data:
            if len(data) != 1:
                raise ValueError(f"a pass is one 'name: settings' pair, got the keys {sorted(map(str, data))}")
            ((name, settings),) = data.items()
            return {"name": name, "settings": settings or {}}
        return data

    @model_serializer
    def _as_pair(self) -> dict[str, Any]:
        return {self.name: self.settings}


def _without_off(written: dict[str, Any], name: str) -> dict[str, Any]:
    """What is written of a record, without a setting that is off."""
    return written if written[name] else {key: value for key, value in written.items() if key != name}


class Distill(Facts):
    """Weights of the distillation losses; what ``logits`` leaves of 1 goes to the labels, ``features`` come on top.

    Source: Hinton et al. 2015, sec. 2, https://arxiv.org/abs/1503.02531; features, Romero et al. 2015,
    https://arxiv.org/abs/1412.6550
    """

    logits: float = Field(0.9, ge=0, le=1, description="share of the loss that follows the teacher's outputs")
    features: float = Field(
        0.0, ge=0, le=100, description="weight of the loss that follows the teacher's hidden layers"
    )
    temperature: float = Field(2.0, gt=0, le=20)

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes that follow no features stay as they were before there were any, their digests too."""
        return _without_off(plain(self), "features")


class Recovery(Facts):
    """How a compressed model is trained again.

    ``learning_rate`` is the peak of a one-cycle schedule (warm-up over the first tenth, cosine to zero).
    """

    steps: int = Field(0, ge=0)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    distill: Distill = Distill()
    arithmetic: Arithmetic = Arithmetic.FP32
    quantize_aware: bool = Field(False, description="the last third of the steps trains the file with its roundings")

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes that train without roundings have the digests that they had before there were others."""
        return _without_off(plain(self), "quantize_aware")


class Recipe(Facts):
    """Base, ordered passes, recovery and seed. The same recipe on the same base gives the same file.

    "The same" holds for one machine, one set of package versions and one number of threads: floating-point sums
    depend on all three.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(SCHEMA, alias="schema", ge=1, le=SCHEMA)
    base: Base | None = None
    passes: tuple[PassStep, ...] = ()
    recovery: Recovery = Recovery()
    seed: int = Field(0, ge=0)

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """The recipe in ``text``.

        Raises:
            RecipeError: not YAML, not a recipe, or a field that a recipe does not have.
        """
        try:
            return cls.model_validate(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise RecipeError(f"a recipe is a YAML file: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the top level"
            raise RecipeError(
                "a recipe has schema, base, passes, recovery and seed; "
                f"at {place}: {first['msg']}, got {first['input']!r}"
            ) from error

    def with_steps(self, steps: int) -> "Recipe":
        """A copy whose recovery takes ``steps``."""
        return self.model_copy(update={"recovery": self.recovery.model_copy(update={"steps": steps})})

    def settings_of(self, name: str) -> dict[str, Any]:
        """The settings of the pass ``name``; empty when the recipe does not have it."""
        return next((step.settings for step in self.passes if step.name == name), {})

    def structure_digest(self) -> str:
        """A digest of what decides the file's structure: the passes, not recovery nor seed."""
        return Recipe(base=self.base, passes=self.passes).digest()
