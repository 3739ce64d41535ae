"""The original model's outputs along the stream."""

import pytest
import torch
from tiny_models import N_OUTPUTS, tiny
from tiny_tasks import task_for

from autocompress.recipe import Arithmetic
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import CHUNK, teacher_outputs

STREAM = SampleStream(task_for("residual"), 0)


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_extending_known_outputs_equals_computing_all_at_once(arithmetic):
    teacher = tiny("residual")
    at_once = teacher_outputs(teacher, STREAM, 5 * CHUNK, arithmetic)
    grown = teacher_outputs(teacher, STREAM, CHUNK, arithmetic)
    for count in (2 * CHUNK, 3 * CHUNK + 1, 5 * CHUNK):
        grown = teacher_outputs(teacher, STREAM, count, arithmetic, grown)
    assert torch.equal(grown, at_once)


def test_each_row_is_the_output_at_its_position():
    teacher = tiny("residual")
    outputs = teacher_outputs(teacher, STREAM, 100, Arithmetic.FP32)
    inputs, _ = STREAM.batch(70, 30)
    torch.testing.assert_close(outputs[70:100], teacher(inputs).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (1, CHUNK), (CHUNK, CHUNK), (CHUNK + 1, 2 * CHUNK)])
def test_whole_chunks_are_computed(count, rows):
    assert teacher_outputs(tiny("residual"), STREAM, count, Arithmetic.FP32).shape == (rows, N_OUTPUTS)


def test_what_is_known_is_not_computed_again():
    teacher = tiny("residual")
    known = torch.full((2 * CHUNK, N_OUTPUTS), 7.0)
    assert torch.equal(teacher_outputs(teacher, STREAM, CHUNK, Arithmetic.FP32, known), known)
    assert torch.equal(teacher_outputs(teacher, STREAM, 3 * CHUNK, Arithmetic.FP32, known)[: 2 * CHUNK], known)


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_outputs_are_plain_fp32_of_the_model_at_inference(arithmetic):
    teacher = tiny("residual").train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    outputs = teacher_outputs(teacher, STREAM, 10, arithmetic)
    assert outputs.dtype == torch.float32
    assert not outputs.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    fp32 = teacher_outputs(teacher, STREAM, 10, Arithmetic.FP32)
    assert torch.equal(outputs, fp32) == (arithmetic is Arithmetic.FP32)
