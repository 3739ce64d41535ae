"""The techniques: what each is, what its settings are, what it saves, and where it comes from."""

import typing
from collections.abc import Iterator

from autocompress.commands.technique_costs import TechniqueCosts, measure_techniques
from autocompress.events import Observer
from autocompress.facts import Facts
from autocompress.hardware.kept import circumstances_of, keep, recall
from autocompress.hardware.machine import this_machine
from autocompress.passes import PASSES, Pass
from autocompress.target import Machine


class Technique(Facts):
    """One pass. ``saves`` is what it can save in principle, ``settings`` the names of its knobs."""

    name: str
    does: str
    settings: tuple[str, ...]
    saves: str
    source: str


class TechniqueTable(Facts):
    """Every pass, and what was measured of them here; ``measure_with`` is the command that measures it (anew)."""

    techniques: tuple[Technique, ...]
    measured: TechniqueCosts | None
    measure_with: str


def techniques(*, threads: int = 1) -> TechniqueTable:
    """The table of techniques, with what ``doctor`` has measured on this machine with ``threads``; measures nothing."""
    return TechniqueTable(
        techniques=tuple(described(kind) for _, kind in PASSES.items()),
        measured=kept_costs(threads),
        measure_with=measuring_command(threads),
    )


def kept_costs(threads: int) -> TechniqueCosts | None:
    """What was measured on this machine with ``threads`` and the installed runtime; None where nothing was yet."""
    return recall(TechniqueCosts, circumstances_of(this_machine(), threads))


def measuring_command(threads: int) -> str:
    """What measures the savings with ``threads``."""
    return "autocompress doctor --techniques" + (f" --threads {threads}" if threads > 1 else "")


def measure_and_keep(machine: Machine, observer: Observer, *, threads: int = 1) -> TechniqueCosts:
    """Measure what techniques save here, and keep it for ``techniques``; takes about a minute.

    Args:
        machine: this one, with the type of int8 activations to use.
        observer: told of the layers.
        threads: of the runtime.

    Raises:
        MeasurementError: the runtime cannot run one of the files.
        OSError: the user's cache folder cannot be written.
        RuntimeError: the user has none.
    """
    costs = measure_techniques(machine, observer, threads=threads)
    keep(costs)
    return costs


def described(kind: type[Pass]) -> Technique:
    """What a pass says of itself."""
    return Technique(
        name=kind.name,
        does=_first_sentence(kind),
        settings=tuple(dict.fromkeys(_settings(kind))),
        saves=kind.saves,
        source=kind.source,
    )


def _first_sentence(kind: type[Pass]) -> str:
    paragraph = (kind.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.replace("``", "").split()).partition(". ")[0].removesuffix(".")


def _settings(kind: type[Facts]) -> Iterator[str]:
    """The fields of a pass; where a field holds settings of each layer, those."""
    for name, about in kind.model_fields.items():
        inner = [each for each in (about.annotation, *typing.get_args(about.annotation)) if _is_facts(each)]
        if inner:
            yield from inner[0].model_fields
        else:
            yield name


def _is_facts(kind: object) -> typing.TypeGuard[type[Facts]]:
    return isinstance(kind, type) and issubclass(kind, Facts)
