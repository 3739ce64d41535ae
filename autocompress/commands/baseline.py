"""The model before compression: trained if it has no weights yet, kept, exported and measured."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from autocompress.clock import BASELINE_SHARE, Clock
from autocompress.commands.prepare import Prepared
from autocompress.events import Observer
from autocompress.facts import write_whole
from autocompress.measurement import ModelFacts
from autocompress.models.checkpoint import load_weights
from autocompress.recipe import Arithmetic, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import step_times, train_baseline
from autocompress.search.costing import measure_files, measure_ram
from autocompress.trial import Bench, accuracy_of, facts_of

BATCH = 64
MOST_EPOCHS = 40
FEWEST_STEPS = 1500  # small data sets need more passes
PROBE_STEPS = 3
SET_UP_S = 1.0  # which the first step in an arithmetic may take, however fast the others are
LEAST_S = 5.0  # of training, however little time there is
MOST_OF_THE_REST = 0.35  # of the time that is left: short runs have spent much of theirs before they train
# Of measuring, a few trials, their recovery and the certificate, however short the run is: so long, and longer where
# all before training took so long that this is twice as much.
LATER_S, LATER_SHARE = 36.0, 2.0
WEIGHTS = "model.safetensors"
FILE = "model.onnx"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast the network trains on this machine, measured: steps of ``BATCH`` per second."""

    arithmetic: Arithmetic
    one_thread: float
    all_threads: float


def measure_pace(model: nn.Module, stream: SampleStream, cores: int) -> Pace:
    """Train copies for three steps each in fp32, in bf16, and on one thread; take the faster arithmetic.

    Where bf16 is emulated and many times slower, it gets one step.
    """

    def times(arithmetic: Arithmetic, threads: int, most_s: float = math.inf) -> list[float]:
        torch.set_num_threads(threads)
        settings = Recovery(steps=PROBE_STEPS, batch=BATCH, arithmetic=arithmetic)
        return step_times(copy.deepcopy(model), stream, settings, most_s=most_s)

    fp32 = times(Arithmetic.FP32, cores)
    bf16 = times(Arithmetic.BF16, cores, most_s=max(SET_UP_S, sum(fp32)))
    best = Arithmetic.BF16 if min(bf16) < min(fp32) else Arithmetic.FP32
    all_threads = min(*fp32, *bf16)
    one_thread = all_threads if cores == 1 else min(times(best, 1))
    torch.set_num_threads(cores)
    return Pace(arithmetic=best, one_thread=1 / one_thread, all_threads=1 / all_threads)


def default_recovery(model: nn.Module, pace: Pace) -> Recovery:
    """Learning rate and arithmetic for this kind of network; steps are set by the time that there is."""
    normalized_by_batch = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())  # noqa: SLF001
    return Recovery(
        batch=BATCH, learning_rate=1e-3 if normalized_by_batch else 3e-4, weight_decay=1e-4, arithmetic=pace.arithmetic
    )


def ensure_trained(
    prepared: Prepared, stream: SampleStream, pace: Pace, clock: Clock, *, folder: Path, observer: Observer
) -> None:
    """Give the model its weights: kept ones from an earlier session, or a training bounded by the run's time.

    The model is changed in place; the weights end in ``folder``.
    """
    kept = folder / WEIGHTS
    if not prepared.needs_training:
        _keep(prepared.model, kept)
        return
    if kept.is_file():
        load_weights(prepared.model, kept)
        prepared.model.eval()
        return
    torch.manual_seed(prepared.config.seed)
    settings = _baseline_settings(prepared, stream, pace)
    limit_s = training_s(clock)
    expected = max(1, min(settings.steps, int(limit_s * pace.all_threads)))

    def report(step: int, _most: int) -> None:
        observer.progress(min(step, expected), expected, "training steps")

    train_baseline(prepared.model, stream, settings, limit_s=limit_s, progress=report)
    _keep(prepared.model, kept)
    clock.save()


def measured_baseline(
    file: bytes, bench: Bench, *, accuracy: bool, rounds: int = 12, ram_bytes: int | None = None
) -> ModelFacts:
    """Facts of the exported base: costs, and the validation accuracy if it has been trained.

    ``ram_bytes`` is the peak RAM where it is known: training does not change it.
    """
    latency, _ = measure_files(file, {}, bench.target, rounds=rounds, window_ms=60.0)
    facts = facts_of(file).with_latency(latency)
    facts = facts.model_copy(update={"peak_ram_bytes": ram_bytes or measure_ram(file, bench.target)})
    if accuracy:
        judged = accuracy_of(file, bench.task, "val", threads=bench.machine.cores)
        facts = facts.model_copy(update={"accuracy_val": judged.value, "accuracy_val_interval": judged.interval})
    return facts


def training_s(clock: Clock) -> float:
    """Seconds that training may take now."""
    later_s = max(LATER_S, LATER_SHARE * clock.elapsed_s)
    return max(LEAST_S, min(BASELINE_SHARE * clock.limit_s, MOST_OF_THE_REST * clock.left_s, clock.left_s - later_s))


def _baseline_settings(prepared: Prepared, stream: SampleStream, pace: Pace) -> Recovery:
    """As many steps as are worth while; time may end the training before."""
    recovery = default_recovery(prepared.model, pace)
    steps = max(FEWEST_STEPS, MOST_EPOCHS * stream.epoch_length // BATCH)
    rate = recovery.learning_rate * (0.3 if prepared.fine_tunes else 2.0)
    return recovery.model_copy(update={"steps": steps, "learning_rate": rate, "weight_decay": 0.05})


def _keep(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
        write_whole(path, safetensors.torch.save(tensors))
