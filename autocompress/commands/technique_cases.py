"""The layers that techniques are timed on, and the settings that they are timed with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor, nn

from autocompress.graph.layer_table import WEIGHTED
from autocompress.graph.surgery import modules_of
from autocompress.layers.factor_forms import Method
from autocompress.passes.factorize import Factors, weights_of
from autocompress.recipe import PassStep

_INT8 = {"weights": "int8", "activations": "int8"}
_N_BLOCKS = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """A few layers with an input of shape ``[n, *input]``; ``of_blocks`` says that they are residual blocks."""

    name: str
    detail: str
    build: Callable[[], nn.Module]
    input: tuple[int, ...]
    of_blocks: bool = False

    def layers(self) -> list[str]:
        """The names of those with weights."""
        return [name for name, _ in modules_of(self.build(), WEIGHTED)]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An example of the pass ``technique``, maybe with another that it goes together with.

    ``steps(case, channel_block)`` gives the steps of a recipe; ``for_blocks`` says that they treat residual blocks and
    not layers.
    """

    technique: str
    setting: str
    steps: Callable[[Case, int], tuple[PassStep, ...]]
    for_blocks: bool = False


class Residual(nn.Module):
    """``x + conv(relu(conv(x)))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[n, width, h, w]`` in and out."""
        return x + self.body(x)  # type: ignore[no-any-return]


def _conv(*channels: int, kernel: int, groups: int = 1) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        first, middle, last = channels
        return nn.Sequential(
            nn.Conv2d(first, middle, kernel, padding=kernel // 2, groups=groups),
            nn.ReLU(),
            nn.Conv2d(middle, last, kernel, padding=kernel // 2, groups=groups),
        )

    return build


# Two layers each, so that there are channels between them which can go, and so that int8 begins and ends once for two.
CASES = (
    Case(name="3×3", detail="two 3×3 convolutions, 64 channels, 28×28",
         build=_conv(64, 64, 64, kernel=3), input=(64, 28, 28)),
    Case(name="1×1", detail="two 1×1 convolutions, 128 → 256 → 128 channels, 14×14",
         build=_conv(128, 256, 128, kernel=1), input=(128, 14, 14)),
    Case(name="depthwise", detail="two depthwise 3×3 convolutions, 128 channels, 28×28",
         build=_conv(128, 128, 128, kernel=3, groups=128), input=(128, 28, 28)),
    Case(name="linear", detail="two linear layers, 192 → 768 → 192, 50 tokens",
         build=lambda: nn.Sequential(nn.Linear(192, 768), nn.ReLU(), nn.Linear(768, 192)), input=(50, 192)),
    Case(name="blocks", detail=f"{_N_BLOCKS} residual blocks of two 3×3 convolutions, 32 channels, 14×14",
         build=lambda: nn.Sequential(*(Residual(32) for _ in range(_N_BLOCKS))), input=(32, 14, 14), of_blocks=True),
)  # fmt: skip


def _step(name: str, settings: Mapping[str, Any]) -> PassStep:
    return PassStep(name=name, settings=dict(settings))


def _of_each(name: str, **settings: Any) -> Callable[[Case, int], tuple[PassStep, ...]]:
    """A pass with the same settings for each layer."""
    return lambda case, _: (_step(name, {"layers": dict.fromkeys(case.layers(), settings)}),)


def _quantized(**default: Any) -> Callable[[Case, int], tuple[PassStep, ...]]:
    return lambda *_: (_step("quantize", {"default": default}),)


def _half_the_channels(case: Case, block: int) -> tuple[PassStep, ...]:
    return (_step("prune_channels", {"ratios": {case.layers()[0]: 0.5}, "align": block}),)


def _half_the_weights(case: Case, block: int) -> tuple[PassStep, ...]:
    factors = {name: _factors(layer, block) for name, layer in modules_of(case.build(), WEIGHTED)}
    layers = {name: each.model_dump(mode="json", exclude_none=True) for name, each in factors.items()}
    return (_step("factorize", {"layers": layers, "gain": "smaller"}),)


def _factors(layer: nn.Module, block: int) -> Factors:
    """The ranks, multiples of ``block``, with the nearest to half of the layer's weights."""
    has_kernel = isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1
    method = Method.TUCKER2 if has_kernel else Method.SVD
    one = Factors(method=method, ranks=(1, 1)) if has_kernel else Factors(method=method, rank=1)
    if one.form.takes(layer):
        return one  # the pass gives the reason
    steps = (range(block, most + 1, block) for most in one.form.most(layer))
    tried = [
        Factors(method=method, ranks=ranks) if has_kernel else Factors(method=method, rank=ranks[0])
        for ranks in product(*steps)
    ]
    return min(tried or [one], key=lambda factors: abs(2 * _weights_with(layer, factors) - weights_of(layer)))


def _weights_with(layer: nn.Module, factors: Factors) -> int:
    return weights_of(factors.form.empty(layer, factors.values()))


def _clustered_int8(case: Case, block: int) -> tuple[PassStep, ...]:
    return (*_of_each("share_weights", bits=4)(case, block), *_quantized(**_INT8)(case, block))


VARIANTS = (
    Variant(technique="drop_blocks", setting="half", for_blocks=True,
            steps=lambda *_: (_step("drop_blocks", {"blocks": ["1", "3"]}),)),
    Variant(technique="prune_channels", setting="half", steps=_half_the_channels),
    Variant(technique="prune_weights", setting="90 % zeros", steps=_of_each("prune_weights", sparsity=0.9)),
    Variant(technique="factorize", setting="half the weights", steps=_half_the_weights),
    Variant(technique="share_layers", setting="two by two", for_blocks=True,
            steps=lambda *_: (_step("share_layers", {"groups": [["0", "1"], ["2", "3"]]}),)),
    Variant(technique="share_weights", setting="4 bits", steps=_of_each("share_weights", bits=4)),
    Variant(technique="share_weights", setting="4 bits, int8", steps=_clustered_int8),
    Variant(technique="quantize", setting="int8 static", steps=_quantized(**_INT8)),
    Variant(technique="quantize", setting="int8 dynamic",
            steps=_quantized(weights="int8", activations="int8_dynamic")),
    Variant(technique="quantize", setting="int4, blocks of 32", steps=_quantized(weights="int4", block=32)),
    Variant(technique="quantize", setting="fp16 stored", steps=_quantized(weights="fp16")),
    Variant(technique="quantize", setting="int4 stored", steps=_quantized(weights="int4")),
)  # fmt: skip


def variants_for(case: Case) -> Iterator[tuple[Variant, str]]:
    """Every variant with the reason why it is not tried on ``case``; empty where it is."""
    for variant in VARIANTS:
        if variant.for_blocks == case.of_blocks:
            yield variant, ""
        else:
            yield variant, "it treats whole blocks" if variant.for_blocks else "it is timed on single layers"
