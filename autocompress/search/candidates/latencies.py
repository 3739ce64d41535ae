"""Latencies of files, said before they are measured: by the machine's profile, or by what like files took."""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from autocompress.errors import AutocompressError
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph, runtime_graph
from autocompress.hardware.latency import measure_latency
from autocompress.hardware.predictor.predictor import LatencyPredictor
from autocompress.hardware.rounds import half_width_ratio
from autocompress.measurement import Latency
from autocompress.search.candidates.draw import RoughTimes, set_right
from autocompress.search.candidates.filed import Filed
from autocompress.search.forecast import NORMAL_90, OF_MANY, Forecast, Met, corrected
from autocompress.target import Target

STRAY = 0.1  # of what was said


class Foreteller(Protocol):
    """Says what files will take, and learns from what they took."""

    def say(self, files: Sequence[Filed]) -> list[Forecast]:
        """One forecast a file."""

    def learn(self, measured: Sequence[tuple[Filed, Latency]]) -> None:
        """Take in what was measured."""


class ByProfile:
    """Forecasts from kernels, corrected by the files that are measured."""

    def __init__(
        self, predictor: LatencyPredictor, target: Target, keep: Callable[[Sequence[Met]], None] = lambda _: None
    ) -> None:
        self._raw = self._predictor = predictor
        self._target = target
        self._keep = keep
        self._graphs: dict[tuple[str, bool], RuntimeGraph | None] = {}
        self._met: list[Met] = []

    def say(self, files: Sequence[Filed]) -> list[Forecast]:
        """A file that the runtime's profile does not describe has a forecast that nothing rests on."""
        graphs = [self._graph(each) for each in files]
        known = [[placed.kernel for placed in graph.kernels] for graph in graphs if graph is not None]
        columns: Iterable[tuple[float, ...]] = zip(*map(list, self._predictor.predict_many(known)), strict=True)
        said = iter([Forecast(ms=ms, low_ms=low, high_ms=high) for ms, low, high in columns] if known else [])
        return [
            Forecast(ms=math.inf, low_ms=0.0, high_ms=math.inf) if graph is None else next(said) for graph in graphs
        ]

    def learn(self, measured: Sequence[tuple[Filed, Latency]]) -> None:
        """Shift all forecasts by what these were off; a disturbed measurement says nothing of other moments."""
        new = []
        for filed, latency in measured:
            graph = None if latency.noisy else self._graph(filed)
            if graph is not None:
                whole = self._raw.whole(self._raw.guesses([placed.kernel for placed in graph.kernels]))
                predicted_ms = whole.ms * self._predictor.scale / self._raw.scale
                new.append(
                    Met(
                        graph=graph,
                        raw_ms=whole.ms,
                        spread=whole.spread,
                        predicted_ms=predicted_ms,
                        measured_ms=latency.median_ms,
                    )
                )
        self._met += new
        self._predictor = corrected(self._raw, self._met, common=OF_MANY)
        if new:
            self._keep(new)

    def _graph(self, filed: Filed) -> RuntimeGraph | None:
        key = filed.key, filed.is_draft
        if key not in self._graphs:
            with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
                path = Path(folder, "model.onnx")
                path.write_bytes(filed.file)
                try:
                    self._graphs[key] = runtime_graph(path, self._target)
                except AutocompressError:
                    self._graphs[key] = None
        return self._graphs[key]


class ByLayers:
    """Where there is no profile: an estimate from layers, set right by the files that are measured."""

    def __init__(self) -> None:
        self._known: list[tuple[Filed, float]] = []
        self._rough: RoughTimes = set_right(())

    def say(self, files: Sequence[Filed]) -> list[Forecast]:
        """Ends of the interval from how far the measured files lie from their estimates."""
        factor = math.exp(NORMAL_90 * self._rough.spread)
        estimates = [self._rough.ms(each.member) for each in files]
        return [Forecast(ms=ms, low_ms=ms / factor, high_ms=ms * factor) for ms in estimates]

    def learn(self, measured: Sequence[tuple[Filed, Latency]]) -> None:
        """Set the estimates right."""
        self._known += [(filed, latency.median_ms) for filed, latency in measured]
        self._rough = set_right((filed.member, ms) for filed, ms in self._known)


def measured(files: Sequence[bytes], target: Target, *, rounds: int = 12, window_ms: float = 60.0) -> list[Latency]:
    """The latency of files, in turns.

    Raises:
        MeasurementError: the runtime cannot load or run one of them.
    """
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        paths = [Path(folder, f"{place}.onnx") for place in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        return measure_latency(paths, target, rounds=rounds, window_ms=window_ms)


def with_strays_again(
    found: Sequence[Latency], said: Sequence[Forecast], measure: Callable[[Sequence[int]], list[Latency]]
) -> list[Latency]:
    """Latencies, those that seem disturbed being the middle one of three, or of the calm ones among them.

    Args:
        found: of each file, measured once.
        said: of each file; where the clock says something else by more than ``STRAY``, either of them may be wrong.
        measure: measures the files at some places again.
    """
    places = [
        place
        for place, (latency, forecast) in enumerate(zip(found, said, strict=True))
        if latency.noisy or strays(latency, forecast)
    ]
    if not places:
        return list(found)
    middle = list(found)
    for place, *others in zip(places, measure(places), measure(places), strict=True):
        three = sorted((found[place], *others), key=lambda latency: latency.median_ms)
        calm = [latency for latency in three if not latency.noisy] or three
        middle[place] = calm[(len(calm) - 1) // 2]
    return middle


def strays(latency: Latency, forecast: Forecast) -> bool:
    """Whether a file took something else than was said, by more than ``STRAY``; not where nothing was said."""
    return math.isfinite(forecast.ms) and abs(forecast.ms / latency.median_ms - 1) > STRAY


def calmer(first: Latency, second: Latency) -> Latency:
    """Of two measurements of a file, the one that was disturbed less."""
    return min(first, second, key=lambda latency: (latency.noisy, half_width_ratio(latency)))
