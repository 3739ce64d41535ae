"""What selections cost by calculation is what their files show."""

import random

import numpy as np
import pytest
from made_up_costs import case_of, costs_of

from autocompress.budget import Metric
from autocompress.graph.layer_table import LayerFacts
from autocompress.precision import Format
from autocompress.search.allocation.choices import Choice, values_of
from autocompress.search.allocation.layer_bytes import part_bytes
from autocompress.search.allocation.layer_times import FileTimes
from autocompress.search.allocation.network_costs import COSTS, NetworkCosts, UniformFile
from autocompress.search.allocation.parts import parts_of

MS, SIZE, MACS, PARAMS = (COSTS.index(m) for m in (Metric.LATENCY, Metric.SIZE, Metric.MACS, Metric.PARAMS))
NAMES = ("residual", "depthwise", "concat", "vit blocks")
ONE_TECHNIQUE = {
    "pruned int8": Choice(prune=0.25, precision=Format.INT8),
    "int4": Choice(precision=Format.INT4),
    "int8 codebook": Choice(codebook=4, precision=Format.INT8),
    "sparse": Choice(sparse=0.85),
    "sparse int8": Choice(sparse=0.6, precision=Format.INT8),
    "low rank": Choice(rank=0.25),
}


def drawn(name: str, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(len(choices)) for choices in case_of(name).choices]


@pytest.mark.parametrize("choice", ONE_TECHNIQUE.values(), ids=list(ONE_TECHNIQUE))
def test_bytes_are_those_of_the_file(choice):
    case = case_of("residual")
    units = len(case.units)
    costs = case.costs([(Choice(), choice)] * units)

    (found,) = costs(np.ones((1, units), dtype=np.intp))

    facts = case.facts([choice] * units)
    assert found[SIZE] == pytest.approx(facts.size_bytes, rel=0.05)
    assert found[MACS] == facts.macs
    assert found[PARAMS] == facts.params


@pytest.mark.parametrize("name", NAMES)
def test_the_uniform_files_cost_what_they_do(name):
    case, costs = case_of(name), costs_of(name)
    for form, file in ((Format.FP32, costs.plain), (Format.INT8, costs.int8)):
        picks = [choices.index(Choice(precision=form) if unit.layers else Choice())
                 for unit, choices in zip(case.units, case.choices, strict=True)]  # fmt: skip
        (found,) = costs(np.array([picks]))
        assert found[SIZE] == pytest.approx(file.facts.size_bytes)
        assert found[MACS] == pytest.approx(file.facts.macs)
        assert found[PARAMS] == pytest.approx(file.facts.params)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_layers_get_what_the_recipe_says(name, seed):
    case, picks = case_of(name), drawn(name, seed)
    picked = [choices[at] for choices, at in zip(case.choices, picks, strict=True)]
    steps = case.builder.steps(values_of(dict(enumerate(picked))))
    settings = {step.name: step.settings for step in steps.all()}
    home = {layer: place for place, unit in enumerate(case.units) for layer in unit.layers}
    for layer in case.anatomy.layers:
        widths = case.anatomy.widths_after(layer, steps.kept)
        parts = parts_of(layer, *widths, picked[home[layer.name]], align=case.builder.align)
        if not parts:
            assert any(layer.name.startswith(block) for block in settings["drop_blocks"]["blocks"])
            continue
        factors = settings.get("factorize", {}).get("layers", {}).get(layer.name)
        assert (len(parts) == 2) == (factors is not None)
        if factors:
            assert parts[0].layer.c_out == factors["rank"]
        book = settings.get("share_weights", {}).get("layers", {}).get(layer.name, {}).get("bits")
        zeros = settings.get("prune_weights", {}).get("layers", {}).get(layer.name, {}).get("sparsity", 0.0)
        assert (parts[0].codebook, parts[0].sparsity) == (book, zeros)
        precision = settings.get("quantize", {})
        form = precision.get("layers", {}).get(layer.name, precision.get("default", {"weights": "fp32"}))
        assert parts[0].form == form["weights"]


@pytest.mark.parametrize("name", NAMES)
def test_many_selections_cost_what_each_does_alone(name):
    picks = np.array([drawn(name, seed) for seed in range(20)])
    together = costs_of(name)(picks)
    alone = np.concatenate([costs_of(name)(row[None]) for row in picks])
    np.testing.assert_allclose(together, alone)


@pytest.mark.parametrize("name", NAMES)
def test_fewer_channels_never_cost_more(name):
    """In MACs and parameters, and in bytes but for the nodes of a technique that pays at one width only."""
    case, costs = case_of(name), costs_of(name)
    draw = random.Random(0)
    for _ in range(60):
        picks = drawn(name, draw.randrange(1000))
        unit = draw.randrange(len(case.units))
        choice = case.choices[unit][picks[unit]]
        more = [
            at
            for at, other in enumerate(case.choices[unit])
            if other.model_copy(update={"prune": choice.prune}) == choice and other.prune >= choice.prune
        ]
        stronger = [*picks[:unit], draw.choice(more), *picks[unit + 1 :]]
        before, after = costs(np.array([picks, stronger]))
        assert np.all(after[[MACS, PARAMS]] <= before[[MACS, PARAMS]])
        assert after[SIZE] <= before[SIZE] + 700 * len(case.anatomy.layers)


STRONGER = (
    [Choice(precision=form) for form in (Format.FP32, Format.FP16, Format.INT8, Format.INT4, Format.INT2)],
    [Choice(codebook=bits, precision=Format.INT8) for bits in (8, 6, 4, 3, 2)],
    [Choice(sparse=share, precision=Format.INT8) for share in (0.0, 0.6, 0.85, 0.95)],
    [Choice(sparse=share, codebook=4) for share in (0.0, 0.6, 0.85, 0.95)],
    [Choice(rank=share) for share in (1.0, 0.5, 0.25)],
)


@pytest.mark.parametrize("choices", STRONGER)
def test_more_compression_of_a_layer_never_costs_more_bytes(choices):
    layer = LayerFacts(
        name="conv", kind="Conv2d", c_in=64, c_out=96, kernel=(3, 3), groups=1, positions=64, params=64 * 96 * 9
    )
    sizes = [sum(map(part_bytes, parts_of(layer, 64, 96, choice, align=16))) for choice in choices]
    assert sizes == sorted(sizes, reverse=True)


def test_measured_times_follow_the_widths_of_their_layers():
    case = case_of("residual")
    plain = costs_of("residual").plain
    count = len(case.anatomy.layers)
    times = FileTimes(weighted_ms=(1.0,) * count, around_ms=(0.5,) * count, beside_ms=0.25)
    choices = [(Choice(), Choice(prune=0.5))] * len(case.units)
    costs = NetworkCosts(
        anatomy=case.anatomy, units=case.units, choices=choices, align=8, channel_block=16,
        plain=UniformFile(facts=plain.facts, times=times),
    )  # fmt: skip
    whole, half = costs(np.array([[0] * len(case.units), [1] * len(case.units)]))[:, MS]
    assert whole == pytest.approx(times.total_ms)
    assert 0.25 + 0.25 * count < half < whole


def test_rounding_between_integers_and_floats_takes_time():
    case = case_of("plain")
    costs = case.costs([(Choice(), Choice(precision=Format.INT8))] * len(case.units))
    both = costs(np.array([[0, 0, 0], [1, 1, 1], [0, 1, 0]]))[:, MS]
    assert both[0] == pytest.approx(both[1])  # no times of an int8 file: the float file's
    assert both[2] > both[0] + 2e-3
