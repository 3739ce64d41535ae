"""Facts and latencies of files that nobody measured."""

from autocompress.measurement import Latency, ModelFacts


def latency(*, noisy: bool) -> Latency:
    return Latency(
        median_ms=1.0, p95_ms=1.1, interval_ms=(0.9, 1.1), rounds=5, runs=50, load_ms=1.0, threads=1, noisy=noisy
    )


def facts_at(ms: float, interval_ms: tuple[float, float], accuracy: float = 0.9) -> ModelFacts:
    return ModelFacts(
        size_bytes=1, macs=1, params=1, accuracy_val=accuracy, latency_ms=ms, latency_interval_ms=interval_ms
    )
