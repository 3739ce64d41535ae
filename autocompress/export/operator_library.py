"""torch's exporter with its library of operators read once per process."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

_HOME, _CLASS, _READER = "torch.onnx._internal.exporter._registration", "ONNXRegistry", "from_torchlib"


@contextmanager
def shared_library() -> Iterator[None]:
    """Exports inside share one library of operators, which torch reads from source at every export (0.3 s).

    Outside, torch is as it was. torch keeps this place to itself: where a version has moved it, exports are slower and
    no less right.
    """
    registry = _registry()
    original = vars(registry).get(_READER) if registry else None
    if original is None:
        yield
        return
    # Operators of torchvision are found only where it has been imported.
    setattr(registry, _READER, partial(_read_once, getattr(registry, _READER), "torchvision" in sys.modules))
    try:
        yield
    finally:
        setattr(registry, _READER, original)


@cache
def _read_once(read: Callable[..., Any], _with_torchvision: bool, *args: Any, **kwargs: Any) -> Any:
    return read(*args, **kwargs)  # may be shared: an export that brings no operators of its own adds none


def _registry() -> type | None:
    try:
        return getattr(importlib.import_module(_HOME), _CLASS, None)
    except ImportError:
        return None
