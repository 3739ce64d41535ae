"""The table of techniques: every pass in it, examples that do what they say, ratios of the right files, one command."""

import json

import pytest
import torch
from sample_answers import sample_costs
from sample_result import machine

from autocompress.cli.app import run
from autocompress.commands import doctor as doctoring
from autocompress.commands import technique_costs as costing
from autocompress.commands.technique_cases import CASES, VARIANTS, Case, Variant, variants_for
from autocompress.commands.technique_costs import measure_techniques
from autocompress.commands.techniques import measure_and_keep, techniques
from autocompress.errors import MeasurementError
from autocompress.events import Silence
from autocompress.graph.surgery import example_input
from autocompress.hardware.kept import FOLDER, keep
from autocompress.hardware.machine import this_machine
from autocompress.measurement import Latency
from autocompress.passes import PASSES, PassContext
from autocompress.passes.base import count_parameters
from autocompress.passes.compose import Composed, compose
from autocompress.recipe import Recipe
from autocompress.target import ActivationType, Target

TRIED = [(case, variant) for case in CASES for variant, reason in variants_for(case) if not reason]
NOT_ON = {
    "3×3": {"int8 dynamic", "int4, blocks of 32"},
    "1×1": {"int8 dynamic", "int4, blocks of 32"},
    "depthwise": {"int8 dynamic", "int4, blocks of 32", "half", "half the weights"},
    "linear": set(),
    "blocks": set(),
}


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path))


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def variant_of(technique: str, setting: str) -> Variant:
    return next(each for each in VARIANTS if (each.technique, each.setting) == (technique, setting))


def composed(case: Case, variant: Variant) -> Composed:
    torch.manual_seed(0)
    context = PassContext(example=example_input(case.input), channel_block=8)
    return compose(case.build().eval(), Recipe(passes=variant.steps(case, 8)), context)


def test_the_table_has_every_pass_with_settings_saving_and_source():
    found = {each.name: each for each in techniques().techniques}
    assert list(found) == list(PASSES)
    for each in found.values():
        assert each.settings
        assert each.source.startswith("https://")
        assert set(each.saves.split(", ")) <= {"ms", "bytes", "RAM"}
        assert 10 < len(each.does) < 120


def test_settings_of_each_layer_stand_in_the_table_by_their_own_names():
    found = {each.name: each for each in techniques().techniques}
    assert found["prune_weights"].settings == ("sparsity", "pattern", "criterion")
    assert found["quantize"].settings[:3] == ("weights", "activations", "block")
    assert found["drop_blocks"].settings == ("blocks",)


def test_every_pass_on_the_base_is_measured_somewhere():
    """What a student costs is that of its architecture, not a share of some layers."""
    assert {variant.technique for _, variant in TRIED} == set(PASSES) - {"student"}


@pytest.mark.parametrize(
    ("case", "variant"),
    TRIED,
    ids=[f"{case.name}-{variant.technique}-{variant.setting}" for case, variant in TRIED],
)
def test_an_example_does_something_on_every_layer_or_says_why_not(case, variant):
    found = composed(case, variant)
    assert variant.technique in {step.name for step in variant.steps(case, 8)}
    assert bool(found.changed) is (variant.setting not in NOT_ON[case.name])
    if not found.changed:
        assert all(found.skipped.values())


@pytest.mark.parametrize(
    ("technique", "setting", "case", "least", "most"),
    [
        ("drop_blocks", "half", "blocks", 0.5, 0.5),
        ("share_layers", "two by two", "blocks", 0.5, 0.51),  # biases stay
        ("prune_channels", "half", "3×3", 0.5, 0.51),
        ("prune_channels", "half", "linear", 0.5, 0.51),
        ("factorize", "half the weights", "3×3", 0.4, 0.6),
        ("factorize", "half the weights", "1×1", 0.4, 0.6),
        ("factorize", "half the weights", "linear", 0.4, 0.6),
    ],
)
def test_half_is_half(technique, setting, case, least, most):
    """Counted, biases included."""
    case = case_of(case)
    share = count_parameters(composed(case, variant_of(technique, setting)).model) / count_parameters(case.build())
    assert least <= share <= most


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_variant_is_tried_on_the_layers_it_is_for_and_has_a_reason_elsewhere(case):
    for variant, reason in variants_for(case):
        assert bool(reason) is (variant.for_blocks != case.of_blocks)


def times(ms: float, *, noisy: bool = False) -> Latency:
    return Latency(median_ms=ms, p95_ms=ms, interval_ms=(ms, ms), rounds=8, runs=99, load_ms=1, threads=2, noisy=noisy)


def test_ratios_are_of_each_file_to_the_fp32_file_of_the_same_run(monkeypatch):
    """Files of 1000 bytes in fp32 and 1 to 12 bytes with the variants; a file takes a millisecond a byte."""
    numbers = dict(enumerate(VARIANTS, start=1))
    steps = {
        place: variant.steps(case_of("linear"), 16) for place, variant in numbers.items() if not variant.for_blocks
    }
    given: list[tuple[list[int], Target]] = []

    def file(case, wanted, on):
        assert on == machine()
        if not wanted:
            return bytes(1000)
        place = next(place for place, known in steps.items() if known == wanted)
        return "no reason" if numbers[place].setting == "fp16 stored" else bytes(place)

    def measure(paths, target, **_):
        sizes = [path.stat().st_size for path in paths]
        given.append((sizes, target))
        return [times(1000.0), times(1100.0), *(times(float(size), noisy=size == 3) for size in sizes[2:])]

    monkeypatch.setattr(costing, "_file", file)
    monkeypatch.setattr(costing, "measure_latency", measure)
    found = measure_techniques(machine(), Silence(), threads=2, cases=(case_of("linear"),))

    ((sizes, target),) = given
    assert sizes[:2] == [1000, 1000]
    assert target == Target(threads=2)
    (layer,) = found.layers
    assert (layer.latency_ms, layer.size_bytes, layer.noisy) == (1000.0, 1000, True)
    assert layer.floor_ratio == pytest.approx(1 / 11)
    assert found.circumstances.threads == 2
    assert len(found.savings) == len(VARIANTS)
    for place, saving in enumerate(found.savings, start=1):
        variant = numbers[place]
        assert saving is found.saving(variant, "linear")
        if variant.for_blocks or variant.setting == "fp16 stored":
            assert saving.latency_ratio is saving.size_ratio is None
            assert saving.reason
        else:
            assert saving.latency_ratio == saving.size_ratio == place / 1000
            assert not saving.reason


def test_what_was_measured_is_shown_for_its_own_threads_and_says_how_to_measure_the_rest():
    assert techniques().measured is None
    keep(sample_costs(threads=2))
    assert techniques(threads=2).measured == sample_costs(threads=2)
    assert techniques().measured is None
    assert techniques().measure_with == "autocompress doctor --techniques"
    assert techniques(threads=2).measure_with == "autocompress doctor --techniques --threads 2"


def test_the_command_shows_shares_a_dash_and_when_it_was_measured(capfd):
    keep(sample_costs())
    assert run(["techniques"]) == 0
    lines = [line.rstrip() for line in capfd.readouterr().out.splitlines()]
    assert any(line.startswith("quantize: int8 static") and line.endswith(" 26 / 25") for line in lines)
    assert any(line.startswith("prune_channels: half") and line.endswith(" –") for line in lines)
    assert "linear: two layers; 140 µs, 1 kB in fp32; times to ±1.2%; noisy: something else was running" in lines
    assert any("measured 2026-01-02T03:04:05+00:00" in line for line in lines)
    assert any("arxiv.org/abs/1506.02626" in line for line in lines)


def test_the_command_says_with_which_one_to_measure_where_nothing_was(capfd):
    assert run(["techniques", "--threads", "2"]) == 0
    out = capfd.readouterr().out
    assert "not measured yet" in out
    assert out.endswith("autocompress doctor --techniques --threads 2\n")


def test_json_has_the_reasons(capfd):
    keep(sample_costs())
    assert run(["techniques", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [each["name"] for each in found["techniques"]] == list(PASSES)
    assert found["measured"]["savings"][1]["reason"] == "they are outputs"


@pytest.fixture
def quick_doctor(monkeypatch):
    """The doctor without what takes long."""
    monkeypatch.setattr(doctoring, "_ATTEMPTS", {})
    monkeypatch.setattr(doctoring, "_int8", lambda _: "fast")
    choice = "int8 layers take int8 activations"
    monkeypatch.setattr(doctoring, "choice_for", lambda *_, **__: Chosen(choice))


class Chosen(str):
    __slots__ = ()
    chosen = ActivationType.S8


@pytest.mark.usefixtures("quick_doctor")
def test_the_doctor_points_to_what_is_not_measured_and_is_healthy_without():
    found = doctoring.doctor(threads=2)
    check = next(check for check in found.checks if check.name == "optional: techniques")
    assert not check.works
    assert "autocompress doctor --techniques --threads 2" in check.detail
    assert found.healthy
    keep(sample_costs(threads=2))
    assert "measured 2026-01-02" in doctoring.doctor(threads=2).checks[-1].detail


@pytest.mark.usefixtures("quick_doctor")
def test_the_doctor_measures_techniques_on_request_with_the_type_that_it_found(monkeypatch):
    given = []

    def measure(machine, observer, *, threads):
        given.append((machine, threads))
        return sample_costs(threads)

    monkeypatch.setattr("autocompress.commands.techniques.measure_techniques", measure)
    found = doctoring.doctor(techniques=True, threads=3)
    ((used, threads),) = given
    assert (used.int8_activations, threads) == (ActivationType.S8, 3)
    assert found.machine == used
    assert techniques(threads=3).measured == sample_costs(threads=3)
    assert [check.name for check in found.checks if "techniques" in check.name] == ["techniques"]


@pytest.mark.usefixtures("quick_doctor")
def test_a_doctor_that_cannot_measure_says_so(monkeypatch):
    def fails(*_, **__):
        raise MeasurementError("the process died")

    monkeypatch.setattr("autocompress.commands.techniques.measure_techniques", fails)
    found = doctoring.doctor(techniques=True)
    assert not found.healthy
    assert "the process died" in next(check.detail for check in found.checks if check.name == "techniques")


@pytest.mark.slow
def test_linear_layers_measured_for_real_come_out_smaller_by_what_their_bits_say(monkeypatch):
    """Bytes are counted, so they can be demanded; times only have to be there."""
    monkeypatch.setattr("autocompress.commands.techniques.measure_techniques", one_case)
    found = measure_and_keep(this_machine(), Silence())
    assert techniques().measured == found
    saved = {each.setting: each for each in found.savings if each.size_ratio is not None and each.setting != "half"}
    for setting, share in {"int8 static": 8, "4 bits": 4, "fp16 stored": 16, "int4 stored": 4}.items():
        assert saved[setting].size_ratio == pytest.approx(share / 32, abs=0.02)
        assert saved[setting].latency_ratio
    assert saved["90 % zeros"].size_ratio == pytest.approx(1 / 32 + 0.1, abs=0.02)  # one bit each, and what is left
    assert saved["4 bits, int8"].size_ratio < saved["int8 static"].size_ratio


def one_case(*given, **settings):
    return measure_techniques(*given, **settings, cases=(case_of("linear"),))
