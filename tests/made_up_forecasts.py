"""Forecasts for the made-up search: off by a factor, as sure of themselves as is asked."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from made_up_search import latency_ms

from autocompress.budget import Metric
from autocompress.measurement import ModelFacts
from autocompress.recipe import Recipe
from autocompress.search.forecast import Forecast


def forecast(ms: float, spread: float = 0.1) -> Forecast:
    return Forecast(ms=ms, low_ms=ms / (1 + spread), high_ms=ms * (1 + spread))


@dataclass
class MadeUpForecaster:
    """Forecasts ``off`` times what the formula says; ``seen`` are the recipes whose files it was shown."""

    off: float = 1.0
    before_built: bool = True
    seen: list[Recipe] = field(default_factory=list)

    def of_recipes(self, recipes: Sequence[Recipe]) -> list[Forecast | None]:
        return [forecast(self.off * latency_ms(each)) if self.before_built else None for each in recipes]

    def see(self, recipe: Recipe, file: bytes) -> None:  # noqa: ARG002  # as the real one has it
        self.seen.append(recipe)


@dataclass
class ForecastingCosting:
    """Measures by the formula only those that must be, forecasts all; ``measured`` are the recipes it did."""

    limit_ms: float
    forecaster: MadeUpForecaster
    measured: list[Recipe] = field(default_factory=list)

    def measure(
        self, candidates: Mapping[int, tuple[bytes, ModelFacts]], always: Collection[int] = ()
    ) -> dict[int, ModelFacts]:
        found = {}
        for key, (file, facts) in candidates.items():
            recipe = Recipe.from_json(file.decode())
            found[key] = forecast(self.forecaster.off * latency_ms(recipe)).filled_in(facts)
            if key in always:
                self.measured.append(recipe)
                found[key] = found[key].model_copy(update={"latency_ms": latency_ms(recipe)})
        return found

    def foreseen(self, candidates: Mapping[int, tuple[bytes, ModelFacts]]) -> dict[int, ModelFacts]:
        return self.measure(candidates)

    def is_beyond(self, found: Forecast) -> bool:
        return found.low_ms > self.limit_ms

    def violation(self, found: Forecast) -> dict[Metric, float]:
        return {Metric.LATENCY: found.ms / self.limit_ms - 1}
