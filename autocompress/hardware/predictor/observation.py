"""What was measured of one file: the whole, and each of its kernels."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from autocompress.facts import Facts
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Observation(Facts):
    """One measured file; ``kernels`` are ``Kernel.to_data`` with the profiled microseconds behind, in running order.

    ``family`` and ``precision`` say what the file is, for figures by group; ``source`` where the measurement comes
    from: ``profile``, ``search`` or ``import``. ``reference_ms`` is what the runner's fixed matrix product took beside
    it: how fast the machine was just then; ``disturbed`` the share of a processor's time that went elsewhere meanwhile;
    ``unrest`` up to 1 where no other guest of the machine took its caches or half of its core, see ``runner.Senses``.
    Kernels that nobody timed alone have None for their time.
    """

    name: str
    family: str
    precision: str
    source: str = "profile"
    measured_at: str
    rounds_us: Annotated[tuple[Positive, ...], Field(min_length=1)]
    reference_ms: Positive | None = None
    disturbed: NotNegative = 0.0
    unrest: NotNegative = 0.0
    kernels: tuple[tuple[str, list[Any], list[Any], dict[str, Any], NotNegative | None], ...]

    @property
    def network(self) -> str:
        """What was measured, whatever its precision; the name says that at its end where it comes in several."""
        return self.name.removesuffix(f"-{self.precision}")

    @property
    def median_us(self) -> float:
        """Of one inference."""
        return float(np.median(self.rounds_us))

    def parsed(self) -> list[tuple[Kernel, float | None]]:
        """The kernels with their times."""
        return [(Kernel.from_data(data), us) for *data, us in self.kernels]


def observation_of(
    graph: RuntimeGraph, rounds_us: tuple[float, ...], *, name: str, family: str, precision: str, at: str,
    source: str = "profile", reference_ms: float | None = None, disturbed: float = 0.0,
    unrest: float = 0.0,
) -> Observation:  # fmt: skip
    """What ``runner.timed_kernels`` saw of a file."""
    kernels = tuple((*placed.kernel.to_data(), placed.us) for placed in graph.kernels)
    about: Mapping[str, str] = {"name": name, "family": family, "precision": precision, "source": source}
    return Observation(
        **about, measured_at=at, rounds_us=rounds_us, reference_ms=reference_ms, disturbed=disturbed,
        unrest=unrest, kernels=kernels,
    )  # fmt: skip
