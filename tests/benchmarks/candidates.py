"""Candidates for a latency: how near predictions come, and whether the best beats small models of timm.

``autocompress candidates`` makes 20 architectures for ``latency<=1ms`` at 96x96. The best of them by evidence, or with
``--race`` by a short race, and models of timm then train for the same steps on CIFAR-10 resized to 96x96, and are
judged on test images in ONNX Runtime: ``--rivals`` of those that are measured to be as fast or faster, the slowest
first, and where there are fewer, the next slower ones, too::

    python tests/benchmarks/candidates.py --data cifar10-jpeg --profile PROFILE --steps 300

Prints JSON: ``delivered`` (candidates within 10 % of what was predicted just before they were measured; the hunt
prefers such), ``predicted`` and ``profiled`` (the same of all files that were measured, and by the profile alone),
accuracies, and ``beats``, of how many models, ``slower`` among them. Training stops where ``--seconds`` are over, and
that is said.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

import autocompress
from autocompress.data.load import load_task
from autocompress.data.preprocess import with_input_size
from autocompress.export.compact import compact
from autocompress.export.onnx_file import to_onnx
from autocompress.hardware.machine import this_machine
from autocompress.measurement import Latency
from autocompress.recipe import Arithmetic, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import train_baseline
from autocompress.search.candidates.facts import Candidates, Closeness, closeness
from autocompress.search.candidates.latencies import measured
from autocompress.target import Target
from autocompress.task import Task
from autocompress.trial import accuracy_of

BUDGET, SIZE, OUTPUTS = "latency<=1ms", 96, 10
RIVALS = (
    "mobilenetv3_small_050",
    "lcnet_050",
    "mobilenetv3_small_075",
    "mobilenetv2_035",
    "tinynet_e",
    "lcnet_075",
    "mnasnet_small",
    "semnasnet_050",
    "test_resnet",
    "lcnet_035",
    "mobilenetv4_conv_small_035",
    "test_byobnet",
    "test_efficientnet",
    "test_vit",
)


def file_of(model: nn.Module, task: Task) -> bytes:
    content: bytes = compact(to_onnx(model, task.preprocess, 1)).SerializeToString()
    return content


def latencies_of(models: dict[str, nn.Module], task: Task) -> dict[str, Latency]:
    """All in turns, so that they compare."""
    found = measured([file_of(model, task) for model in models.values()], Target())
    return dict(zip(models, found, strict=True))


def trained(model: nn.Module, task: Task, options: argparse.Namespace) -> dict[str, float]:
    """Accuracy on test images after the same steps for every network."""
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    settings = Recovery(
        steps=options.steps,
        batch=64,
        learning_rate=2e-3,
        weight_decay=0.05,
        arithmetic=Arithmetic(options.arithmetic),
    )
    train_baseline(model, SampleStream(task, 0), settings)
    judged = accuracy_of(file_of(model, task), task, "test", threads=options.threads, most_samples=options.samples)
    low, high = judged.interval
    return {"accuracy": judged.value, "low": low, "high": high, "seconds": round(time.monotonic() - started, 1)}


def task_of(options: argparse.Namespace) -> Task:
    """As many images as are used, resized: all of them would be 1.6 GB."""
    task = load_task(options.data)
    order = np.random.default_rng(0).permutation(len(task.train))[: 64 * options.steps]
    held = np.random.default_rng(0).permutation(len(task.test))[: options.samples]
    return with_input_size(replace(task, train=task.train.take(order), test=task.test.take(held)), SIZE)


def candidates_in(folder: Path, options: argparse.Namespace) -> Candidates:
    """Those in the folder, or new ones."""
    if (folder / "candidates.json").exists():
        return Candidates.from_json((folder / "candidates.json").read_text())
    return autocompress.candidates(
        options.space,
        BUDGET,
        folder,
        n=20,
        data=task_of(options) if options.race else None,
        input_size=None if options.race else SIZE,
        classes=None if options.race else OUTPUTS,
        profile=options.profile,
        time=options.time,
    )


def nearness_of(found: Candidates) -> Closeness | None:
    """Of the candidates' predicted latencies to their measured ones."""
    pairs = [(each.facts.latency_predicted_ms, each.facts.latency_ms) for each in found.candidates]
    return closeness([(said, ms) for said, ms in pairs if said is not None and ms is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 as class folders in train/ and test/, or as .npz")
    parser.add_argument("--space", default="all")
    parser.add_argument("--profile", type=Path, default=None)
    parser.add_argument("--candidates", type=Path, default=None, help="a folder of them; made there if there are none")
    parser.add_argument("--race", action="store_true", help="rank candidates by a race on the data")
    parser.add_argument("--time", default="5m", help="of the hunt, race included")
    parser.add_argument("--steps", type=int, default=300, help="of each training, batch 64")
    parser.add_argument("--samples", type=int, default=2000, help="test images")
    parser.add_argument("--rivals", type=int, default=5, help="models of timm")
    parser.add_argument("--best", type=int, default=1, help="candidates to train, the best first")
    parser.add_argument("--names", nargs="+", default=None, help="those to train, in the place of the first ones")
    parser.add_argument("--threads", type=int, default=this_machine().cores)
    parser.add_argument("--arithmetic", default="fp32", choices=[each.value for each in Arithmetic])
    parser.add_argument("--seconds", type=float, default=3600, help="no new training begins after that")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.candidates or Path(temporary, "candidates")
        found = candidates_in(folder, options)
        named = [each for each in found.candidates if each.name in (options.names or ())]
        ours = {
            each.name: autocompress.build_student(folder / each.folder / "architecture.yaml")
            for each in named or found.candidates[: options.best]
        }
    task = task_of(options)
    torch.manual_seed(0)
    rivals = {name: timm.create_model(name, num_classes=OUTPUTS) for name in RIVALS}
    times = latencies_of(ours | rivals, task)
    limit_ms = max(times[name].median_ms for name in ours)
    slower = sorted(
        (name for name in rivals if times[name].median_ms > limit_ms), key=lambda name: times[name].median_ms
    )
    as_fast = sorted(rivals.keys() - set(slower), key=lambda name: -times[name].median_ms)
    rivals = {name: rivals[name] for name in [*as_fast, *slower][: options.rivals]}
    results: dict[str, dict[str, float]] = {}
    for name, model in (ours | rivals).items():
        if time.monotonic() - started > options.seconds:
            print(f"no time for {name}", file=sys.stderr)
            continue
        results[name] = {"latency_ms": times[name].median_ms, **trained(model, task, options)}
        print(name, results[name], file=sys.stderr, flush=True)
    best = max((name for name in ours if name in results), key=lambda name: results[name]["accuracy"])
    beaten = [name for name in rivals if name in results and results[name]["accuracy"] < results[best]["accuracy"]]
    print(
        json.dumps(
            {
                "candidates": len(found.candidates),
                "delivered": (near := nearness_of(found)) and near.model_dump(),
                "predicted": found.predicted and found.predicted.model_dump(),
                "profiled": found.profiled and found.profiled.model_dump(),
                "steps": options.steps,
                "test_images": options.samples,
                "best": best,
                "results": results,
                "beats": len(beaten),
                "of": sum(name in results for name in rivals),
                "slower": [name for name in slower if name in results],
                "too_slow_to_compare": [name for name in slower if name not in results],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
