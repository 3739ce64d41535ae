"""Number formats of a layer in the exported file."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from autocompress.facts import Facts

BLOCK_SIZES = (16, 32, 64, 128, 256)  # of MatMulNBits
BLOCK_BITS = (4, 8)


class Format(StrEnum):
    """How weights are stored. Integers have one scale per output channel."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT7 = "int7"
    INT6 = "int6"
    INT5 = "int5"
    INT4 = "int4"
    INT3 = "int3"
    INT2 = "int2"

    @property
    def bits(self) -> int | None:
        """Bits of an integer; None for floats."""
        return int(self.value[3:]) if self.value.startswith("int") else None


class Activations(StrEnum):
    """What a layer computes with: float, integers with calibrated ranges, or with ranges found at each inference."""

    FP32 = "fp32"
    INT8 = "int8"
    INT8_DYNAMIC = "int8_dynamic"


class Precision(Facts):
    """How one layer's weights are stored and what it computes with.

    Integer weights with float activations shrink the file only, unless ``block`` is given: then a linear layer's
    4- or 8-bit weights have one scale per ``block`` inputs and stay packed in memory (MatMulNBits).
    """

    weights: Format = Format.FP32
    activations: Activations = Activations.FP32
    block: int | None = Field(None, description="inputs that share a scale; kept packed in memory")

    @model_validator(mode="after")
    def _is_computable(self) -> Self:
        if self.activations is not Activations.FP32 and self.weights.bits is None:
            raise ValueError(
                f"integer arithmetic needs integer weights, got weights {self.weights} with activations "
                f"{self.activations}; nearest: weights int8"
            )
        if self.block is None:
            return self
        if self.block not in BLOCK_SIZES:
            nearest = min(BLOCK_SIZES, key=lambda size: abs(size - (self.block or 0)))
            raise ValueError(
                f"block must be one of {', '.join(map(str, BLOCK_SIZES))}, got {self.block}; nearest: {nearest}"
            )
        if self.weights.bits not in BLOCK_BITS or self.activations is not Activations.FP32:
            raise ValueError(
                "block goes with int4 or int8 weights and fp32 activations, "
                f"got weights {self.weights} with activations {self.activations}"
            )
        return self

    def __str__(self) -> str:
        block = "" if self.block is None else f" in blocks of {self.block}"
        return f"{self.weights}/{self.activations}{block}"


FP32 = Precision()
INT8 = Precision(weights=Format.INT8, activations=Activations.INT8)


class Calibration(StrEnum):
    """How the range of an activation follows from what was seen."""

    MIN_MAX = "min_max"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"


class FilePlan(Facts):
    """How the file is written; a layer's entry also covers the layers inside it.

    ``correct_bias`` and ``equalize`` belong to static int8: see ``export.correct_bias`` and ``export.equalize``.
    """

    default: Precision = FP32
    layers: dict[str, Precision] = Field(default_factory=dict)
    calibration: Calibration = Calibration.MIN_MAX
    correct_bias: bool = False
    equalize: bool = False

    def of(self, layer: str) -> Precision:
        """The precision of ``layer``: its own entry, else that of the nearest enclosing module, else the default."""
        parts = layer.split(".")
        for end in range(len(parts), 0, -1):
            found = self.layers.get(".".join(parts[:end]))
            if found is not None:
                return found
        return self.default

    def uses(self, activations: Activations) -> bool:
        """Whether any layer may compute so."""
        return any(p.activations is activations for p in (self.default, *self.layers.values()))

    @property
    def is_quantized(self) -> bool:
        """Whether any layer may have integer weights."""
        return any(p.weights.bits is not None for p in (self.default, *self.layers.values()))
