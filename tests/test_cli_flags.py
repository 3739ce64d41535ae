"""From the command line to the run that it means."""

import json
from pathlib import Path

import pytest
from sample_result import sample_result

from autocompress.api import config_of
from autocompress.cli.app import run
from autocompress.commands import apply as applying
from autocompress.commands import compress as compressing
from autocompress.commands import measure as measuring
from autocompress.commands import verify as verifying
from autocompress.commands.config import RunConfig
from autocompress.errors import InputError
from autocompress.recipe import Recipe

MODEL = ["resnet18", "--data", "digits", "--budget", "latency<=5ms"]
BASE = ["compress", *MODEL, "--out", "runs/x"]
EVERYTHING = """
--checkpoint w.safetensors --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --input-size 96 --skip-bad-images
--augment shift+flip --metric balanced_accuracy --target onnxruntime --threads 2 --batch 4 --time 1h30m --trials 7
--workers 3 --ray-address 10.0.0.1:6379 --seed 5 --space default --techniques prune_channels,quantize --minimize size
--sampler nsga2
""".split()  # noqa: SIM905  # as it is typed


@pytest.fixture
def asked(monkeypatch):
    """What ``compress`` was asked for."""
    calls: list[tuple[RunConfig, Path, dict]] = []

    def record(config, out, **rest):
        calls.append((config, out, rest))
        return sample_result()

    monkeypatch.setattr(compressing, "run", record)
    return calls


def test_without_flags_a_run_is_the_default_of_the_api(asked, capfd):
    assert run(BASE) == 0
    config, out, rest = asked[0]
    assert config == config_of("resnet18", "digits", "latency<=5ms", {})
    assert (out, rest["resume"], rest["overwrite"]) == (Path("runs/x"), False, False)


def test_every_flag_reaches_the_run(asked, capfd):
    assert run([*BASE, *EVERYTHING, "--overwrite"]) == 0
    config, _, rest = asked[0]
    found = config.model_dump(mode="json")
    options, target = found.pop("options"), found.pop("target")
    assert options == {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "input_size": 96,
        "skip_bad_images": True,
        "augment": "shift+flip",
        "seed": 5,
        "metric": "balanced_accuracy",
    }
    assert target == {"runtime": "onnxruntime", "threads": 2, "batch": 4}
    assert found == {
        "schema_version": 1,
        "model": "resnet18",
        "data": "digits",
        "budget": "latency<=5ms",
        "sweep": [],
        "pretrained": False,
        "checkpoint": "w.safetensors",
        "time_s": 5400.0,
        "trials": 7,
        "workers": 3,
        "ray_address": "10.0.0.1:6379",
        "seed": 5,
        "space": "default",
        "techniques": ["prune_channels", "quantize"],
        "sampler": "nsga2",
        "minimize": "size",
        "input": None,
    }
    assert rest["overwrite"]


def test_pretrained_resume_and_automatic_workers_reach_the_run(asked, capfd):
    assert run([*BASE, "--pretrained", "--resume", "--workers", "auto"]) == 0
    config, _, rest = asked[0]
    assert (config.pretrained, config.workers, rest["resume"]) == (True, None, True)


def test_a_configuration_file_is_the_same_run_again(asked, capfd, tmp_path):
    run([*BASE, *EVERYTHING])
    file = tmp_path / "config.yaml"
    file.write_text(asked[0][0].to_yaml())
    assert run(["compress", "--config", str(file), "--out", "runs/again"]) == 0
    assert asked[1][0] == asked[0][0]


def test_flags_beside_a_configuration_file_replace_what_it_says(asked, capfd, tmp_path):
    run([*BASE, *EVERYTHING])
    file = tmp_path / "config.yaml"
    file.write_text(asked[0][0].to_yaml())
    flags = ["--budget", "size<=1MB", "--threads", "8", "--seed", "9", "--time", "20s", "--augment", "none"]
    assert run(["compress", "--config", str(file), "--out", "runs/again", *flags]) == 0
    before, after = asked[0][0], asked[1][0]
    options = before.options.model_copy(update={"seed": 9, "augment": "none"})
    target = before.target.model_copy(update={"threads": 8})
    changes = {"budget": "size<=1MB", "target": target, "seed": 9, "time_s": 20.0, "options": options}
    assert after == before.model_copy(update=changes)


def test_a_configuration_of_a_python_object_asks_for_a_name(asked, capfd, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(RunConfig(model="object", data="digits", budget="size<=1MB").to_yaml())
    assert run(["compress", "--config", str(file), "--out", "x"]) == 2
    assert "cannot name; give MODEL beside --config" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threads", "0"], "--threads must be greater than or equal to 1, got 0"),
        (["--trials", "0"], "--trials must be greater than or equal to 1, got 0"),
        (["--input-size", "0"], "--input-size must be greater than or equal to 1, got 0"),
        (["--target", "tflite"], "--target must be 'onnxruntime', got 'tflite'"),
        (["--augment", "mixup"], "--augment must be 'none', 'shift' or 'shift+flip', got 'mixup'"),
        (["--metric", "f1"], "--metric must be 'accuracy' or 'balanced_accuracy', got 'f1'"),
        (["--sampler", "grid"], "--sampler must be 'surrogate', 'tpe', 'nsga2' or 'random', got 'grid'"),
        (["--minimize", "speed"], "--minimize must be 'latency'"),
        (["--minimize", "accuracy"], "--minimize takes a cost (latency, size, ram, macs or params), got accuracy"),
        (
            ["--minimize", "energy"],
            "energy cannot be minimized: no search predicts or measures it; minimize latency instead",
        ),
        (["--time", "soon"], "--time: a duration looks like 90s, 10m or 1h30m, got 'soon'"),
        (["--mean", "0.5,red"], "--mean takes one number a channel, as 0.485,0.456,0.406; got '0.5,red'"),
        (["--workers", "many"], "--workers takes a number, or auto for one a core; got 'many'"),
        (["--workers", "0"], "--workers must be greater than or equal to 1, got 0"),
        (["--trials", "few"], "'--trials': must be a valid integer"),
        (["--frobnicate"], "No such option"),
        (["--budget", "latncy<=5ms"], "near: latency"),
    ],
)
def test_a_flag_that_does_not_hold_is_named_and_nothing_runs(asked, capfd, flags, message):
    assert run([*BASE, *flags]) == 2
    out, err = capfd.readouterr()
    assert message in err
    assert out == ""
    assert not asked


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["--out", "x"], "MODEL"),
        (["m", "--out", "x"], "--data"),
        (["m", "--data", "digits", "--out", "x"], "--budget"),
        (MODEL, "--out"),
    ],
)
def test_a_missing_argument_is_named(asked, capfd, words, missing):
    assert run(["compress", *words]) == 2
    rule = "Missing option '--out'" if missing == "--out" else f"{missing} is missing. Example: autocompress compress"
    assert rule in capfd.readouterr().err


def test_measure_hands_over_file_and_target(monkeypatch, capfd):
    seen = {}

    def stop(file, *, target):
        seen.update(file=file, target=target)
        raise InputError("enough")

    monkeypatch.setattr(measuring, "measure", stop)
    assert run(["measure", "a.onnx", "--threads", "2"]) == 2
    assert (seen["file"], seen["target"].threads, seen["target"].batch) == (Path("a.onnx"), 2, 1)


def test_verify_hands_over_folder_and_data(monkeypatch, capfd):
    seen = {}

    def stop(folder, *, data, observer):
        seen.update(folder=folder, data=data)
        raise InputError("enough")

    monkeypatch.setattr(verifying, "verify", stop)
    assert run(["verify", "runs/x", "--data", "photos/"]) == 2
    assert seen == {"folder": Path("runs/x"), "data": "photos/"}


@pytest.mark.parametrize(("flags", "seed"), [([], 7), (["--seed", "3"], 3)])
def test_apply_takes_the_seed_of_its_recipe_unless_given_another(monkeypatch, capfd, tmp_path, flags, seed):
    seen = []

    def stop(recipe, config, out, **rest):
        seen.append((recipe, config, out, rest))
        raise InputError("enough")

    monkeypatch.setattr(applying, "apply", stop)
    recipe = Recipe(passes=(), seed=7)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    words = ["apply", str(file), "resnet18", "--data", "digits", "--out", "o", "--checkpoint", "w.st", "--time", "30s"]
    assert run([*words, *flags]) == 2
    found, config, out, _ = seen[0]
    assert (found, config.seed, config.options.seed, out) == (recipe, seed, seed, Path("o"))
    assert (config.model, config.checkpoint, config.budget, config.time_s) == ("resnet18", "w.st", "", 30.0)


def test_the_json_of_a_run_is_its_result(asked, capfd):
    assert run([*BASE, "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == json.loads(sample_result().to_json())
