"""From a compressed network to bytes: what each format takes against what its bits must take."""

from functools import cache

import numpy as np
import pytest
import torch
from onnx import ModelProto
from tiny_exports import machine, run
from torch import nn

from autocompress.export.calibrate import Seen
from autocompress.export.write_file import draft
from autocompress.passes import PassContext
from autocompress.passes.compose import compose
from autocompress.precision import Activations, FilePlan, Format, Precision
from autocompress.recipe import PassStep, Recipe
from autocompress.task import Layout, Preprocess

WEIGHTS = 3 * 32 * 9 + 32 * 96 * 9 + 96 * 128 * 9 + 128 * 10
CHANNELS = 32 + 96 + 128 + 10
NODES = 6_000  # bytes of operators and names, decoding included
INT8 = Activations.INT8
LAYERS = ("0", "3", "6", "10")


@cache
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 96, 3, 2, 1), nn.BatchNorm2d(96), nn.ReLU(),
        nn.Conv2d(96, 128, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Identity(), nn.Linear(128, 10),
    ).eval()  # fmt: skip


def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype("f")


def written(plan: FilePlan, *steps: PassStep) -> bytes:
    result = compose(network(), Recipe(passes=steps), PassContext(example=torch.zeros(1, 3, 16, 16)))
    preprocess = Preprocess(layout=Layout.AS_STORED, shape=(3, 16, 16))
    seen = Seen(inputs=inputs(), batch=1)
    return draft(result.model, plan, result.constraints, seen, preprocess=preprocess, machine=machine()).finished()


def zeros(**wanted: object) -> PassStep:
    return PassStep(name="prune_weights", settings={"layers": dict.fromkeys(LAYERS[1:3], wanted)})


def clusters(**wanted: object) -> PassStep:
    return PassStep(name="share_weights", settings={"layers": dict.fromkeys(LAYERS[1:3], wanted)})


MIDDLE = 32 * 96 * 9 + 96 * 128 * 9
REST = WEIGHTS - MIDDLE
FLOATS = Precision()
CASES = {
    "fp32": (Precision(), (), WEIGHTS * 4),
    "fp16": (Precision(weights=Format.FP16), (), WEIGHTS * 2),
    **{f"int{n}": (Precision(weights=Format(f"int{n}")), (), WEIGHTS * n / 8) for n in (8, 6, 4, 3, 2)},
    **{
        f"int{n} computing": (Precision(weights=Format(f"int{n}"), activations=INT8), (), WEIGHTS * n / 8)
        for n in (8, 7, 5, 4)
    },
    "90 % zeros": (
        FLOATS,
        (zeros(sparsity=0.9),),
        MIDDLE * (0.1 * 4 + 0.469 / 8) + REST * 4,
    ),  # entropy of a bit: 0.469
    "2:4 of int8": (
        Precision(weights=Format.INT8, activations=INT8),
        (zeros(pattern="2:4"),),
        MIDDLE * (0.5 + np.log2(6) / 4 / 8) + REST,  # six ways to choose two of four
    ),
    "3-bit codebook": (FLOATS, (clusters(bits=3),), MIDDLE * 3 / 8 + REST * 4),
    "sparse 4-bit codebook computing": (
        Precision(weights=Format.INT8, activations=INT8),
        (zeros(sparsity=0.8), clusters(bits=4)),
        MIDDLE * (0.2 * 0.5 + 0.722 / 8) + REST,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bytes_are_near_what_the_information_takes(case):
    precision, steps, bound = CASES[case]
    file = written(FilePlan(default=precision), *steps)
    assert bound < len(file) < 1.06 * bound + 12 * CHANNELS + NODES
    assert np.isfinite(run(ModelProto.FromString(file), inputs())).all()


def test_layers_may_have_formats_of_their_own():
    mixed = FilePlan(
        default=Precision(weights=Format.INT4, activations=INT8),
        layers={"0": Precision(), "10": Precision(weights=Format.INT8, block=32)},
    )
    file = ModelProto.FromString(written(mixed))
    expected = network()(torch.from_numpy(inputs())).detach().numpy()
    assert np.abs(run(file, inputs()) - expected).max() < 0.15 * np.ptp(expected)
    operators = [node.op_type for node in file.graph.node]
    assert operators.count("MatMulNBits") == 1
    assert operators.count("Conv") == 3


def test_the_same_network_is_the_same_file_and_the_model_is_left_alone():
    before = {key: value.clone() for key, value in network().state_dict().items()}
    plan = FilePlan(default=Precision(weights=Format.INT8, activations=INT8), correct_bias=True, equalize=True)
    assert written(plan) == written(plan)
    assert all(torch.equal(value, before[key]) for key, value in network().state_dict().items())
