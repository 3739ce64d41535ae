"""The parameters of each family of students: what each means, and what it may be."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = bool | int | float


class InputKind(StrEnum):
    """What a sample is; each family takes one kind."""

    IMAGE = "image"  # [c, h, w]
    VECTOR = "vector"  # [d]
    SERIES = "series"  # [c, t] or [t, c], the longer axis is time


class ValueType(StrEnum):
    """What the value of a parameter is, in the words of messages."""

    WHOLE = "a whole number"
    NUMBER = "a number"
    SWITCH = "true or false"


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One parameter; its values lie in ``[low, high]``, whole ones ``step`` apart from ``low`` on."""

    about: str
    type: ValueType = ValueType.WHOLE
    low: float = 0
    high: float = 1
    step: int = 1

    def read(self, value: object) -> Value | None:
        """``value`` as this parameter has it, None where it has no such value."""
        if self.type is ValueType.SWITCH:
            return value if isinstance(value, bool) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        if self.type is ValueType.NUMBER:
            return float(value)
        return int(value) if value == int(value) and (int(value) - int(self.low)) % self.step == 0 else None

    def nearest(self, value: object) -> Value | None:
        """The value of this parameter that is nearest to a number; None for what is none."""
        if self.type is ValueType.SWITCH or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if math.isnan(value):
            return None
        within = min(max(value, self.low), self.high)
        if self.type is ValueType.NUMBER:
            return float(within)
        return int(self.low) + self.step * round((within - self.low) / self.step)

    def domain(self) -> str:
        """In words: ``a whole number in [8, 512], in steps of 8``."""
        if self.type is ValueType.SWITCH:
            return self.type.value
        steps = f", in steps of {self.step}" if self.step > 1 else ""
        return f"{self.type.value} in [{self.low:g}, {self.high:g}]{steps}"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What values of several parameters must be to each other."""

    parameters: tuple[str, ...]
    holds: Callable[[Mapping[str, Value]], bool]
    says: str


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """All parameters of one family, in the order in which they are written."""

    kind: InputKind
    knobs: Mapping[str, Knob]
    rules: tuple[Rule, ...] = field(default=())


def _stages(count: int, least: int, most: int = 12) -> dict[str, Knob]:
    """A depth for each stage; only the last may be empty."""
    return {
        f"depth_{stage}": Knob(
            about=f"blocks of stage {stage}" + (", 0 leaves it out" if stage == count and least == 0 else ""),
            low=least if stage == count else 1,
            high=most,
        )
        for stage in range(1, count + 1)
    }


_RESOLUTION = Knob(
    about="share of the input's height and width that the network sees; below 1 it resizes its input first",
    type=ValueType.NUMBER,
    low=0.5,  # bilinear interpolation leaves pixels out below
    high=1.0,
)
_WIDTH = Knob(about="channels of the first stage", low=8, high=256, step=8)
_GROWTH = Knob(
    about="channels of a stage over those of the one before, rounded to multiples of 8",
    type=ValueType.NUMBER,
    low=1.0,
    high=2.5,
)
_SQUEEZE = Knob(about="weigh channels by squeeze and excitation in every block", type=ValueType.SWITCH)
_HEADS_DIVIDE = Rule(
    parameters=("width", "heads"),
    holds=lambda values: values["width"] % values["heads"] == 0,
    says="heads must divide width",
)
FAMILIES: Mapping[str, Knobs] = {
    "resnet": Knobs(
        kind=InputKind.IMAGE,
        knobs={
            "resolution": _RESOLUTION,
            "width": _WIDTH,
            "growth": _GROWTH,
            **_stages(4, 0),
            "fine_stem": Knob(
                about="the first stage sees twice the height and width, of inputs below 128",
                type=ValueType.SWITCH,
            ),
            "squeeze_excite": _SQUEEZE,
        },
    ),
    "mbconv": Knobs(
        kind=InputKind.IMAGE,
        knobs={
            "resolution": _RESOLUTION,
            "width": _WIDTH,
            "growth": _GROWTH,
            **_stages(5, 0),
            "kernel": Knob(about="height and width of depthwise kernels", low=3, high=7, step=2),
            "expansion": Knob(about="channels inside a block over those between blocks", low=1, high=8),
            "squeeze_excite": _SQUEEZE,
        },
    ),
    "convnext": Knobs(
        kind=InputKind.IMAGE,
        knobs={
            "resolution": _RESOLUTION,
            "width": _WIDTH,
            "growth": _GROWTH,
            **_stages(4, 1),
            "kernel": Knob(about="height and width of depthwise kernels", low=3, high=11, step=2),
            "expansion": Knob(about="channels inside a block over those between blocks", low=1, high=8),
        },
    ),
    "vit": Knobs(
        kind=InputKind.IMAGE,
        knobs={
            "resolution": _RESOLUTION,
            "tokens": Knob(about="tokens along height and width; what is left decides the patch", low=2, high=32),
            "width": Knob(about="numbers a token", low=16, high=768, step=8),
            "depth": Knob(about="transformer blocks", low=1, high=24),
            "heads": Knob(about="attention heads; they divide width", low=1, high=16),
            "expansion": Knob(about="width inside the MLP over that of a token", low=1, high=8),
        },
        rules=(_HEADS_DIVIDE,),
    ),
    "mlp": Knobs(
        kind=InputKind.VECTOR,
        knobs={
            "width": Knob(about="numbers between blocks", low=8, high=2048, step=8),
            "depth": Knob(about="residual blocks of two linear layers", low=1, high=12),
            "expansion": Knob(about="width inside a block over that between blocks", low=1, high=8),
        },
    ),
    "conv1d": Knobs(
        kind=InputKind.SERIES,
        knobs={
            "width": _WIDTH,
            "growth": _GROWTH,
            **_stages(4, 0),
            "kernel": Knob(about="length of kernels", low=3, high=15, step=2),
            "separable": Knob(
                about="depthwise and pointwise convolutions in the place of full ones", type=ValueType.SWITCH
            ),
        },
    ),
}
