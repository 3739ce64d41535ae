"""Which layer gets which number format."""

import pytest
from pydantic import ValidationError

from autocompress.passes import Quantize
from autocompress.precision import FP32, INT8, Activations, Calibration, FilePlan, Format, Precision


def test_a_layer_takes_its_own_entry_then_its_nearest_module_then_the_default():
    plan = FilePlan(default=INT8, layers={"block": FP32, "block.conv": INT8})
    assert plan.of("block.conv") == plan.of("block.conv.reduce") == plan.of("head") == INT8
    assert plan.of("block.fc") == FP32
    assert plan.of("block2") == INT8


@pytest.mark.parametrize(
    ("plan", "quantized"),
    [
        (FilePlan(), False),
        (FilePlan(layers={"a": FP32}), False),
        (FilePlan(default=INT8), True),
        (FilePlan(layers={"a": INT8}), True),
    ],
)
def test_a_plan_is_quantized_when_any_layer_may_be_int8(plan, quantized):
    assert plan.is_quantized is quantized


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activations": "int8"}, "integer arithmetic needs integer weights, got weights fp32 with activations int8"),
        ({"weights": "fp16", "activations": "int8_dynamic"}, "got weights fp16 with activations int8_dynamic"),
        ({"weights": "int4", "block": 40}, "block must be one of 16, 32, 64, 128, 256, got 40; nearest: 32"),
        (
            {"weights": "int3", "block": 32},
            "block goes with int4 or int8 weights and fp32 activations, got weights int3",
        ),
        ({"weights": "int8", "activations": "int8", "block": 32}, "got weights int8 with activations int8"),
        ({"weights": "int9"}, "'int4', 'int3' or 'int2'"),
    ],
)
def test_what_no_kernel_computes_is_refused_with_the_nearest(settings, message):
    with pytest.raises(ValidationError, match=message):
        Precision.model_validate(settings)


def test_formats_know_their_bits():
    bits = {each.value: each.bits for each in Format}
    assert bits == {"fp32": None, "fp16": None} | {f"int{n}": n for n in range(8, 1, -1)}


def test_a_precision_reads_weights_first():
    in_blocks = Precision(weights=Format.INT4, block=32)
    dynamic = Precision(weights=Format.INT8, activations=Activations.INT8_DYNAMIC)
    assert [str(each) for each in (FP32, INT8, in_blocks, dynamic)] == [
        "fp32/fp32",
        "int8/int8",
        "int4/fp32 in blocks of 32",
        "int8/int8_dynamic",
    ]


def test_a_plan_knows_the_arithmetic_that_it_uses():
    plan = FilePlan(layers={"a": INT8, "b": Precision(weights=Format.INT4)})
    assert [plan.uses(each) for each in Activations] == [True, True, False]
    assert FilePlan(default=Precision(weights=Format.INT4)).is_quantized
    assert not FilePlan(default=Precision(weights=Format.FP16)).is_quantized


def test_the_quantize_pass_adds_its_part_to_the_plan_and_leaves_the_model():
    before = FilePlan(layers={"stem": FP32, "head": INT8})
    plan = Quantize(default=INT8, layers={"head": FP32, "block": INT8}).finalize(before)
    assert plan == FilePlan(default=INT8, layers={"stem": FP32, "head": FP32, "block": INT8})
    assert before.layers["head"] == INT8


def test_the_quantize_pass_says_how_static_int8_is_made():
    plan = Quantize(calibration=Calibration.MSE, correct_bias=True, equalize=True).finalize(FilePlan())
    assert (plan.calibration, plan.correct_bias, plan.equalize) == (Calibration.MSE, True, True)
