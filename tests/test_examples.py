"""The examples and the README's commands do what they say, run as a user runs them, with less time."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def run_python(*words: str, timeout_s: float = 280) -> str:
    """Standard output of Python with these arguments, in the repository's folder; it must end with 0."""
    ended = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.mark.quiet  # a part of the original's latency is asked for
def test_the_python_call_ends_in_a_verdict_and_a_module(tmp_path):
    said = run_python("examples/python_call.py", "--out", str(tmp_path / "run"), "--time", "30s")

    assert said.startswith("Met:")
    assert re.search(r"^\d+ parameters$", said, re.MULTILINE)


def test_a_recipe_replayed_gives_the_same_file(tmp_path):
    said = run_python("examples/replay_recipe.py", "--out", str(tmp_path), "--time", "8s")

    assert "the same file twice: True" in said


def test_an_own_network_with_its_own_task_and_metric(tmp_path):
    said = run_python("examples/own_module_and_task.py", "--out", str(tmp_path / "run"), "--time", "15s")

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
    (command,) = readme_commands()[1:]
    words = shlex.split(command)[1:]
    words[words.index("--out") + 1] = str(tmp_path / "run")
    words[words.index("--time") + 1] = "15s"

    run_python("-m", "autocompress", *words)

    assert (tmp_path / "run/report.html").is_file()


@pytest.mark.quiet
def test_the_python_block_of_the_readme_runs(tmp_path):
    """With less time and a smaller network than ``make demo``, which runs the same with the one that is named."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shortened = (
        block.replace('"3m"', '"30s"')
        .replace('"resnet18"', '"resnet10t"')
        .replace('"runs/digits"', repr(str(tmp_path / "run")))
    )
    script = tmp_path / "readme.py"
    script.write_text("if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in shortened.splitlines()))

    assert run_python(str(script)).startswith("Met:")
