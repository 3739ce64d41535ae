"""A stranger with numpy and onnxruntime alone gets what the certificate says of the file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import NET, TASK, brief_measuring, tiny_task

import autocompress as ac

ATTEMPTS = 3  # the machine may be busy with other things at the moment of one
CERTIFICATES = 3  # or at the moment of a certificate: other guests of a host take half of a core for minutes
MOST_DEVIATION = 0.15

# Shares no code with the project; knows the file, its certificate, and the test images with their classes.
STRANGER = """
import hashlib, json, os, statistics, sys, time
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
from pathlib import Path
import numpy as np
import onnxruntime as ort

bundle, data = Path(sys.argv[1]), np.load(sys.argv[2])
certificate = json.loads((bundle / "certificate.json").read_text())
content = (bundle / certificate["file"]["name"]).read_bytes()

options = ort.SessionOptions()
options.intra_op_num_threads = certificate["target"]["threads"]
options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

fact = certificate["input"]
images = data["images"].astype(np.float32) / np.float32(fact["divide_by"])
if fact["mean"] is not None:
    images = images - np.array(fact["mean"], np.float32)
if fact["std"] is not None:
    images = images / np.array(fact["std"], np.float32)
x = images.transpose(0, 3, 1, 2).astype(fact["dtype"])
batch = fact["shape"][0]
assert list(x.shape[1:]) == fact["shape"][1:]

names, name = [certificate["output"]["name"]], fact["name"]
scores = np.concatenate([session.run(names, {name: x[i:i + batch]})[0] for i in range(0, len(x), batch)])
correct = float((scores.argmax(axis=1) == data["classes"]).mean())

feed, windows = {name: np.ascontiguousarray(x[:batch])}, []
for _ in range(200):
    session.run(names, feed)
for _ in range(20):
    runs = []
    for _ in range(500):
        started = time.perf_counter_ns()
        session.run(names, feed)
        runs.append((time.perf_counter_ns() - started) / 1e6)
    windows.append(statistics.median(runs))
    time.sleep(0.05)

foreign = sorted(m for m in sys.modules if m.split(".")[0] in ("autocompress", "torch", "onnx", "optuna", "ray"))
print(json.dumps({"accuracy": correct, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
                  "latency_ms": sorted(windows)[1], "foreign": foreign}))
"""


@pytest.fixture
def test_images(tmp_path) -> Path:
    split = tiny_task().test
    np.savez(tmp_path / "test.npz", images=split.inputs, classes=split.targets)
    return tmp_path / "test.npz"


@pytest.mark.slow
def test_a_stranger_finds_the_certified_accuracy_bytes_and_latency(finished_run, test_images, tmp_path):
    deviations = deviations_from(finished_run / "best", test_images, tmp_path)
    for number in range(1, CERTIFICATES):
        if abs(deviations[-1]) <= MOST_DEVIATION:
            return
        deviations += deviations_from(certified_anew(finished_run, tmp_path / f"{number}"), test_images, tmp_path)
    if abs(deviations[-1]) > MOST_DEVIATION:
        pytest.fail(f"latency differs from the certified one by {[f'{each:+.0%}' for each in deviations]}")


def certified_anew(run: Path, out: Path) -> Path:
    """The bundle of the same recipe, carried out and measured once more."""
    with brief_measuring(rounds=12, window_ms=10.0):
        ac.apply(run / "best/recipe.yaml", NET, TASK, out, checkpoint=run / "baseline/model.safetensors")
    return out / "best"


def deviations_from(bundle: Path, test_images: Path, tmp_path: Path) -> list[float]:
    """Of the latency that each visit found from the certified one, until one agrees; all else must be equal."""
    certificate = json.loads((bundle / "certificate.json").read_text())
    promised_ms, deviations = certificate["facts"]["latency_ms"], []
    for _ in range(ATTEMPTS):
        found = visit(bundle, test_images, tmp_path)
        assert found["foreign"] == []
        assert found["accuracy"] == certificate["accuracy_test"]["value"] == certificate["facts"]["accuracy_test"]
        assert found["bytes"] == certificate["file"]["size_bytes"] == certificate["facts"]["size_bytes"]
        assert found["sha256"] == certificate["file"]["sha256"]
        deviations.append(found["latency_ms"] / promised_ms - 1)
        if abs(deviations[-1]) <= MOST_DEVIATION:
            break
    return deviations


def visit(bundle: Path, data: Path, cwd: Path) -> dict:
    """What the stranger prints, in an isolated interpreter: no site of ours, no environment, no working directory."""
    ended = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, str(bundle), str(data)],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    return json.loads(ended.stdout)
