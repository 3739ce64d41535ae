"""A certificate as a run writes it."""

from typing import Any

from autocompress.budget import Budget
from autocompress.clock import now
from autocompress.delivery.certificate import Certificate, OutputFacts, identity_of, input_facts
from autocompress.hardware.machine import this_machine
from autocompress.measurement import Accuracy, Latency, ModelFacts
from autocompress.target import Target
from autocompress.task import Layout, Preprocess

BASELINE = ModelFacts(
    size_bytes=100_000, macs=10**6, params=10**5, latency_ms=10.0, accuracy_val=0.95, accuracy_test=0.95
)
IMAGES = Preprocess(
    layout=Layout.IMAGE, shape=(3, 8, 6), mean=(0.5, 0.25, 0.1), std=(0.25, 0.5, 1.0), resize="bilinear (Pillow)"
)
LATENCY = Latency(median_ms=2.0, p95_ms=2.2, interval_ms=(1.9, 2.1), rounds=12, runs=300, load_ms=3.0, threads=1)


def certificate_of(**changes: Any) -> Certificate:
    """Three limits, all met; ``changes`` replace fields."""
    facts = BASELINE.model_copy(update={"latency_ms": 2.0, "size_bytes": 500})
    accuracy = Accuracy(value=0.95, interval=(0.9, 0.98), samples=90)
    rows = Budget.parse("latency<=5ms,size<=50%,accuracy>=0.9").rows(facts, BASELINE, "test")
    given = {
        "met": all(row.met for row in rows),
        "budget": rows,
        "file": identity_of("model.onnx", b"content"),
        "facts": facts,
        "baseline": BASELINE,
        "latency": LATENCY,
        "metric_name": "accuracy",
        "accuracy_val": accuracy,
        "accuracy_test": accuracy,
        "input": input_facts(IMAGES, "input", 1),
        "output": OutputFacts(name="output", class_names=("a", "b")),
        "data": "digits",
        "target": Target(),
        "machine": this_machine(),
        "versions": {"onnxruntime": "1.31"},
        "recipe_digest": "0" * 16,
        "measured_at": now(),
    }
    return Certificate(**(given | changes))
