"""Number formats of a layer in the exported file."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from autocompress.facts import Facts


class Format(StrEnum):
    """How numbers are stored and computed with."""

    FP32 = "fp32"
    INT8 = "int8"


class Precision(Facts):
    """Formats of one layer's weights and activations."""

    weights: Format = Format.FP32
    activations: Format = Format.FP32

    @model_validator(mode="after")
    def _is_computable(self) -> Self:
        if (self.weights is Format.INT8) != (self.activations is Format.INT8):
            raise ValueError(
                "weights and activations must both be int8 or both fp32, "
                f"got weights {self.weights} with activations {self.activations}"
            )
        return self

    def __str__(self) -> str:
        return f"{self.weights}/{self.activations}"


FP32 = Precision()
INT8 = Precision(weights=Format.INT8, activations=Format.INT8)


class FilePlan(Facts):
    """Which layer gets which precision when the file is written; a layer's entry also covers the layers inside it."""

    default: Precision = FP32
    layers: dict[str, Precision] = Field(default_factory=dict)

    def of(self, layer: str) -> Precision:
        """The precision of ``layer``: its own entry, else that of the nearest enclosing module, else the default."""
        parts = layer.split(".")
        for end in range(len(parts), 0, -1):
            found = self.layers.get(".".join(parts[:end]))
            if found is not None:
                return found
        return self.default

    @property
    def is_quantized(self) -> bool:
        """Whether any layer may be int8."""
        return any(p.weights is Format.INT8 for p in (self.default, *self.layers.values()))
