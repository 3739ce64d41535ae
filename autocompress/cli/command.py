"""From a function that returns an ``Answer`` to a command: its flags, its output and its exit codes."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TextIO, get_type_hints

import typer

from autocompress.cli.answer import Answer
from autocompress.cli.endings import complain, ending_of, show_traceback, sigterm_unwinds, wants_debug
from autocompress.cli.outlet import reserved_stdout

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, all else on standard error.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; also AUTOCOMPRESS_DEBUG=1.")]
_COMMON = {"json_": Json, "debug": Debug}


def command(function: Callable[..., Answer]) -> Callable[..., None]:
    """``function`` as typer takes it, with ``--json`` and ``--debug`` added.

    A parameter whose type is a dataclass stands for one flag a field. Standard output gets nothing but the answer (or,
    with ``--json``, the error); the command ends in ``typer.Exit`` with the code that the outcome has.
    """

    def run(**given: Any) -> None:
        as_json, debug = given.pop("json_"), given.pop("debug")
        with reserved_stdout() as out, sigterm_unwinds():
            code = _carry_out(function, given, out, as_json=as_json, debug=wants_debug(flag=debug))
        raise typer.Exit(code)

    parameters = [*_flat_parameters(function), *_common_parameters()]
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _carry_out(
    function: Callable[..., Answer], given: Mapping[str, Any], out: TextIO, *, as_json: bool, debug: bool
) -> int:
    """Call ``function`` and print what comes of it; the exit code."""
    try:
        answer = function(**_gathered(function, given))
        _print_answer(answer, out, as_json=as_json)
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:  # the last border: whatever it is ends in a message and a code
        ending = ending_of(error)
        if debug:
            show_traceback(error)
        complain(ending)
        if as_json:
            print(ending.to_json(), file=out)
        return ending.code
    return answer.exit_code


def _print_answer(answer: Answer, out: TextIO, *, as_json: bool) -> None:
    if as_json:
        print(answer.to_json(), file=out)
        return
    from rich.console import Console

    answer.show(Console(file=out, highlight=False))


def _flat_parameters(function: Callable[..., Answer]) -> Iterator[inspect.Parameter]:
    """The parameters of ``function`` as keyword-only ones, dataclasses replaced by their fields."""
    for parameter in inspect.signature(function).parameters.values():
        if not dataclasses.is_dataclass(parameter.annotation):
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        hints = get_type_hints(parameter.annotation, include_extras=True)
        for field in dataclasses.fields(parameter.annotation):
            default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
            )


def _common_parameters() -> Iterator[inspect.Parameter]:
    for name, annotation in _COMMON.items():
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _gathered(function: Callable[..., Answer], given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of the command line as the arguments of ``function``."""
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        kind = parameter.annotation
        if dataclasses.is_dataclass(kind):
            fields = {field.name: given[field.name] for field in dataclasses.fields(kind)}
            arguments[parameter.name] = kind(**fields)  # type: ignore[operator]
        else:
            arguments[parameter.name] = given[parameter.name]
    return arguments
