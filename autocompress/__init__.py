"""The most accurate model that meets your budget, measured on your hardware.

::

    import autocompress as ac

    result = ac.compress("resnet18", "digits", "latency<=60%,size<=35%", out="runs/digits")
    model = ac.load("runs/digits")

Names are resolved when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autocompress.api import apply, candidates, compress, plan
    from autocompress.budget import Budget
    from autocompress.commands.doctor import doctor
    from autocompress.commands.measure import measure
    from autocompress.commands.predict import predict
    from autocompress.commands.profile import export_kit, import_results, profile
    from autocompress.commands.report import report
    from autocompress.commands.spaces import spaces
    from autocompress.commands.techniques import techniques
    from autocompress.commands.verify import verify
    from autocompress.data.options import DataOptions
    from autocompress.delivery.bundle import load
    from autocompress.errors import AutocompressError
    from autocompress.hardware.kernels.runtime_graph import runtime_graph
    from autocompress.hardware.predictor.predictor import LatencyPredictor
    from autocompress.recipe import Recipe
    from autocompress.result import Result
    from autocompress.search.space import load_space, shipped_spaces
    from autocompress.students.architecture_file import build_student
    from autocompress.students.family import load_family, shipped_families
    from autocompress.sweep import Sweep
    from autocompress.target import Target
    from autocompress.task import Augment, Layout, Preprocess, Split, Task

__version__ = "0.1.0"

_HOMES = {
    "Augment": "task",
    "AutocompressError": "errors",
    "Budget": "budget",
    "DataOptions": "data.options",
    "LatencyPredictor": "hardware.predictor.predictor",
    "Layout": "task",
    "Preprocess": "task",
    "Recipe": "recipe",
    "Result": "result",
    "Split": "task",
    "Sweep": "sweep",
    "Target": "target",
    "Task": "task",
    "apply": "api",
    "build_student": "students.architecture_file",
    "candidates": "api",
    "compress": "api",
    "doctor": "commands.doctor",
    "export_kit": "commands.profile",
    "import_results": "commands.profile",
    "load": "delivery.bundle",
    "load_family": "students.family",
    "load_space": "search.space",
    "measure": "commands.measure",
    "plan": "api",
    "predict": "commands.predict",
    "profile": "commands.profile",
    "report": "commands.report",
    "runtime_graph": "hardware.kernels.runtime_graph",
    "shipped_families": "students.family",
    "shipped_spaces": "search.space",
    "spaces": "commands.spaces",
    "techniques": "commands.techniques",
    "verify": "commands.verify",
}

__all__ = [
    "Augment",
    "AutocompressError",
    "Budget",
    "DataOptions",
    "LatencyPredictor",
    "Layout",
    "Preprocess",
    "Recipe",
    "Result",
    "Split",
    "Sweep",
    "Target",
    "Task",
    "apply",
    "build_student",
    "candidates",
    "compress",
    "doctor",
    "export_kit",
    "import_results",
    "load",
    "load_family",
    "load_space",
    "measure",
    "plan",
    "predict",
    "profile",
    "report",
    "runtime_graph",
    "shipped_families",
    "shipped_spaces",
    "spaces",
    "techniques",
    "verify",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'autocompress' has no attribute {name!r}")
    return getattr(importlib.import_module(f"autocompress.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
