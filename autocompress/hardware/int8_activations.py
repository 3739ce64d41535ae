"""Which 8-bit type activations take on this machine: measured once, not assumed from the architecture.

Weights are signed. Unsigned activations have a fast kernel on x86, signed ones on ARM; which of the two a new processor
or a new runtime prefers is found by timing the same two layers in both. A ReLU costs nothing in unsigned integers that
begin at zero, and a step of its own in signed ones: the files have it as they would.
"""

import tempfile
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from autocompress.clock import now
from autocompress.errors import MeasurementError
from autocompress.events import Observer
from autocompress.hardware.kept import Record, circumstances_of, keep, recall
from autocompress.hardware.latency import measure_latency
from autocompress.measurement import Latency
from autocompress.target import ActivationType, Machine, Target
from autocompress.task import Array

CHANNELS, SIDE = 64, 28  # 58 M multiply-adds in all: long against the time of a call, short enough for many runs
LEAST_GAIN = 0.05  # a smaller gain is not worth leaving what the architecture is known for
_OPSET, _IR_VERSION = 21, 10


class ActivationChoice(Record):
    """The type that int8 activations take, and the times that say so; ``reason`` reads well in a sentence.

    ``floor_ratio`` is what two copies of one file differed by in the same run. Times are None where measuring failed.
    """

    chosen: ActivationType
    usual: ActivationType
    uint8_ms: float | None = None
    int8_ms: float | None = None
    floor_ratio: float | None = None
    conclusive: bool
    reason: str

    def __str__(self) -> str:
        again = "" if self.conclusive else "; autocompress doctor measures again"
        return f"int8 layers take {self.chosen} activations: {self.reason}{again}"


def with_measured_activations(machine: Machine, observer: Observer) -> Machine:
    """``machine`` with the type of activations that is fast on it.

    The first call on a machine measures for one or two seconds; the answer lies in ``kept.cache_folder()``, named by
    processor and version of the runtime. Later runs take it from there and never change it, so that a recipe which is
    applied again gives the same file. Where it cannot be kept the usual type is taken, for the same reason.
    """
    return machine.model_copy(update={"int8_activations": choice_for(machine, observer).chosen})


def choice_for(machine: Machine, observer: Observer, *, try_again: bool = False) -> ActivationChoice:
    """The choice that is kept for ``machine``, or a new one, which is kept then and told to ``observer``.

    Args:
        machine: its ``int8_activations`` are the usual ones, which stay unless the others are clearly faster.
        observer: told of a new choice, and of one that is kept for want of a better.
        try_again: measure anew where a measurement was kept that decided nothing.
    """
    known = recall(ActivationChoice, circumstances_of(machine))
    if known is not None and known.conclusive:
        return known
    found = known if known is not None and not try_again else _measured_and_kept(machine)
    observer.note(str(found))
    return found


def _measured_and_kept(machine: Machine) -> ActivationChoice:
    found = measure_choice(machine)
    try:
        keep(found)
    except (OSError, RuntimeError) as error:
        return _undecided(machine, f"the usual type here, as what was measured cannot be kept: {error}")
    return found


def measure_choice(machine: Machine) -> ActivationChoice:
    """The types timed against each other, one thread, in turns; the usual type where that decides nothing."""
    usual = machine.int8_activations
    try:
        mine, copy, others = _times([usual, usual, _other(usual)])
    except MeasurementError as error:
        return _undecided(machine, f"the usual type here, as measuring failed: {error}")
    return decide(machine, mine, copy, others)


def decide(machine: Machine, mine: Latency, copy: Latency, others: Latency) -> ActivationChoice:
    """The choice that these times mean.

    Args:
        machine: its ``int8_activations`` are the usual type.
        mine: of the file with the usual type.
        copy: of the same file again.
        others: of the file with the other type.
    """
    usual, other = machine.int8_activations, _other(machine.int8_activations)
    floor = max(mine.median_ms, copy.median_ms) / min(mine.median_ms, copy.median_ms) - 1
    gain = mine.median_ms / others.median_ms - 1
    noisy = mine.noisy or copy.noisy or others.noisy
    wins = gain > max(LEAST_GAIN, floor) and others.interval_ms[1] < min(mine.interval_ms[0], copy.interval_ms[0])
    chosen = other if wins and not noisy else usual
    times = {usual: mine.median_ms, other: others.median_ms}
    if noisy:
        reason = "the usual type here, as something else was running while both were measured"
    elif wins:
        reason = f"{gain + 1:.2f}× the speed of {usual} on a 3×3 convolution with ReLU"
    else:
        reason = f"{other} has {gain + 1:.2f}× their speed on a 3×3 convolution with ReLU"
    return ActivationChoice(
        circumstances=circumstances_of(machine),
        measured_at=now(),
        chosen=chosen,
        usual=usual,
        uint8_ms=times[ActivationType.U8],
        int8_ms=times[ActivationType.S8],
        floor_ratio=floor,
        conclusive=not noisy,
        reason=reason,
    )


def two_layers(kind: ActivationType) -> ModelProto:
    """Two 3×3 convolutions with ReLU, in int8 with activations of ``kind``, as ``export.quantize_onnx`` writes them."""
    rng = np.random.default_rng(0)
    stored: dict[str, Array] = {
        "scale": np.array(0.05, np.float32),
        "zero": np.array(0, np.dtype(kind.value)),
        "weight_scale": np.full(CHANNELS, 0.002, np.float32),
        "weight_zero": np.zeros(CHANNELS, np.int8),
    }
    nodes = [*_rounded("input", "x0")]
    for place in (0, 1):
        stored[f"w{place}"] = rng.integers(-100, 100, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
        nodes += [
            helper.make_node("DequantizeLinear", [f"w{place}", "weight_scale", "weight_zero"], [f"w{place}f"], axis=0),
            helper.make_node("Conv", [f"x{place}", f"w{place}f"], [f"y{place}"], pads=[1, 1, 1, 1]),
            *_activation(f"y{place}", f"x{place + 1}", kind),
        ]
    shape = [1, CHANNELS, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "two_layers",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("x2", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _other(kind: ActivationType) -> ActivationType:
    return ActivationType.S8 if kind is ActivationType.U8 else ActivationType.U8


def _activation(given: str, made: str, kind: ActivationType) -> list[NodeProto]:
    """``made = relu(given)``, rounded; rounding to unsigned integers cuts off what is below zero by itself."""
    if kind is ActivationType.U8:
        return [*_rounded(given, made)]
    relu = helper.make_node("Relu", [f"{made}.before"], [f"{made}.after"])
    return [*_rounded(given, f"{made}.before"), relu, *_rounded(f"{made}.after", made)]


def _rounded(given: str, made: str) -> tuple[NodeProto, NodeProto]:
    return (
        helper.make_node("QuantizeLinear", [given, "scale", "zero"], [f"{made}q"]),
        helper.make_node("DequantizeLinear", [f"{made}q", "scale", "zero"], [made]),
    )


def _times(kinds: list[ActivationType]) -> list[Latency]:
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        files = [Path(folder, f"{place}.onnx") for place in range(len(kinds))]
        for file, kind in zip(files, kinds, strict=True):
            file.write_bytes(two_layers(kind).SerializeToString())
        return measure_latency(files, Target(), rounds=8, window_ms=20.0)


def _undecided(machine: Machine, reason: str) -> ActivationChoice:
    return ActivationChoice(
        circumstances=circumstances_of(machine),
        measured_at=now(),
        chosen=machine.int8_activations,
        usual=machine.int8_activations,
        conclusive=False,
        reason=reason,
    )
