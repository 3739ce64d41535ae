"""Latency of candidates without measuring each: predicted from their kernels, corrected by what was measured.

A predictor is fitted on networks in general. The few files of *this* network that are measured shift it, and show how
far off it lies here, which is less than elsewhere: its kernels are few and much alike.
"""

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from autocompress.errors import AutocompressError
from autocompress.garbage import no_collection
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph, runtime_graph
from autocompress.hardware.predictor.predictor import LatencyPredictor
from autocompress.measurement import ModelFacts
from autocompress.recipe import Recipe
from autocompress.search.kernel_templates import KernelTemplates
from autocompress.target import Target

# What a predictor is taken to be off for all files in common, as a standard deviation of the logarithm: for recipes of
# one network, and for networks of many kinds, whose own errors differ.
OF_ONE_NETWORK, OF_MANY = 0.08, 0.04
SURPRISE = 3.0  # standard deviations from which on a predictor is plainly another machine's
DOUBT = 1.0  # measured files against which the predictor's own word on their scatter counts as much
PRIOR = 5.0  # the same for the stretch of its intervals
MEDIAN = math.pi / 2  # the variance of a median is so many times that of a mean
NORMAL_MAD = 1.4826  # standard deviations that a median absolute deviation stands for
NORMAL_90 = 1.645


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Milliseconds with the ends of their 90 % interval."""

    ms: float
    low_ms: float
    high_ms: float

    def filled_in(self, facts: ModelFacts) -> ModelFacts:
        """``facts`` with what is predicted."""
        return facts.with_prediction(self.ms, (self.low_ms, self.high_ms))


@dataclass(frozen=True, kw_only=True)
class Met:
    """A file that was measured, with what was predicted of it before: uncorrected, and corrected."""

    graph: RuntimeGraph
    raw_ms: float
    spread: float
    predicted_ms: float
    measured_ms: float


@dataclass
class Forecaster:
    """Forecasts for candidates of one network. ``keep`` is handed what was measured, for the machine's profile."""

    predictor: LatencyPredictor
    target: Target
    templates: KernelTemplates | None = None
    keep: Callable[[Sequence[Met]], None] = field(default=lambda _: None)
    met: list[Met] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._raw = self.predictor

    def of_files(self, files: Mapping[int, bytes]) -> dict[int, Forecast]:
        """Forecasts of files; those that the runtime does not run are left out."""
        graphs = {key: graph for key, file in files.items() if (graph := self._graph(file)) is not None}
        return dict(zip(graphs, self._forecasts([_kernels(graph) for graph in graphs.values()]), strict=True))

    def of_recipes(self, recipes: Sequence[Recipe]) -> list[Forecast | None]:
        """Forecasts of recipes before they are built; None for those whose kernels are not known without."""
        templates = self.templates
        if templates is None:
            return [None] * len(recipes)
        with no_collection():
            with self._without_templates_after_errors():
                kernels = [templates.kernels(recipe) for recipe in recipes]
            if self.templates is None:
                return [None] * len(recipes)
            found = iter(self._forecasts([each for each in kernels if each is not None]))
        return [None if each is None else next(found) for each in kernels]

    def see(self, recipe: Recipe, file: bytes) -> None:
        """Take in the file of a recipe, so that the kernels of recipes like it are known."""
        if self.templates is not None:
            with self._without_templates_after_errors(), contextlib.suppress(AutocompressError):
                self.templates.learn(recipe, file)  # a file that cannot be read teaches nothing, and is measured

    @contextlib.contextmanager
    def _without_templates_after_errors(self) -> Iterator[None]:
        """Templates save time; what breaks them must not break the run."""
        try:
            yield
        except Exception:
            logging.getLogger(__name__).warning("candidates are built before they are forecast", exc_info=True)
            self.templates = None

    def learn(self, files: Mapping[int, bytes], measured_ms: Mapping[int, float]) -> None:
        """Correct the forecasts by files that were measured."""
        graphs = {key: graph for key in measured_ms if (graph := self._graph(files[key])) is not None}
        new = [self._met(graph, measured_ms[key]) for key, graph in graphs.items()]
        self.met += new
        self.predictor = corrected(self._raw, self.met)
        self.keep(new)

    def _met(self, graph: RuntimeGraph, measured_ms: float) -> Met:
        whole = self._raw.whole(self._raw.guesses(_kernels(graph)))
        predicted_ms = whole.ms * self.predictor.scale / self._raw.scale
        return Met(
            graph=graph, raw_ms=whole.ms, spread=whole.spread, predicted_ms=predicted_ms, measured_ms=measured_ms
        )

    def _forecasts(self, networks: Sequence[Sequence[Kernel]]) -> list[Forecast]:
        if not networks:
            return []
        columns: Iterable[tuple[float, ...]] = zip(*map(list, self.predictor.predict_many(networks)), strict=True)
        return [Forecast(ms=ms, low_ms=low, high_ms=high) for ms, low, high in columns]

    def _graph(self, file: bytes) -> RuntimeGraph | None:
        with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(file)
            try:
                return runtime_graph(path, self.target)
            except AutocompressError:
                return None


def corrected(predictor: LatencyPredictor, met: Sequence[Met], *, common: float = OF_ONE_NETWORK) -> LatencyPredictor:
    """The predictor shifted by what it was off, and as sure of itself as that shows.

    The shift is the median of what the files were off, as far as that is no chance: the more they scatter, the less of
    it is believed. ``common`` is what files may be expected to be off together; what is far beyond it is believed.
    """
    if not met:
        return predictor
    logs = np.log([each.measured_ms / each.raw_ms for each in met])
    middle, more = float(np.median(logs)), len(met) - 1
    said = float(np.mean([each.spread**2 for each in met])) * (predictor.quantile / NORMAL_90) ** 2
    seen = (NORMAL_MAD * float(np.median(np.abs(logs - middle)))) ** 2
    chance = MEDIAN * (DOUBT * said + more * seen) / (DOUBT + more) / len(met)
    is_surprising = middle**2 > SURPRISE**2 * (common**2 + chance)
    expected = middle**2 - chance if is_surprising else common**2
    shift = middle * expected / (expected + chance)
    strays = (logs - shift) / [each.spread for each in met]
    strayed = NORMAL_90 * math.sqrt(float(np.mean(strays**2)))
    quantile = (PRIOR * predictor.quantile + len(met) * strayed) / (PRIOR + len(met))
    return replace(predictor, scale=predictor.scale * math.exp(shift), quantile=quantile)


def _kernels(graph: RuntimeGraph) -> list[Kernel]:
    return [placed.kernel for placed in graph.kernels]
