"""The techniques: what each is, what its settings are, what it saves, and where it comes from."""

import typing
from collections.abc import Iterator

from autocompress.commands.technique_costs import TechniqueCosts, measure_techniques
from autocompress.events import Observer
from autocompress.facts import Facts
from autocompress.hardware.int8_activations import with_measured_activations
from autocompress.hardware.kept import circumstances_of, keep, recall
from autocompress.hardware.machine import this_machine
from autocompress.passes import PASSES, Pass


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
        measured=recall(TechniqueCosts, circumstances_of(this_machine(), threads)),
        measure_with=measuring_command(threads),
    )


def measuring_command(threads: int) -> str:
    """What measures the savings with ``threads``."""
    return "autocompress doctor --techniques" + (f" --threads {threads}" if threads > 1 else "")


def measure_and_keep(observer: Observer, *, threads: int = 1) -> TechniqueCosts:
    """Measure what techniques save here, and keep it for ``techniques``; takes about a minute.

    Raises:
        MeasurementError: the runtime cannot run one of the files.
        OSError: the user's cache folder cannot be written.
    """
    costs = measure_techniques(with_measured_activations(this_machine(), observer), observer, threads=threads)
    keep(costs)
    return costs


def described(kind: type[Pass]) -> Technique:
    """What a pass says of itself."""
    return Technique(
        name=kind.name,
        does=(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("``", "").strip(),
        settings=tuple(dict.fromkeys(_settings(kind))),
        saves=kind.saves,
        source=kind.source,
    )


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
