"""Which layer gets which number format."""

import pytest
from pydantic import ValidationError

from autocompress.passes import Quantize
from autocompress.precision import FP32, INT8, FilePlan, Precision


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


def test_one_sided_int8_is_refused():
    message = "weights and activations must both be int8 or both fp32, got weights int8 with activations fp32"
    with pytest.raises(ValidationError, match=message):
        Precision(weights="int8")
    with pytest.raises(ValidationError, match="got weights fp32 with activations int8"):
        Precision(activations="int8")


def test_a_precision_reads_weights_first():
    assert (str(FP32), str(INT8)) == ("fp32/fp32", "int8/int8")


def test_the_quantize_pass_adds_its_part_to_the_plan_and_leaves_the_model():
    before = FilePlan(layers={"stem": FP32, "head": INT8})
    plan = Quantize(default=INT8, layers={"head": FP32, "block": INT8}).finalize(before)
    assert plan == FilePlan(default=INT8, layers={"stem": FP32, "head": FP32, "block": INT8})
    assert before.layers["head"] == INT8
