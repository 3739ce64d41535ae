"""A dozen files that tell the coefficients of ``memory.RamCoefficients`` apart: each is heavy in one thing."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto

from autocompress.errors import MeasurementError
from autocompress.export.calibrate import Seen
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.facts import write_whole
from autocompress.hardware.drawn.net import Activation, Net, Value
from autocompress.hardware.kernels.runtime_graph import runtime_graph
from autocompress.hardware.memory import measure_peak_ram
from autocompress.hardware.predictor.decoded import decoded_bytes
from autocompress.hardware.predictor.memory import RamFeatures, ram_features
from autocompress.precision import INT8, FilePlan
from autocompress.target import Machine, Target

RELU = Activation.RELU


def ram_files(folder: Path, machine: Machine, seed: int = 0) -> list[Path]:
    """Writes the files into ``folder``; about 100 MB in all, two seconds."""
    files = []
    for name, make in _recipes().items():
        rng = np.random.default_rng(seed)
        proto = make(rng)
        if name.endswith("-int8"):
            shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
            seen = Seen(inputs=rng.standard_normal(shape).astype(np.float32), batch=shape[0])
            proto = quantize_onnx(proto, FilePlan(default=INT8), seen, machine)
        file = folder / f"{name}.onnx"
        write_whole(file, proto.SerializeToString())
        files.append(file)
    return files


def measured_ram(files: Sequence[Path], target: Target) -> Iterator[tuple[RamFeatures, int]]:
    """Features and measured peak of each file; one that the runtime refuses is left out."""
    for file in files:
        try:
            features = ram_features(runtime_graph(file, target), decoded_bytes(file))
            yield features, measure_peak_ram(file, target)
        except MeasurementError:
            continue


def _recipes() -> dict[str, Callable[[np.random.Generator], ModelProto]]:
    return {
        "tiny": lambda rng: _convolutions(rng, 16, [16, 16]),
        "many_kernels": _chain,
        "blocked_large": lambda rng: _convolutions(rng, 8, [512, 512, 512]),
        "blocked_small": lambda rng: _convolutions(rng, 8, [128] * 24),
        "blocked-int8": lambda rng: _convolutions(rng, 8, [512, 512, 512]),
        "small-int8": lambda rng: _convolutions(rng, 8, [128] * 24),
        "linear_large": lambda rng: _linears(rng, [1024] * 4),
        "linear_small": lambda rng: _linears(rng, [256] * 60),
        "linear-int8": lambda rng: _linears(rng, [1024] * 6),
        "packed": lambda rng: _linears(rng, [768] * 8, is_packed=True),
        "wide": lambda rng: _convolutions(rng, 224, [32, 32, 32]),
        "wide-int8": lambda rng: _convolutions(rng, 224, [32, 32, 32]),
    }


def _convolutions(rng: np.random.Generator, side: int, widths: Sequence[int]) -> ModelProto:
    net = Net(rng, (1, 3, side, side))
    x = net.input
    for width in widths:
        x = net.conv(x, width, 3, act=RELU)
    return net.model(net.head(x, 10))


def _linears(rng: np.random.Generator, widths: Sequence[int], *, is_packed: bool = False) -> ModelProto:
    net = Net(rng, (1, 16, widths[0]))
    x = net.input
    for width in widths:
        x = _packed_linear(net, x, width) if is_packed else net.linear(x, width)
        x = net.act(x, RELU)
    return net.model(x)


def _packed_linear(net: Net, x: Value, width: int) -> Value:
    """A layer whose integer weights become floats when the file is loaded."""
    shape = (x.shape[-1], width)
    integers = net.constant(net.rng.integers(-127, 128, shape).astype(np.int8))
    floats = net.node("Cast", [integers], shape, to=1)
    weight = net.node("Mul", [floats, net.constant(np.full(width, 1e-3, np.float32))], shape)
    return net.node("MatMul", [x, weight], (*x.shape[:-1], width))


def _chain(rng: np.random.Generator) -> ModelProto:
    net = Net(rng, (1, 64, 8))
    x = net.input
    for _ in range(150):
        x = net.act(net.transpose(x, 0, 2, 1), Activation.SIGMOID)
    return net.model(x)
