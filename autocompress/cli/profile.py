"""``autocompress profile``: the latency profile of this machine, or of another device."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autocompress.cli.answer import Answer

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.commands.profile import KitSummary, ProfileSummary
    from autocompress.hardware.predictor.card import AccuracyCard

EXAMPLES = """
autocompress profile

autocompress profile --time 20m --threads 2

autocompress profile --anew

autocompress profile --export-kit kit.zip --kit-time 10m

autocompress profile --import results.jsonl --out profiles/tablet
"""
KIT = "Another device"


@dataclass(frozen=True, kw_only=True)
class PlaceFlags:
    """Where profiles lie."""

    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default="the cache folder", help="The profile: a new folder, or one to extend."
        ),
    ] = None
    profiles: Annotated[
        list[Path] | None,
        typer.Option(
            "--profile",
            metavar="DIR",
            help="Take over this profile; without --out, extend it. With --import, adapt it.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class KitFlags:
    """Of a profile of another device."""

    export_kit: Annotated[
        Path | None,
        typer.Option(metavar="FILE.zip", rich_help_panel=KIT, help="Write a kit to run there; measures nothing here."),
    ] = None
    kit_time: Annotated[
        str | None,
        typer.Option(metavar="TIME", show_default="5m", rich_help_panel=KIT, help="How long the kit may run there."),
    ] = None
    results: Annotated[
        Path | None,
        typer.Option("--import", metavar="results.jsonl", rich_help_panel=KIT, help="What the kit has written there."),
    ] = None


def profile(
    places: PlaceFlags,
    kit: KitFlags,
    time: Annotated[
        str | None,
        typer.Option(metavar="TIME", show_default="5m", help="Of measuring and judging: 90s, 5m; more is better."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=256, metavar="N", show_default="1", help="Of one inference in the runtime."),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin a new profile where one is: the machine is not as it was.")
    ] = False,
) -> Answer:
    """Measure networks of many kinds, so that the latency of any other can be predicted.

    Run again it goes on where it was: a longer time makes a better profile.
    """
    from autocompress.cli.progress import watching
    from autocompress.commands import profile as profiling

    _refuse_two_at_once(places, kit, {"--time": time, "--threads": threads, "--anew": anew or None})
    try:
        with watching("profile") as observer:
            if kit.export_kit is not None:
                written = profiling.export_kit(
                    kit.export_kit, time=kit.kit_time or profiling.TIME, threads=threads or 1, observer=observer
                )
                return Answer(facts=written, show=lambda console: show_kit(console, written))
            if kit.results is not None:
                base = places.profiles[0] if places.profiles else None
                summary = profiling.import_results(kit.results, out=places.out, base=base, observer=observer)
            else:
                summary = profiling.profile(
                    time=time or profiling.TIME,
                    out=places.out,
                    profiles=places.profiles or (),
                    threads=threads or 1,
                    anew=anew,
                    observer=observer,
                )
    except KeyboardInterrupt as stop:
        stop.add_note("what was measured is kept; the same command goes on")
        raise
    return Answer(facts=summary, show=lambda console: show_summary(console, summary))


def _refuse_two_at_once(places: PlaceFlags, kit: KitFlags, of_measuring: dict[str, object]) -> None:
    from autocompress.errors import InputError

    given = dict(of_measuring)
    if kit.export_kit is not None:
        del given["--threads"]
        given |= {"--out": places.out, "--import": kit.results, "--profile": places.profiles or None}
        what = "--export-kit writes a zip file for another device and takes --kit-time and --threads"
    elif kit.results is not None:
        several = places.profiles if len(places.profiles or ()) > 1 else None
        given |= {"--kit-time": kit.kit_time, "more than one --profile": several}
        what = "--import makes a profile of what was measured elsewhere and takes --out and one --profile to adapt"
    else:
        given = {"--kit-time": kit.kit_time}
        what = "--kit-time goes with --export-kit; the time of measuring here is --time"
    wrong = [flag for flag, value in given.items() if value is not None]
    if wrong:
        raise InputError(f"{what}; got {' and '.join(wrong)} as well")


def show_summary(console: "Console", summary: "ProfileSummary") -> None:
    """The profile and its accuracy card."""
    from autocompress.cli.tables import say
    from autocompress.units import format_duration

    here = summary.circumstances
    say(console, f"{summary.folder}", "bold")
    say(
        console,
        f"{here.cpu}, onnxruntime {here.onnxruntime}, threads {here.threads}: {summary.files} networks, "
        f"{summary.new_files} of them new, {format_duration(summary.seconds)}",
    )
    if summary.card is not None:
        console.print()
        show_card(console, summary.card)
    for note in summary.notes:
        say(console, f"note: {note}", "yellow")
    say(console, f"predict  {shlex.join(['autocompress', 'predict', 'FILE.onnx', '--profile', summary.folder])}")


def show_card(console: "Console", card: "AccuracyCard") -> None:
    """Errors of predictions for files that were left out of the fit, by kind, and those of simpler methods.

    Mean relative error, shares of files within 5 and 10 %, bias, rank correlation, share inside the 90 % interval.
    """
    from autocompress.cli.tables import plain_table, say

    say(console, f"Predicted by fits on other networks, {card.folds} folds over {card.files} files", "bold")
    numbers = ("files", "error", "±5%", "±10%", "bias", "Spearman", "in 90%")
    table = plain_table("", *numbers, right=numbers)
    rows = {
        "all": card.all,
        **card.by_precision,
        **card.by_family,
        **{f"baseline: {name}": each for name, each in card.baselines.items()},
    }
    for name, each in rows.items():
        table.add_row(
            name,
            str(each.files),
            f"{each.mape:.1%}",
            f"{each.within_5:.0%}",
            f"{each.within_10:.0%}",
            f"{each.bias:+.1%}",
            "–" if each.spearman is None else f"{each.spearman:.3f}",
            "–" if each.coverage is None else f"{each.coverage:.0%}",
        )
    console.print(table)
    if card.a_a_floor is not None:
        say(console, f"the same file measured twice differs by {card.a_a_floor:.1%}", "dim")


def show_kit(console: "Console", kit: "KitSummary") -> None:
    """What to do with the kit."""
    from autocompress.cli.tables import say
    from autocompress.units import Kind, format_quantity

    size = format_quantity(kit.size_bytes, Kind.BYTES)
    say(console, f"{kit.kit}: {kit.models} models, {size}, threads {kit.threads}", "bold")
    say(console, "on the device  unzip it; pip install numpy onnxruntime; python runner.py plan.json")
    say(console, "then here      autocompress profile --import results.jsonl --out DIR")
