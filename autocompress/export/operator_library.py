"""torch's exporter with what it says of operators worked out once per process."""

import copy
import importlib
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

# Where, and what: it reads the source of translations; lists the operators to decompose; asks each whether it could be.
_SLOW = (
    ("torch.onnx._internal.exporter._registration.ONNXRegistry", "from_torchlib"),
    ("torch.onnx._internal.exporter._decomp", "create_onnx_friendly_decomposition_table"),
    ("torch.export.exported_program", "_collect_all_valid_cia_ops"),
)
_kept: dict[Hashable, Any] = {}


@contextmanager
def shared_library() -> Iterator[None]:
    """Exports inside share what torch would work out anew at every export (some 0.2 s).

    Outside, torch is as it was. torch keeps these places to itself: where a version has moved one, exports are slower
    and no less right.
    """
    found = [(home, name) for path, name in _SLOW if name in vars(home := _home(path))]
    originals = [vars(home)[name] for home, name in found]
    for home, name in found:
        setattr(home, name, partial(_worked_out_once, name, getattr(home, name)))
    try:
        yield
    finally:
        for (home, name), original in zip(found, originals, strict=True):
            setattr(home, name, original)


def _worked_out_once(name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """May be shared: an export that brings no operators of its own adds none. As copies: torch deletes from some."""
    given = tuple(frozenset(arg) if isinstance(arg, set) else arg for arg in args)
    # Operators of torchvision are found only where it has been imported.
    key = (name, given, tuple(kwargs.items()), "torchvision" in sys.modules)
    if key not in _kept:
        _kept[key] = original(*args, **kwargs)
    return copy.copy(_kept[key])


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
