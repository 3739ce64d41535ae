"""What commands show to people, and the same as JSON."""

import json
import re

import pytest
import sample_answers as answers
from sample_result import sample_result

from autocompress.cli.app import run
from autocompress.commands import apply as applying
from autocompress.commands import compress as compressing
from autocompress.commands import doctor as doctoring
from autocompress.commands import measure as measuring
from autocompress.commands import plan as planning
from autocompress.commands import report as reporting
from autocompress.commands import verify as verifying
from autocompress.result import Status
from autocompress.search.space import shipped_spaces
from autocompress.students.family import count, load_family, shipped_families

RUN = ["resnet18", "--data", "digits", "--budget", "latency<=50%,size<=300kB"]


def shown(capfd, words: list[str], code: int = 0) -> str:
    """Standard output, spaces squeezed."""
    assert run(words) == code
    return re.sub(r"[ \u00a0]+", " ", capfd.readouterr().out)


def test_a_met_budget_ends_in_verdict_rows_comparison_and_the_next_commands(capfd, monkeypatch):
    monkeypatch.setattr(compressing, "run", lambda *_, **__: sample_result())
    text = shown(capfd, ["compress", *RUN, "--out", "runs/my digits"])
    assert text.startswith("2.3× faster and 4.8× smaller")
    assert "✓ latency ≤ 1.46 ms 1.26 ms" in text
    assert "✗" not in text
    assert "size of the file 1.12 MB 232 kB" in text
    assert "model runs/my digits/best/model.onnx\n" in text
    assert "report runs/my digits/report.html\n" in text
    assert "verify autocompress verify 'runs/my digits'\n" in text


def test_an_infeasible_budget_ends_in_what_binds_and_what_could_be_had(capfd, monkeypatch):
    monkeypatch.setattr(compressing, "run", lambda *_, **__: sample_result(Status.INFEASIBLE))
    text = shown(capfd, ["compress", *RUN, "--out", "r"], code=3)
    assert "✗ size ≤ 40 kB" in text
    assert "? accuracy ≥ 0.9800 —" in text
    assert "size ≤ 40 kB 61.3 kB binds" in text
    assert "best/model.onnx" not in text


@pytest.mark.parametrize(("feasible", "code"), [(True, 0), (False, 3)])
def test_a_plan_shows_reach_limits_and_time(capfd, monkeypatch, feasible, code):
    monkeypatch.setattr(planning, "plan", lambda *_, **__: answers.sample_plan(feasible=feasible))
    text = shown(capfd, ["plan", *RUN], code)
    assert "latency 2.9 ms 410 µs −85% channels · int8" in text
    assert "not used: channels of fc: its channels are the model's output" in text
    assert "plan 10s, search 5m00s (the original is trained first; 12.5 training steps a second)" in text


@pytest.mark.parametrize(
    ("noisy", "unrest", "why"),
    [
        (False, 0.1, ""),
        (True, 0.1, "noisy: something else is running"),
        (True, 2.4, "noisy: other guests of this machine take its caches or half of its core"),
    ],
)
def test_measure_shows_every_cost_and_whether_it_was_noisy(capfd, monkeypatch, noisy, unrest, why):
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: answers.sample_cost(noisy=noisy, unrest=unrest))
    text = shown(capfd, ["measure", "m.onnx"])
    assert "latency, median 1.26 ms [1.25 ms, 1.28 ms]" in text
    assert "size of the file 232 kB (231,904 B)" in text
    assert ("noisy" in text) is noisy
    assert why in " ".join(text.split())


@pytest.mark.parametrize(("met", "code", "word"), [(True, 0, "MET"), (False, 3, "NOT MET")])
def test_verify_says_met_or_not(capfd, monkeypatch, met, code, word):
    monkeypatch.setattr(verifying, "verify", lambda *_, **__: answers.sample_verification(met=met))
    text = shown(capfd, ["verify", "runs/x"], code)
    assert text.startswith(f"{word}: runs/x/best\n")
    assert "accuracy, test 0.9722 [0.9500, 0.9800]" in text
    assert "note: certified on another processor" in text


def test_verify_says_that_a_file_is_not_the_certified_one(capfd, monkeypatch):
    monkeypatch.setattr(verifying, "verify", lambda *_, **__: answers.sample_verification(same_file=False))
    assert "NOT the one that was certified" in shown(capfd, ["verify", "runs/x"])


@pytest.mark.parametrize(("flags", "code"), [([], 0), (["--budget", "size<=1MB"], 0), (["--budget", "size<=1kB"], 3)])
def test_apply_shows_what_came_of_a_recipe_and_judges_it_by_a_budget_only_if_asked(
    capfd, monkeypatch, tmp_path, flags, code
):
    monkeypatch.setattr(applying, "apply", lambda *_, **__: answers.sample_applied())
    file = tmp_path / "recipe.yaml"
    file.write_text(answers.sample_applied().recipe.to_yaml())
    text = shown(capfd, ["apply", str(file), "resnet18", "--data", "digits", "--out", "r", *flags], code)
    assert "left alone: fc: its channels are the model's output" in text
    assert "size of the file 1.12 MB 232 kB" in text
    assert ("limit" in text) is bool(flags)


@pytest.mark.parametrize(("healthy", "code", "sign"), [(True, 0, "✓"), (False, 1, "✗")])
def test_doctor_shows_every_check(capfd, monkeypatch, healthy, code, sign):
    monkeypatch.setattr(doctoring, "doctor", lambda **_: answers.sample_health(healthy=healthy))
    text = shown(capfd, ["doctor"], code)
    assert f"{sign} timing the same file measured as two differs by 0.4% [noise]" in text
    assert "- optional: dashboard" in text


def test_report_prints_the_path_alone_and_whole(monkeypatch, capfd, tmp_path):
    page = tmp_path / ("long " * 40) / "report.html"
    monkeypatch.setattr(reporting, "report", lambda *_: page)
    assert run(["report", "runs/x"]) == 0
    assert capfd.readouterr().out == f"{page}\n"
    assert run(["report", "runs/x", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"report": str(page)}


def test_spaces_lists_passes_and_ranges(capfd):
    text = shown(capfd, ["spaces"])
    assert "prune_channels ratio 0 to 0.85" in text
    assert "quantize precision int8, fp32 2" in text
    assert "prune_channels ratio 0 to 0.85 continuous" in text


def test_spaces_lists_families_with_their_parameters_and_how_many_architectures_they_have(capfd):
    text = shown(capfd, ["spaces", "vit"])
    assert text.startswith("vit: Vision transformers")
    assert "heads 2, 3, 4, 6 attention heads" in text
    assert text.rstrip().endswith("3,888 architectures for inputs of the kind image")
    assert run(["spaces", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [each["space"]["name"] for each in found["spaces"]] == list(shipped_spaces())
    assert [each["family"]["name"] for each in found["families"]] == list(shipped_families())
    assert all(each["architectures"] == count(load_family(each["file"])) for each in found["families"])


def test_spaces_counts_the_choices_of_a_stage_where_none_is_continuous(capfd, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "schema: 1\nname: mine\npasses:\n  share_weights: {bits: [3, 4]}\n  quantize: {precision: [int8, int4, fp32]}\n"
    )
    assert run(["spaces", str(file), "--json"]) == 0
    (found,) = json.loads(capfd.readouterr().out)["spaces"]
    assert (found["choices"], found["per_stage"]) == ({"share_weights.bits": 2, "quantize.precision": 3}, 6)
    assert "6 combinations a stage" in shown(capfd, ["spaces", str(file)])
    assert run(["spaces", "default", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["spaces"][0]["per_stage"] is None


def test_spaces_as_json_holds_each_space_as_its_file_states_it(capfd):
    assert run(["spaces", "default", "--json"]) == 0
    (found,) = json.loads(capfd.readouterr().out)["spaces"]
    assert found["space"]["passes"]["prune_channels"]["ratio"] == {"low": 0.0, "high": 0.85}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: 1\nname: mine\npasses: {factorize: {rank: {low: 0.5, high: 2}}}", "the full rank lies in (0, 1]"),
        (
            "name: mlp\nkind: vector\nparameters: {width: [], depth: [1], expansion: [1]}",
            "width has a list of at least",
        ),
        ("name: mlp\nkind: vector\nparameters: {width: [9], depth: [1], expansion: [1]}", "got 9; nearest: 8"),
        ("name: mlp\nkind: vector\nparameters: {widht: [8]}", "got 'widht'; near: width"),
        ("name: mine\nchoices: {}", "must be a search space, which has passes, or a family of students"),
        ("- 1", "got [1]; begin with a copy of one that is shipped"),
        ("name: [", "must be YAML"),
    ],
)
def test_spaces_refuses_a_file_that_does_not_hold_together(capfd, tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert run(["spaces", str(file)]) == 2
    err = " ".join(capfd.readouterr().err.split())
    assert message in err


def test_a_name_that_is_neither_a_space_nor_a_family_is_refused_with_the_near_ones(capfd):
    assert run(["spaces", "mbconf"]) == 2
    assert "got 'mbconf'; near: mbconv" in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("module", "words", "found"),
    [
        (planning, ["plan", *RUN], answers.sample_plan()),
        (measuring, ["measure", "m.onnx"], answers.sample_cost()),
        (verifying, ["verify", "runs/x"], answers.sample_verification()),
        (doctoring, ["doctor"], answers.sample_health()),
    ],
)
def test_json_is_the_record_that_the_python_function_returns(capfd, monkeypatch, module, words, found):
    monkeypatch.setattr(module, words[0], lambda *_, **__: found)
    assert run([*words, "--json"]) == 0
    assert type(found).from_json(capfd.readouterr().out) == found
