"""What the layers of one drawn network have in common."""

from dataclasses import dataclass

import numpy as np

from autocompress.hardware.drawn.net import Activation

GRAINS = (1, 2, 4, 8, 16, 32)  # widths are multiples of one of these
GRAIN_SHARES = (0.22, 0.06, 0.12, 0.2, 0.25, 0.15)
ACTIVATIONS = (Activation.RELU, Activation.RELU6, Activation.HARD_SWISH, Activation.SILU, Activation.GELU)
ACTIVATION_SHARES = (0.45, 0.1, 0.15, 0.2, 0.1)
FACTORED = 0.18  # of the networks have layers of low rank, as factorization leaves them
INT8_SHARES = (0.6, 0.15, 0.1, 0.1, 0.05)  # in int8; the first two fold into the layers before them


@dataclass(frozen=True, kw_only=True)
class Style:
    """Draws widths, kernels and so on, in the manner of one network.

    ``factored``: the share of layers of low rank.
    """

    rng: np.random.Generator
    grain: int
    act: Activation
    factored: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, *, int8: bool = False) -> "Style":
        """A manner of its own for a network, which may be going to compute in int8."""
        return cls(
            rng=rng,
            grain=int(rng.choice(GRAINS, p=GRAIN_SHARES)),
            act=Activation(str(rng.choice(ACTIVATIONS, p=INT8_SHARES if int8 else ACTIVATION_SHARES))),
            factored=float(rng.uniform(0.2, 0.9)) if rng.random() < FACTORED else 0.0,
        )

    def width(self, low: float, high: float) -> int:
        """A width, evenly on a logarithmic scale; sometimes off the network's grain, as pruning leaves it."""
        grain = 1 if self.chance(0.1) else self.grain
        drawn = np.exp(self.rng.uniform(np.log(low), np.log(max(low, high))))
        return max(grain, round(float(drawn) / grain) * grain)

    def chance(self, probability: float) -> bool:
        """True so often."""
        return bool(self.rng.random() < probability)

    def whole(self, low: int, high: int) -> int:
        """A whole number, ends included."""
        return int(self.rng.integers(low, high + 1))

    def one_of(self, *values: int, shares: tuple[float, ...] | None = None) -> int:
        """One of the values."""
        return int(self.rng.choice(values, p=shares))
