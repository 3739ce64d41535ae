"""A tiny but real classification task, a network that learns it at once, and whole runs on them that take seconds.

Imports nothing from beside this file, so that ``tiny_runs.py:tiny_task`` and ``tiny_runs.py:tiny_net`` also serve as a
user's own ``path/file.py:factory``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autocompress as ac
from autocompress import rungs
from autocompress.commands import allocating, prepare
from autocompress.hardware import memory
from autocompress.hardware.latency import measure_latency
from autocompress.hardware.machine import this_machine
from autocompress.measurement import Latency
from autocompress.recipe import Distill, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import recover
from autocompress.result import Result
from autocompress.search import calm_latency, costing, recoveries
from autocompress.search.launcher import SerialLauncher
from autocompress.target import Machine, Target
from autocompress.task import Layout, Preprocess, Split, Task
from autocompress.trial import Bench

SIDE, CLASSES = 12, 3
NOISE = 0.35  # of the pixels, so that some images stay in doubt
FULL_STEPS, TRIAL_STEPS = 80, 60  # of full recoveries, of trials
SMALL_SPACE = """
name: small
passes:
  prune_channels: {ratio: {low: 0.25, high: 0.75}}
  quantize: {precision: [int8]}
"""
FILE = Path(__file__)
TASK, NET = f"{FILE}:tiny_task", f"{FILE}:tiny_net"
# The command line with short measurements, for a process of its own.
BRIEF_COMMAND = f"""
import sys
sys.path.insert(0, {str(FILE.parent)!r})
from tiny_runs import brief_measuring
from autocompress.cli import main

with brief_measuring():
    main()
"""
BRIEF_COMMAND_ON_RAY = (
    "import autocompress.commands.compress as c\nc.WORTH_WORKERS_S = 0\n" + BRIEF_COMMAND  # however short the run is
)


def tiny_task(n_train: int = 240, n_val: int = 90, n_test: int = 90) -> Task:
    """Stripes lying, stripes standing, or a chessboard, in noise."""
    return Task(
        name="stripes",
        train=_drawn(n_train, seed=1),
        val=_drawn(n_val, seed=2),
        test=_drawn(n_test, seed=3),
        preprocess=Preprocess(layout=Layout.IMAGE, shape=(1, SIDE, SIDE), mean=(0.5,), std=(0.25,)),
        n_outputs=CLASSES,
        class_names=("lying", "standing", "chess"),
    )


class TinyNet(nn.Module):
    """A stem, one residual block, a convolution that halves the resolution, dropout and a linear head."""

    def __init__(self, width: int = 16, n_outputs: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.block = Residual(width)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(2 * width)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(2 * width, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.down_norm(self.down(self.block(x))))
        return self.head(self.dropout(x.mean(dim=(2, 3))))


class Residual(nn.Module):
    """Two convolutions around which the input passes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


def tiny_net() -> nn.Module:
    """The network with fresh weights, the same ones every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyNet().eval()


@lru_cache
def _trained_state() -> dict[str, Tensor]:
    """The same whichever test asks first: dropout draws from torch's own generator."""
    torch.set_num_threads(1)
    model = tiny_net()
    settings = Recovery(steps=60, batch=64, learning_rate=1e-2, distill=Distill(logits=0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        recover(model, SampleStream(tiny_task(), 0), settings, teacher=None)
    return model.state_dict()


def trained_net() -> nn.Module:
    """The network after half a second of training."""
    model = tiny_net()
    model.load_state_dict(_trained_state())
    return model


def tiny_bench(**changes: Any) -> Bench:
    """The trained network on its task and this machine."""
    given = {"base": trained_net(), "task": tiny_task(), "target": Target(), "machine": one_core()}
    return Bench(**(given | changes))


def one_core() -> Machine:
    """This machine as if it had one core, so that other work on it does not hold up torch's threads."""
    return this_machine().model_copy(update={"cores": 1})


@contextmanager
def brief_measuring(rounds: int = 3, window_ms: float = 8.0, first_rung: int = TRIAL_STEPS) -> Iterator[None]:
    """Real measurements of a few short rounds, memory in one process, short recoveries, as on one core.

    Trials take one rung, unless the first may have fewer steps than all.
    """

    def brief(files: Sequence[Path], target: Target, shares: bool = False, **_: Any) -> list[Latency]:
        return measure_latency(files, target, rounds=rounds, window_ms=window_ms, shares=shares)

    with (
        mock.patch.object(costing, "measure_latency", brief),
        mock.patch.object(memory, "PROCESSES", 1),
        mock.patch.object(calm_latency, "MEASURE_ATTEMPTS", 1),
        mock.patch.multiple(recoveries, MOST_EPOCHS=0, MOST_STEPS=FULL_STEPS),
        mock.patch.object(rungs, "LEAST_STEPS", first_rung),
        mock.patch.object(allocating, "FIRST_ROUNDS", 1),
        mock.patch.object(allocating, "FIRST_FILES", 2),
        mock.patch.object(prepare, "this_machine", one_core),
    ):
        yield


@contextmanager
def costs_by_size() -> Iterator[None]:
    """A millisecond a megabyte, and ten times its bytes of RAM: the same however busy the machine is, and at once."""

    def latencies(files: Sequence[Path], target: Target, **_: Any) -> list[Latency]:
        times = [file.stat().st_size / 1e6 for file in files]
        return [
            Latency(median_ms=ms, p95_ms=ms, interval_ms=(ms, ms), rounds=3, runs=15, load_ms=1, threads=target.threads)
            for ms in times
        ]

    def ram(file: Path, _: Target) -> int:
        return 10 * file.stat().st_size

    with (
        mock.patch.object(costing, "measure_latency", latencies),
        mock.patch.object(costing, "measure_peak_ram", ram),
    ):
        yield


def compress_briefly(
    out: Path, budget: str, *, model: Any = None, data: Any = None, measures: bool = True, **settings: Any
) -> Result:
    """A whole run in seconds: the trained tiny network, one trial, short measurements or none, all in this process."""
    given: dict[str, Any] = {"launcher": SerialLauncher(), "trials": 1, "time": 300}
    with brief_measuring(), nullcontext() if measures else costs_by_size():
        return ac.compress(
            trained_net() if model is None else model, data or tiny_task(), budget, out, **(given | settings)
        )


def finish_a_run(out: Path) -> Path:
    """``out`` with a run in it that met its budget, measured longer than brief runs are."""
    space = out.with_suffix(".yaml")
    space.write_text(SMALL_SPACE)
    with brief_measuring(rounds=12, window_ms=10.0, first_rung=rungs.LEAST_STEPS):
        ac.compress(
            NET,
            TASK,
            "latency<=5ms,size<=50%,accuracy>=70%,accuracy_drop<=30%",
            out,
            launcher=SerialLauncher(),
            checkpoint=kept_weights(out.with_suffix(".safetensors")),
            space=str(space),
            trials=1,
            time=300,
        )
    return out


def kept_weights(path: Path) -> Path:
    """The trained network's weights in a file."""
    path.write_bytes(safetensors.torch.save(trained_net().state_dict()))
    return path


def _drawn(n: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    targets = np.arange(n, dtype=np.int64) % CLASSES
    rows, columns = np.indices((SIDE, SIDE)) // 2 % 2
    patterns = np.stack([rows, columns, rows ^ columns]).astype(np.float32)
    signal = 0.5 + 0.25 * (patterns[targets] - 0.5) * rng.choice([-1, 1], n)[:, None, None]
    pixels = signal + rng.normal(0, NOISE, (n, SIDE, SIDE))
    return Split(inputs=(255 * pixels.clip(0, 1)).astype(np.uint8)[..., None], targets=targets)
