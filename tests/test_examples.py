"""The examples and the README's commands do what they say, run as a user runs them, with less time."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from tiny_runs import BRIEF_COMMAND, brief_measuring, costs_by_size

from autocompress.commands import baseline, compress
from autocompress.passes import PassContext
from autocompress.passes.compose import compose
from autocompress.recipe import Recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.slow


@pytest.fixture
def run_script(monkeypatch, capsys):
    """Runs a script as a program, in this process and without Ray; what it prints. Costs are made up."""

    def run(script: Path, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(script), *words])
        monkeypatch.setattr(compress, "ray_launcher", lambda *_: pytest.fail("a short run starts no workers"))
        monkeypatch.setattr(baseline, "LEAST_S", 1.0)
        with brief_measuring(), costs_by_size():
            runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_the_python_call_ends_in_a_verdict_and_a_module(run_script, tmp_path):
    """With timm's smallest network of the kind, and no time for more than one trial, which then is the answer."""
    example = (ROOT / "examples/python_call.py").read_text()
    assert '"resnet10t"' in example
    (script := tmp_path / "python_call.py").write_text(example.replace('"resnet10t"', '"test_resnet"'))

    said = run_script(script, "--out", str(tmp_path / "run"), "--time", "1s")

    assert said.startswith("Met:")
    assert re.search(r"^\d+ parameters$", said, re.MULTILINE)
    notes = json.loads((tmp_path / "run/result.json").read_text())["notes"]
    assert [note for note in notes if "there was no time for more than the trial had" in note]
    assert "This model was not recovered in full" in (tmp_path / "run/best/README.md").read_text()


def test_a_recipe_replayed_gives_the_same_file(run_script, tmp_path):
    """With a tenth of the recipe's steps, for timm's smallest network of the kind, whose layers have the same names."""
    recipe, example = (ROOT / "examples/recipe.yaml").read_text(), (ROOT / "examples/replay_recipe.py").read_text()
    assert "steps: 60," in recipe
    assert "rank: 96}" in recipe
    (tmp_path / "recipe.yaml").write_text(recipe.replace("steps: 60,", "steps: 6,").replace("rank: 96}", "rank: 24}"))
    (script := tmp_path / "replay_recipe.py").write_text(example.replace('"resnet10t"', '"test_resnet"'))

    said = run_script(script, "--out", str(tmp_path / "run"), "--time", "3s")

    assert "the same file twice: True" in said


def test_the_replayed_recipe_is_carried_out_whole_on_the_network_that_the_example_names():
    network = timm.create_model("resnet10t", num_classes=10).eval()
    recipe = Recipe.from_yaml((ROOT / "examples/recipe.yaml").read_text())
    made = compose(network, recipe, PassContext(example=torch.zeros(1, 3, 32, 32), seed=0))
    assert made.skipped == {}
    assert {key.partition(": ")[0] for key in made.changed} == {"prune_channels", "factorize", "quantize"}


def test_an_own_network_with_its_own_task_and_metric(run_script, tmp_path):
    said = run_script(ROOT / "examples/own_module_and_task.py", "--out", str(tmp_path / "run"), "--time", "6s")

    assert said.startswith("Met:")


def readme_commands() -> list[str]:
    """Lines of the README's console blocks that call the program."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("autocompress ")]


def test_the_first_command_of_the_readme_is_what_make_demo_runs():
    joined = " ".join((ROOT / "Makefile").read_text().replace("\\\n", " ").split())

    assert shlex.split(readme_commands()[0])[1:] == shlex.split(
        joined.split("$(BIN)/autocompress ")[1].split(" --overwrite")[0]
    )


def test_the_other_commands_of_the_readme_run(tmp_path):
    """In a process of their own."""
    (command,) = readme_commands()[1:]
    words = shlex.split(command)[1:]
    words[words.index("--out") + 1] = str(tmp_path / "run")
    words[words.index("--time") + 1] = "6s"

    ended = subprocess.run(
        [sys.executable, "-c", BRIEF_COMMAND, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "run/report.html").is_file()


def test_the_python_block_of_the_readme_runs(run_script, tmp_path):
    """With less time and a smaller network than ``make demo``, which runs and measures the one that is named."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shortened = (
        block.replace('"3m"', '"12s"')
        .replace('"resnet18"', '"test_resnet"')
        .replace('"runs/digits"', repr(str(tmp_path / "run")))
    )
    (script := tmp_path / "readme.py").write_text(shortened)

    assert run_script(script).startswith("Met:")
