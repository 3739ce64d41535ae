"""Many architectures of a few families, each built without memory and counted: parameters, MACs, a rough time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autocompress.graph.layer_cost import estimated_time
from autocompress.graph.layer_table import layer_table
from autocompress.students.build import build
from autocompress.students.family import Architecture, Family, sample, smallest

MUTATED = 2  # parameters of a child that are drawn anew, at most
TRIES = 20  # for a child that is valid and new
Enough = Callable[[], bool]
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What networks are built for."""

    shape: tuple[int, ...]
    n_outputs: int
    channel_block: int


@dataclass(frozen=True, kw_only=True)
class Counted:
    """An architecture with what is counted of its layers; ``rough_ms`` is right but for a factor."""

    architecture: Architecture
    params: int
    macs: int
    rough_ms: float

    @property
    def key(self) -> str:
        """Tells architectures apart."""
        return self.architecture.digest()


def counted(architecture: Architecture, sizes: Sizes) -> Counted:
    """Builds the network on torch's device without memory, and runs it there."""
    with torch.device("meta"):
        model = build(architecture, shape=sizes.shape, n_outputs=sizes.n_outputs, seed=0)
    for module in model.modules():
        if isinstance(module, _NORMS):  # which count nothing, and take most of the time on that device
            module.forward = _passed_on  # type: ignore[method-assign, assignment]
    layers = layer_table(model, torch.empty((1, *sizes.shape), device="meta"))
    return Counted(
        architecture=architecture,
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=sum(layer.macs for layer in layers),
        rough_ms=estimated_time(layers, sizes.channel_block) / 1e6,
    )


def _passed_on(inputs: Tensor) -> Tensor:
    return inputs


@dataclass
class Pool:
    """All architectures that were drawn so far, each once; ``seed`` decides which."""

    families: Mapping[str, Family]
    sizes: Sizes
    seed: int = 0
    members: dict[str, Counted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        for family in self.families.values():
            self.add(smallest(family))

    def add(self, architecture: Architecture) -> bool:
        """Count it, unless it is known; whether it was new."""
        key = architecture.digest()
        if key in self.members:
            return False
        self.members[key] = counted(architecture, self.sizes)
        return True

    def draw(self, count: int, enough: Enough) -> None:
        """Up to ``count`` more, from each family in turn; fewer of a family that has no more."""
        families = list(self.families.values())
        for place in range(count):
            if enough():
                return
            family = families[place % len(families)]
            self._add_new(lambda family=family: sample(family, self._rng))  # type: ignore[misc]

    def breed(self, parents: Sequence[Counted], count: int, enough: Enough) -> None:
        """Up to ``count`` more that differ from one of ``parents`` in a parameter or two."""
        for _ in range(count if parents else 0):
            if enough():
                return
            parent = parents[int(self._rng.integers(len(parents)))].architecture
            self._add_new(lambda parent=parent: self._child(parent))  # type: ignore[misc]

    def _add_new(self, make: Callable[[], Architecture | None]) -> None:
        for _ in range(TRIES):
            made = make()
            if made is not None and self.add(made):
                return

    def _child(self, parent: Architecture) -> Architecture | None:
        """None where the new values do not go together."""
        choices = self.families[parent.family].parameters
        free = [name for name, values in choices.items() if len(values) > 1]
        changed = self._rng.permutation(free)[: int(self._rng.integers(1, MUTATED + 1))]
        drawn = {str(name): choices[name][int(self._rng.integers(len(choices[name])))] for name in changed}
        try:
            return Architecture(family=parent.family, values={**parent.values, **drawn})
        except ValidationError:
            return None


@dataclass(frozen=True, kw_only=True)
class RoughTimes:
    """Rough times set right: by the median, within each family, of what known times are of them."""

    factors: dict[str, float]
    overall: float
    spread: float  # standard deviation of the logarithm

    def ms(self, member: Counted) -> float:
        """The time of a member, estimated."""
        return member.rough_ms * self.factors.get(member.architecture.family, self.overall)


def set_right(known: Iterable[tuple[Counted, float]]) -> RoughTimes:
    """From members whose milliseconds are known, forecast or measured."""
    ratios: dict[str, list[float]] = {}
    for member, ms in known:
        ratios.setdefault(member.architecture.family, []).append(float(np.log(ms / member.rough_ms)))
    everything = [each for family in ratios.values() for each in family]
    if not everything:
        return RoughTimes(factors={}, overall=1.0, spread=1.0)
    factors = {family: float(np.median(logs)) for family, logs in ratios.items()}
    off = [each - factors[family] for family, logs in ratios.items() for each in logs]
    # Each family's factor takes one degree of freedom; a few files cannot show less than a tenth.
    spread = float(np.sqrt(np.sum(np.square(off)) / max(1, len(off) - len(factors))))
    return RoughTimes(
        factors={family: float(np.exp(log)) for family, log in factors.items()},
        overall=float(np.exp(np.median(everything))),
        spread=max(0.1, spread),
    )
