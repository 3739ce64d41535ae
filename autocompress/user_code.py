"""A user's own callable, from ``path/file.py:name``."""

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import cloudpickle

from autocompress.errors import InputError, near
from autocompress.paths import near_path


def is_code(spec: str) -> bool:
    """Whether ``spec`` means Python code: ``path/file.py:name``, or a ``.py`` file whose name part was left out."""
    return ".py:" in spec or spec.endswith(".py")


def load_callable(spec: str, *, error: type[InputError] = InputError) -> Callable[..., Any]:
    """The callable ``name`` of ``path/file.py:name``.

    The file becomes a module of its own name, registered in ``sys.modules`` and to be pickled by value, so that Ray
    workers get the code itself. Files beside it can be imported from it, as with ``python file.py``, and travel with
    it. The same file with the same content is loaded once.

    Raises:
        InputError: of the kind ``error``: no such file or name, not a callable, or the file itself fails.
    """
    place, _, name = spec.rpartition(":")
    if not place.endswith(".py") or not name.isidentifier():
        raise error(f"own code is named path/file.py:NAME, got {spec!r}; name the callable in the file")
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise error(f"{place} must be a Python file; there is none{near_path(path)}")
    module = _module_of(path, error)
    if not hasattr(module, name):
        raise error(f"{place} must define {name}; it does not{near(name, _public_names(module))}")
    found = getattr(module, name)
    if not callable(found):
        raise error(f"{name} in {place} must be callable, got {type(found).__name__}; name a function or a class")
    return found  # type: ignore[no-any-return]


def call_factory(spec: str, offered: Mapping[str, Any], *, error: type[InputError]) -> Any:
    """What the callable ``spec`` returns, given those of the ``offered`` arguments that its signature names.

    Raises:
        InputError: of the kind ``error``: it cannot be loaded, needs arguments that are not offered, or fails.
    """
    factory = load_callable(spec, error=error)
    parameters = _parameters(factory)
    wanted = {name: value for name, value in offered.items() if name in parameters}
    unknown = [name for name, parameter in parameters.items() if name not in wanted and _is_required(parameter)]
    if unknown:
        rule = f"may take {', '.join(offered)} by name" if offered else "takes no arguments"
        raise error(f"a factory {rule}; {spec} also needs {', '.join(unknown)}; give them defaults")
    try:
        return factory(**wanted)
    except Exception as failure:
        path = Path(spec.rpartition(":")[0]).expanduser().resolve()
        raise error(f"{spec} must run; {_what_failed(path, failure)}") from failure


class _FromSource(SourceFileLoader):
    """Compiles a file anew: what Python keeps of it is told from an edited one by second and size only."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - as the loader has it
        return self.source_to_code(self.get_data(self.path), self.path)


def _module_of(path: Path, error: type[InputError]) -> ModuleType:
    # Content is part of the name: an edited file is a new module, and old classes stay what they were.
    digest = hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()[:12]
    name = f"autocompress_user_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that nothing installed is shadowed
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as failure:
        del sys.modules[name]
        raise error(f"{path} must be importable; {_what_failed(path, failure)}") from failure
    for new in set(sys.modules) - before | {name}:
        if new == name or _lies_beside(sys.modules[new], path):
            cloudpickle.register_pickle_by_value(sys.modules[new])
    return module


def _lies_beside(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:
        return False
    place = Path(file).resolve()
    return place.is_relative_to(path.parent) and "site-packages" not in place.parts


def _what_failed(path: Path, failure: BaseException) -> str:
    what = f"{type(failure).__name__}: {failure}"
    if isinstance(failure, SyntaxError):
        return f"{failure.filename}, line {failure.lineno}: {what}"
    frames = traceback.extract_tb(failure.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) == path]
    return f"{path}, line {own[-1].lineno}: {what}" if own else what


def _public_names(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return {}


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return not variadic and parameter.default is inspect.Parameter.empty
