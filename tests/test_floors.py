"""Imports go down the floors only, heavy packages stay in their place, nothing prints, nothing unpickles.

Read from the source, so that imports inside functions and under ``TYPE_CHECKING`` count too.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import autocompress

ROOT = Path(autocompress.__file__).parent
# A module belongs to the longest entry that it is or lies in.
FLOORS = {
    0: ["errors", "units", "facts", "garbage", "registry", "paths", "user_code"],
    1: ["budget", "recipe", "task", "target", "measurement", "result", "sweep", "events", "precision", "clock"],
    2: ["linalg", "data"],
    3: ["models", "graph", "layers", "students"],
    4: ["passes"],
    5: ["recover", "export"],
    6: ["hardware", "evaluate"],
    7: ["trial", "rungs", "divergence"],
    8: ["search"],
    9: ["delivery"],
    10: ["api", "cli", "commands", "__init__", "__main__"],
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
# Where a package may be imported; those not listed may be imported anywhere.
HOMES = {
    "optuna": ["search/study.py", "search/sampler.py"],
    "ray": ["search/launch_ray.py"],
    "timm": ["models/timm_zoo.py", "students/timm_"],
    "onnxruntime": ["hardware/", "evaluate.py", "export/", "delivery/report_snippet.py"],
    "onnx": ["export/", "hardware/", "trial.py", "search/quick_files.py"],
    "onnxscript": ["export/"],
    "torch_pruning": ["graph/coupling.py", "graph/channel_scores.py", "graph/pruners.py"],
    "safetensors": ["graph/program.py", "models/checkpoint.py", "commands/baseline.py", "rungs.py"],
    "sklearn": ["data/digits.py", "hardware/predictor/forest.py"],
    "torchvision": ["commands/doctor.py"],
    "PIL": ["data/"],
    "cloudpickle": ["user_code.py", "search/launch_ray.py"],
    "plotly": ["delivery/"],
    "jinja2": ["delivery/"],
    "typer": ["cli/"],
    "click": ["cli/"],
    "rich": ["cli/"],
    "torch": [
        *(
            "linalg/",
            "models/",
            "graph/",
            "layers/",
            "students/",
            "passes/",
            "recover/",
            "export/",
            "search/",
            "delivery/",
            "commands/",
        ),
        *("task.py", "trial.py", "rungs.py", "divergence.py", "api.py"),
    ],
}
# A text that is handed to users, to be run on their side; its tests run it.
SNIPPET = "delivery/report_snippet.py"
EVALUATES = {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "yaml.load"}
PICKLERS = {"pickle", "cloudpickle", "marshal", "shelve", "joblib"}
PICKLES = {"load", "loads", "Unpickler", "dump", "dumps", "Pickler"}


def modules() -> list[str]:
    """Every module of the package by its path."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def floor_of(dotted: str) -> int | None:
    """The floor of ``budget`` or ``search.space``; None when nobody has said where it belongs."""
    parts = dotted.split(".")
    return next(
        (FLOOR_OF[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in FLOOR_OF), None
    )


def dotted_of(module: str) -> str:
    return module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Everything that is imported, wherever in the file, with its line; of ``from a import b``, ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def inner_imports_of(tree: ast.Module) -> list[tuple[str, int]]:
    """Those of this package, without its name; ``autocompress.__version__`` is no module."""
    own = "autocompress."
    inner = [(name.removeprefix(own), line) for name, line in imports_of(tree) if name.startswith(own)]
    return [(name, line) for name, line in inner if not name.startswith("__")]


def called(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call under the name of what is called, ``a.b`` for attributes of names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


# Rules: what in a module's tree breaks one of them, with its line.


def imports_upwards(module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    own = floor_of(dotted_of(module)) or 0
    yield from ((name, line) for name, line in inner_imports_of(tree) if (floor_of(name) or 0) > own)


def imports_a_heavy_package_elsewhere(module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    for name, line in imports_of(tree):
        homes = HOMES.get(name.split(".")[0])
        if homes is not None and not module.startswith(tuple(homes)):
            yield name, line


def prints_outside_the_command_line(module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    if module.startswith("cli/") or module == SNIPPET:
        return
    for name, call in called(tree):
        if name in {"print", "sys.stdout.write", "sys.stderr.write"}:
            yield name, call.lineno


def evaluates_or_unpickles(module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    for name, call in called(tree):
        space, _, function = name.rpartition(".")
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if (
            name in EVALUATES
            or (space in PICKLERS and function in PICKLES)
            or (name == "torch.load" and given.get("weights_only") != "True")
        ):
            yield name, call.lineno


RULES = [imports_upwards, imports_a_heavy_package_elsewhere, prints_outside_the_command_line, evaluates_or_unpickles]


@pytest.mark.parametrize("rule", RULES)
def test_no_module(rule):
    broken = [f"{module}:{line}: {name}" for module in modules() for name, line in rule(module, tree_of(module))]
    assert not broken


def test_every_module_has_a_floor():
    without = [module for module in modules() if floor_of(dotted_of(module)) is None]
    assert not without, "say in FLOORS where they belong"


def test_only_modules_that_have_a_floor_are_imported():
    imported = {name for module in modules() for name, _ in inner_imports_of(tree_of(module))}
    assert not {name for name in imported if floor_of(name) is None}


def test_no_module_has_a_catch_all_name():
    words = {word for module in modules() for word in module.removesuffix(".py").split("/")}
    assert not words & {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("from autocompress.search.space import load_space", "search.space.load_space"),
        ("import autocompress.api", "api"),
        ("from autocompress import api", "api"),
        ("def f():\n    from autocompress.trial import Bench", "trial.Bench"),
        ("if TYPE_CHECKING:\n    from autocompress.cli.app import app", "cli.app.app"),
        ("def f():\n    import ray.util", "ray.util"),
        ("from optuna.trial import Trial", "optuna.trial.Trial"),
        ("class A:\n    def f(self):\n        print(1)", "print"),
        ("x = eval('1')", "eval"),
        ("pickle.loads(b'')", "pickle.loads"),
        ("yaml.load(text)", "yaml.load"),
        ("torch.load(path)", "torch.load"),
    ],
)
def test_what_breaks_the_rules_is_found(source, finding):
    assert found_in(source, "graph/surgery.py") == [finding]


def test_what_keeps_the_rules_is_not():
    assert not found_in("from autocompress.graph.surgery import modules_of\nimport torch", "graph/stages.py")
    assert not found_in("from autocompress.task import Task", "passes/base.py")
    assert not found_in("print(1)", "cli/app.py")
    assert not found_in("torch.load(path, weights_only=True)", "data/load.py")


def found_in(source: str, module: str) -> list[str]:
    return [name for rule in RULES for name, _ in rule(module, ast.parse(source))]
