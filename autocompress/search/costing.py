"""What candidates cost, from their untrained files, while nothing of ours trains."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from autocompress.budget import Budget, Metric
from autocompress.hardware.latency import measure_latency
from autocompress.hardware.memory import measure_peak_ram
from autocompress.measurement import Latency, ModelFacts
from autocompress.target import Target

# A candidate is one of many and is measured again if it is chosen: fewer and shorter rounds than a certificate's.
ROUNDS = 6
WINDOW_MS = 30.0


def measure_files(
    baseline: bytes, files: Mapping[int, bytes], target: Target, *, rounds: int = ROUNDS, window_ms: float = WINDOW_MS
) -> tuple[Latency, dict[int, Latency]]:
    """Latency of the baseline and of each file, in turns in one process.

    Raises:
        MeasurementError: the runtime cannot load or run one of them.
    """
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        paths = [Path(folder, "baseline.onnx")]
        paths[0].write_bytes(baseline)
        for key, content in files.items():
            paths.append(Path(folder, f"{key}.onnx"))
            paths[-1].write_bytes(content)
        first, *rest = measure_latency(paths, target, rounds=rounds, window_ms=window_ms)
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
    """

    def __init__(self, baseline_file: bytes, baseline: ModelFacts, budget: Budget, target: Target) -> None:
        assert baseline.latency_ms is not None
        self._file = baseline_file
        self._baseline_ms = baseline.latency_ms
        self._target = target
        self._wants_ram = any(limit.metric is Metric.RAM for limit in budget.limits)

    def measure(self, candidates: Mapping[int, tuple[bytes, ModelFacts]]) -> dict[int, ModelFacts]:
        """The candidates' facts with latency (and RAM where the budget limits it) filled in."""
        if not candidates:
            return {}
        now, latencies = measure_files(self._file, {key: file for key, (file, _) in candidates.items()}, self._target)
        scale = self._baseline_ms / now.median_ms
        measured = {}
        for key, (file, facts) in candidates.items():
            filled = facts.with_latency(_scaled(latencies[key], scale))
            ram = measure_ram(file, self._target) if self._wants_ram else None
            measured[key] = filled.model_copy(update={"peak_ram_bytes": ram})
        return measured


def _scaled(latency: Latency, factor: float) -> Latency:
    low, high = latency.interval_ms
    return latency.model_copy(
        update={
            "median_ms": latency.median_ms * factor,
            "p95_ms": latency.p95_ms * factor,
            "interval_ms": (low * factor, high * factor),
        }
    )
