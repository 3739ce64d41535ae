"""All commands under one name."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from autocompress import __version__
from autocompress.cli.apply import EXAMPLES as APPLY
from autocompress.cli.apply import apply
from autocompress.cli.candidates import EXAMPLES as CANDIDATES
from autocompress.cli.candidates import candidates
from autocompress.cli.command import command
from autocompress.cli.compress import EXAMPLES as COMPRESS
from autocompress.cli.compress import compress
from autocompress.cli.doctor import EXAMPLES as DOCTOR
from autocompress.cli.doctor import doctor
from autocompress.cli.endings import BAD_INPUT, Ending, complain
from autocompress.cli.measure import EXAMPLES as MEASURE
from autocompress.cli.measure import measure
from autocompress.cli.outlet import end_stdout
from autocompress.cli.plan import EXAMPLES as PLAN
from autocompress.cli.plan import plan
from autocompress.cli.predict import EXAMPLES as PREDICT
from autocompress.cli.predict import predict
from autocompress.cli.profile import EXAMPLES as PROFILE
from autocompress.cli.profile import profile
from autocompress.cli.report import EXAMPLES as REPORT
from autocompress.cli.report import report
from autocompress.cli.spaces import EXAMPLES as SPACES
from autocompress.cli.spaces import spaces
from autocompress.cli.techniques import EXAMPLES as TECHNIQUES
from autocompress.cli.techniques import techniques
from autocompress.cli.verify import EXAMPLES as VERIFY
from autocompress.cli.verify import verify

COMMANDS = (
    (compress, COMPRESS),
    (plan, PLAN),
    (profile, PROFILE),
    (predict, PREDICT),
    (measure, MEASURE),
    (verify, VERIFY),
    (apply, APPLY),
    (candidates, CANDIDATES),
    (report, REPORT),
    (spaces, SPACES),
    (techniques, TECHNIQUES),
    (doctor, DOCTOR),
)
# What typer raises for flags that it cannot read: the base of an exception that it exports, its own class being private
# or click's, by version.
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="autocompress",
    help="The most accurate model that meets your budget, measured on your hardware.",
    epilog="Example: autocompress compress resnet18 --data digits --budget 'latency<=60%,size<=35%' --out runs/digits",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _function, _examples in COMMANDS:
    app.command(epilog=f"Examples:\n\n{_examples.strip()}")(command(_function))


def _print_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"autocompress {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda v: _print_version(wanted=v), help="Print the version."
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None and not version:
        typer.echo(ctx.get_help())
        raise typer.Exit(BAD_INPUT)


def run(argv: Sequence[str]) -> int:
    """The exit code of ``autocompress`` with these words."""
    words = list(argv)
    try:
        return int(app(args=words, prog_name="autocompress", standalone_mode=False, obj=words) or 0)
    except USAGE_ERROR as error:
        ending = _usage_ending(error)
        complain(ending)
        if "--json" in words:
            typer.echo(ending.to_json())
        return ending.code


def main() -> None:
    """The console script."""
    # Torch's threads wait for each other after every layer. Where another program has one of the cores, waiting in a
    # loop takes the rest of it away from the one that is waited for; on a quiet machine sleeping costs 2 %.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    code = run(sys.argv[1:])
    end_stdout()
    sys.exit(code)


def _usage_ending(error: Exception) -> Ending:
    place = getattr(error, "ctx", None)
    path = place.command_path if place is not None else "autocompress"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    message = message.replace("Input should be", "must be")
    return Ending(code=BAD_INPUT, kind="UsageError", message=f"{message}\n{path} --help shows the flags and an example")
