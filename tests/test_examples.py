"""The examples and the README's commands do what they say, run as a user runs them, with less time."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import brief_measuring

from autocompress.commands import compress
from autocompress.search.launcher import SerialLauncher

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BRIEFLY = """
import sys
sys.path.insert(0, {folder!r})
from tiny_runs import brief_measuring
from autocompress.cli import main

with brief_measuring():
    main()
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def run_script(monkeypatch, capsys):
    """Runs a script as a program, in this process and without Ray; what it prints."""

    def run(script: Path, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(script), *words])
        monkeypatch.setattr(compress, "ray_launcher", lambda *_: SerialLauncher())
        with brief_measuring():
            runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.quiet  # a part of the original's latency is asked for
def test_the_python_call_ends_in_a_verdict_and_a_module(run_script, tmp_path):
    said = run_script(ROOT / "examples/python_call.py", "--out", str(tmp_path / "run"), "--time", "12s")

    assert said.startswith("Met:")
    assert re.search(r"^\d+ parameters$", said, re.MULTILINE)


def test_a_recipe_replayed_gives_the_same_file(run_script, tmp_path):
    said = run_script(ROOT / "examples/replay_recipe.py", "--out", str(tmp_path), "--time", "4s")

    assert "the same file twice: True" in said


def test_an_own_network_with_its_own_task_and_metric(run_script, tmp_path):
    said = run_script(ROOT / "examples/own_module_and_task.py", "--out", str(tmp_path / "run"), "--time", "8s")

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


@pytest.mark.ray
def test_the_other_commands_of_the_readme_run(tmp_path):
    """In a process of their own, with Ray."""
    (command,) = readme_commands()[1:]
    words = shlex.split(command)[1:]
    words[words.index("--out") + 1] = str(tmp_path / "run")
    words[words.index("--time") + 1] = "8s"

    program = BRIEFLY.format(folder=str(Path(__file__).parent))
    ended = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "run/report.html").is_file()


@pytest.mark.quiet
def test_the_python_block_of_the_readme_runs(run_script, tmp_path):
    """With less time and a smaller network than ``make demo``, which runs the same with the one that is named."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shortened = (
        block.replace('"3m"', '"12s"')
        .replace('"resnet18"', '"resnet10t"')
        .replace('"runs/digits"', repr(str(tmp_path / "run")))
    )
    (script := tmp_path / "readme.py").write_text(shortened)

    assert run_script(script).startswith("Met:")
