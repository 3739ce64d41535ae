"""torch's exporter with what it says of operators worked out once per process."""

import copy
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

# Where, and what: it reads the source of translations; lists the operators to decompose; asks each whether it could be.
_SLOW = (
    ("torch.onnx._internal.exporter._registration.ONNXRegistry", "from_torchlib"),
    ("torch.onnx._internal.exporter._decomp", "create_onnx_friendly_decomposition_table"),
    ("torch.export.exported_program", "_collect_all_valid_cia_ops"),
)


@contextmanager
def shared_library() -> Iterator[None]:
    """Exports inside share what torch would work out anew at every export (some 0.2 s).

    Outside, torch is as it was. torch keeps these places to itself: where a version has moved one, exports are slower
    and no less right.
    """
    found = [(home, name) for path, name in _SLOW if name in vars(home := _home(path))]
    originals = [vars(home)[name] for home, name in found]
    for home, name in found:
        setattr(home, name, partial(_copied, getattr(home, name)))
    try:
        yield
    finally:
        for (home, name), original in zip(found, originals, strict=True):
            setattr(home, name, original)


def _copied(work_out: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A copy of what is shared: torch deletes from it."""
    given = [frozenset(arg) if isinstance(arg, set) else arg for arg in args]
    # Operators of torchvision are found only where it has been imported.
    return copy.copy(_once(work_out, "torchvision" in sys.modules, *given, **kwargs))


@cache
def _once(work_out: Callable[..., Any], _with_torchvision: bool, *args: Any, **kwargs: Any) -> Any:
    return work_out(*args, **kwargs)  # may be shared: an export that brings no operators of its own adds none


def _home(path: str) -> Any:
    """The module or class at ``path``; something empty where there is none."""
    try:
        return importlib.import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name, _Nothing)
        except ImportError:
            return _Nothing


class _Nothing:
    """Holds no function."""
