"""What candidates cost, from their untrained files, while nothing of ours trains."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from autocompress.budget import Metric
from autocompress.hardware.latency import measure_latency
from autocompress.hardware.memory import measure_peak_ram
from autocompress.measurement import Latency, ModelFacts
from autocompress.search.forecast import Forecast, Forecaster
from autocompress.search.goal import Goal
from autocompress.target import Target

# A candidate is one of many and is measured again if it is chosen: fewer and shorter rounds than a certificate's.
ROUNDS = 6
WINDOW_MS = 30.0


def measure_files(
    baseline: bytes, files: Mapping[int, bytes], target: Target, *, rounds: int = ROUNDS, window_ms: float = WINDOW_MS
) -> tuple[Latency, dict[int, Latency]]:
    """Latency of the baseline and of each file, as a share of it, too, in turns in one process.

    Raises:
        MeasurementError: the runtime cannot load or run one of them.
    """
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        paths = [Path(folder, "baseline.onnx")]
        paths[0].write_bytes(baseline)
        for key, content in files.items():
            paths.append(Path(folder, f"{key}.onnx"))
            paths[-1].write_bytes(content)
        first, *rest = measure_latency(paths, target, rounds=rounds, window_ms=window_ms, shares=True)
    return first, dict(zip(files, rest, strict=True))


def measure_ram(file: bytes, target: Target) -> int:
    """Peak RAM of a file, see ``hardware.memory``."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(file)
        return measure_peak_ram(path, target)


class Costing:
    """Fills the measured costs of candidates, on one scale.

    Every measurement includes the baseline; a candidate's latency is its ratio to it times the baseline's latency from
    the beginning of the run. So a machine that slows down for a while does not make candidates look slow.

    With a ``forecaster`` only those are measured whose forecast leaves open whether they meet the budget.
    """

    def __init__(self, baseline_file: bytes, goal: Goal, target: Target, forecaster: Forecaster | None = None) -> None:
        budget, baseline = goal.budget, goal.baseline
        assert baseline.latency_ms is not None
        self._file = baseline_file
        self._baseline_ms = baseline.latency_ms
        self._target = target
        self._limits_ms = [row.limit for row in budget.cost_rows(baseline, baseline) if row.metric is Metric.LATENCY]
        self.forecaster = forecaster
        self._wants_ram = goal.limits(Metric.RAM) or goal.minimize is Metric.RAM

    def measure(
        self, candidates: Mapping[int, tuple[bytes, ModelFacts]], always: Collection[int] = ()
    ) -> dict[int, ModelFacts]:
        """The candidates' facts with latency (and RAM where it is limited or minimized) filled in.

        Args:
            candidates: files with what was counted on them.
            always: those to measure whatever their forecast.
        """
        files = {key: file for key, (file, _) in candidates.items()}
        forecasts = self.forecaster.of_files(files) if self.forecaster is not None else {}
        sure = {key for key, forecast in forecasts.items() if key not in always and self.is_sure(forecast)}
        latencies = self._latencies({key: file for key, file in files.items() if key not in sure})
        filled = {}
        for key, (file, facts) in candidates.items():
            counted = self._with_ram(file, facts)
            predicted = counted if key not in forecasts else forecasts[key].filled_in(counted)
            filled[key] = predicted if key not in latencies else predicted.with_latency(latencies[key])
        return filled

    def foreseen(self, candidates: Mapping[int, tuple[bytes, ModelFacts]]) -> dict[int, ModelFacts]:
        """The facts of those whose forecast decides, filled in as ``measure`` does; nothing is timed."""
        if self.forecaster is None:
            return {}
        forecasts = self.forecaster.of_files({key: file for key, (file, _) in candidates.items()})
        sure = {key: forecast for key, forecast in forecasts.items() if self.is_sure(forecast)}
        return {key: forecast.filled_in(self._with_ram(*candidates[key])) for key, forecast in sure.items()}

    def _with_ram(self, file: bytes, facts: ModelFacts) -> ModelFacts:
        """With the peak RAM where that is limited or minimized: others that run beside do not change it."""
        ram = measure_ram(file, self._target) if self._wants_ram else None
        return facts.model_copy(update={"peak_ram_bytes": ram})

    def is_sure(self, forecast: Forecast) -> bool:
        """Whether a forecast decides about the latency limits, one way or the other."""
        return all(forecast.high_ms <= limit for limit in self._limits_ms) or self.is_beyond(forecast)

    def is_beyond(self, forecast: Forecast) -> bool:
        """Whether even the lower end of a forecast breaks a latency limit."""
        return any(forecast.low_ms > limit for limit in self._limits_ms)

    def violation(self, forecast: Forecast) -> dict[Metric, float]:
        """How far beyond the latency limits a forecast lies, as ``Budget.violation``."""
        worst = max((forecast.ms / limit - 1 for limit in self._limits_ms), default=-1.0)
        return {Metric.LATENCY: worst} if self._limits_ms else {}

    def _latencies(self, files: Mapping[int, bytes]) -> dict[int, Latency]:
        if not files:
            return {}
        now, latencies = measure_files(self._file, files, self._target)
        scale = self._baseline_ms / now.median_ms
        brought = {key: scaled(latency, scale) for key, latency in latencies.items()}
        if self.forecaster is not None:
            calm = {key: latency.median_ms for key, latency in brought.items() if not latency.noisy}
            self.forecaster.learn(files, calm)
        return brought


def scaled(latency: Latency, factor: float) -> Latency:
    """All of its times, times ``factor``."""
    low, high = latency.interval_ms
    return latency.model_copy(
        update={
            "median_ms": latency.median_ms * factor,
            "p95_ms": latency.p95_ms * factor,
            "interval_ms": (low * factor, high * factor),
        }
    )
