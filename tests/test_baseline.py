"""How fast the original trains, and in which arithmetic."""

from types import SimpleNamespace

import pytest
import torch
from tiny_runs import tiny_net, tiny_task

from autocompress.commands import baseline
from autocompress.commands.baseline import LEAST_S, PROBE_STEPS, Pace, measure_pace, training_s
from autocompress.recipe import Arithmetic
from autocompress.recover.sample_stream import SampleStream


@pytest.fixture
def stepped(monkeypatch):
    """Steps of 1 s, in bf16 of ``bf16_s``, on one thread twice as long; what was asked for."""
    asked = []

    def install(bf16_s):
        def step_times(_model, _stream, settings, *, most_s):
            asked.append((settings.arithmetic, torch.get_num_threads(), most_s))
            step_s = bf16_s if settings.arithmetic is Arithmetic.BF16 else 1.0
            return [step_s * (2 if torch.get_num_threads() == 1 else 1)] * settings.steps

        monkeypatch.setattr(baseline, "step_times", step_times)
        return asked

    return install


@pytest.mark.parametrize(("bf16_s", "best"), [(0.5, Arithmetic.BF16), (4.0, Arithmetic.FP32)])
def test_the_faster_arithmetic_is_taken_and_bf16_gets_as_long_as_all_of_fp32(stepped, bf16_s, best):
    asked = stepped(bf16_s)
    pace = measure_pace(tiny_net(), SampleStream(tiny_task(), 0), cores=2)
    step_s = min(bf16_s, 1.0)
    assert pace == Pace(arithmetic=best, one_thread=pytest.approx(0.5 / step_s), all_threads=pytest.approx(1 / step_s))
    assert [(kind, threads) for kind, threads, _ in asked] == [(Arithmetic.FP32, 2), (Arithmetic.BF16, 2), (best, 1)]
    assert asked[1][2] == pytest.approx(PROBE_STEPS * 1.0)


def test_the_model_is_left_as_it_was():
    model = tiny_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pace = measure_pace(model, SampleStream(tiny_task(), 0), cores=1)
    assert pace.one_thread == pace.all_threads > 0
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("limit_s", "gone_s", "seconds"),
    [
        (300, 12, 90.0),  # its share
        (80, 12, 0.35 * 68),  # of what is left
        (60, 12, 12.0),  # all but what comes later
        (100, 30, 10.0),  # which takes longer here
        (60, 26, LEAST_S),
    ],
)
def test_training_leaves_time_for_what_comes_later_and_more_on_a_slow_machine(limit_s, gone_s, seconds):
    clock = SimpleNamespace(limit_s=limit_s, elapsed_s=gone_s, left_s=limit_s - gone_s)
    assert training_s(clock) == pytest.approx(seconds)
