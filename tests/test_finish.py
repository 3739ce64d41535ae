"""The certificate's measurement is repeated while something disturbs it; few bits are trained with their roundings."""

from types import SimpleNamespace

import pytest

from autocompress.measurement import Latency
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.search import finish
from autocompress.search.finish import MEASURE_ATTEMPTS, Finish, fully_recovered


def latency(*, noisy: bool) -> Latency:
    return Latency(
        median_ms=1.0, p95_ms=1.1, interval_ms=(0.9, 1.1), rounds=5, runs=50, load_ms=1.0, threads=1, noisy=noisy
    )


@pytest.mark.parametrize(
    ("noise", "measured"),
    [([False], 1), ([True, False], 2), ([True] * 9, MEASURE_ATTEMPTS)],
    ids=["calm", "calm at the second time", "never calm"],
)
def test_finalists_are_measured_until_nothing_disturbs_them(monkeypatch, noise, measured):
    calls, notes, pending = [], [], iter(noise)

    def measure_files(baseline, files, target, **protocol):
        calls.append(baseline)
        return latency(noisy=False), {0: latency(noisy=next(pending))}

    monkeypatch.setattr(finish, "measure_files", measure_files)
    monkeypatch.setattr(finish, "PAUSE_S", 0.0)
    run = SimpleNamespace(
        baseline_file=b"", bench=SimpleNamespace(target=None), observer=SimpleNamespace(note=notes.append)
    )

    _, found = Finish._measure_calmly(run, {0: b""})

    assert len(calls) == measured
    assert len(notes) == measured - 1
    assert found[0].noisy is noise[measured - 1]


INT8 = {"weights": "int8", "activations": "int8"}
CODEBOOK = {"share_weights": {"layers": {"fc": {"bits": 4}}}}


@pytest.mark.parametrize(
    ("passes", "aware"),
    [
        ({}, False),
        ({"quantize": {"default": INT8}}, False),
        ({"quantize": {"default": INT8, "layers": {"fc": {"weights": "int4", "activations": "int8"}}}}, True),
        ({"quantize": {"default": {"weights": "int3"}}}, True),
        ({"quantize": {"default": {"weights": "fp16"}}}, False),
        (CODEBOOK, False),  # float recovery trains the shared values themselves
        (CODEBOOK | {"quantize": {"default": INT8}}, True),
    ],
)
def test_weights_of_few_bits_are_trained_with_their_roundings(passes, aware):
    steps = tuple(PassStep(name=name, settings=settings) for name, settings in passes.items())
    recipe = Recipe(passes=steps, recovery=Recovery(steps=10))
    full = fully_recovered(recipe, 40)
    assert full.recovery == Recovery(steps=40, quantize_aware=aware)
    assert full.passes == recipe.passes
    assert fully_recovered(recipe, 5).recovery.steps == 10
