"""Kernels for linear layers: ranges at run time, weights in blocks."""

import logging
import subprocess
import sys
from functools import cache

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, load
from tiny_exports import calibration_of, machine, preprocess_of, run, seen
from tiny_models import tiny
from torch import nn

from autocompress.export.calibrate import Seen
from autocompress.export.write_file import draft
from autocompress.precision import Activations, FilePlan, Format, Precision
from autocompress.task import Layout, Preprocess

DYNAMIC = Precision(weights=Format.INT8, activations=Activations.INT8_DYNAMIC)
FUSED = {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"}


@cache
def _finished(name: str, plan: str) -> bytes:
    made = draft(tiny(name), FilePlan.model_validate_json(plan), {}, seen(name),
                 preprocess=preprocess_of(name), machine=machine())  # fmt: skip
    return made.finished()


def finished(name: str, default: Precision, **layers: Precision) -> ModelProto:
    return ModelProto.FromString(_finished(name, FilePlan(default=default, layers=layers).model_dump_json()))


def operators(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def as_the_runtime_has_it(proto: ModelProto, folder) -> ModelProto:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return load(folder / "optimized.onnx")


@pytest.mark.parametrize(("name", "layers"), [("mlp", 3), ("vit", 5), ("tied", 3)])
def test_every_dynamic_layer_is_one_kernel_in_the_runtime(name, layers, tmp_path):
    """As a Gemm, as a product of tokens, and with one weight for two layers."""
    proto = finished(name, DYNAMIC)
    assert operators(proto).count("MatMulInteger") == layers
    fused = operators(as_the_runtime_has_it(proto, tmp_path))
    assert sum(operator in FUSED for operator in fused) == layers
    assert "MatMulInteger" not in fused


@pytest.mark.parametrize("name", ["mlp", "vit", "tied", "plain"])
@pytest.mark.parametrize("bits", [Format.INT8, Format.INT5])
def test_dynamic_layers_compute_nearly_the_same(name, bits):
    x = calibration_of(name)
    expected = tiny(name)(x).detach().numpy()
    precision = Precision(weights=bits, activations=Activations.INT8_DYNAMIC)
    error = np.abs(run(finished(name, precision), x) - expected).max()
    assert 0 < error < (0.01 if bits is Format.INT8 else 0.06) * np.ptp(expected)


@cache
def _wide() -> nn.Module:
    return nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 40))


@pytest.mark.parametrize(("bits", "per_weight"), [(Format.INT4, 0.5), (Format.INT8, 1.0)])
def test_weights_in_blocks_are_as_many_bits_and_a_scale_for_each(bits, per_weight):
    plan = FilePlan(default=Precision(weights=bits, block=32))
    inputs = np.random.default_rng(0).normal(size=(8, 128)).astype("f")
    preprocess = Preprocess(layout=Layout.AS_STORED, shape=(128,))
    made = draft(_wide(), plan, {}, Seen(inputs=inputs, batch=1), preprocess=preprocess, machine=machine())
    file = ModelProto.FromString(made.finished())
    assert operators(file).count("MatMulNBits") == 2
    weights = 128 * 256 + 256 * 40
    assert weights * (per_weight + 4 / 32) < file.ByteSize() < weights * (per_weight + 4 / 32) + 3000
    expected = run(made.proto, inputs)
    assert np.abs(run(file, inputs) - expected).max() < (0.15 if bits is Format.INT4 else 0.02) * np.ptp(expected)


def test_layers_without_a_whole_block_have_one_scale_per_channel():
    file = finished("vit", Precision(weights=Format.INT8, block=32))
    assert operators(file).count("MatMulNBits") == 1  # fc2 alone has 32 inputs
    assert file.ByteSize() < 0.6 * draft_bytes("vit")


def draft_bytes(name: str) -> int:
    return finished(name, Precision()).ByteSize()


def test_one_weight_of_two_layers_goes_in_blocks_twice():
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
    model[2].weight = model[0].weight
    inputs = np.random.default_rng(0).normal(size=(8, 32)).astype("f")
    preprocess = Preprocess(layout=Layout.AS_STORED, shape=(32,))
    plan = FilePlan(default=Precision(weights=Format.INT8, block=16))
    made = draft(model, plan, {}, Seen(inputs=inputs, batch=1), preprocess=preprocess, machine=machine())
    file = ModelProto.FromString(made.finished())
    assert operators(file).count("MatMulNBits") == 2
    assert file.ByteSize() < 1.5 * 32 * 32 * 1.25 + 800  # equal constants are one
    expected = run(made.proto, inputs)
    assert np.abs(run(file, inputs) - expected).max() < 0.02 * np.ptp(expected)


def test_logging_is_left_as_it_was():
    """The runtime's tool sets up logging for the whole process when it is imported."""
    finished("mlp", Precision(weights=Format.INT8, block=16))
    assert logging.root.manager.disable == logging.NOTSET
    code = (
        "import logging; from autocompress.export import linear_kernels as kernels\n"
        "from onnx import helper; graph = helper.make_graph([], 'g', [], [])\n"
        "kernels._round_in_blocks(helper.make_model(graph), [], 32, 4)\n"
        "print(logging.root.handlers, logging.root.level)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[] 30"
