"""The forecaster of a run: this machine's latency profile, where there is one, and what this network's parts become."""

from collections.abc import Sequence
from pathlib import Path

from autocompress.errors import ProfileError
from autocompress.events import Observer
from autocompress.graph.anatomy import Anatomy
from autocompress.hardware.kept import Circumstances, circumstances_of
from autocompress.hardware.kernels.kernel import digest
from autocompress.hardware.predictor.circumstances import differences, require_same
from autocompress.hardware.predictor.kept_fit import predictor_in
from autocompress.hardware.predictor.predictor import LatencyPredictor
from autocompress.hardware.predictor.profile import is_profile, latest_profile, place_of, read_facts
from autocompress.hardware.predictor.searched import keep_searched
from autocompress.search.forecast import Forecaster, Met
from autocompress.search.kernel_templates import KernelTemplates
from autocompress.search.topology import Topology
from autocompress.target import Machine, Target


def forecaster_for(machine: Machine, target: Target, anatomy: Anatomy, observer: Observer) -> Forecaster | None:
    """Forecasts by the profile of this machine; None, said to ``observer``, where there is none that can be used."""
    found = usable_profile(machine, target, observer)
    if found is None:
        return None
    folder, predictor = found
    templates = KernelTemplates(Topology(anatomy, machine.channel_block), target)
    network = digest("\n".join(f"{each.name} {each.kind} {each.c_in} {each.c_out}" for each in anatomy.layers))
    return Forecaster(
        predictor=predictor,
        target=target,
        templates=templates,
        keep=lambda met: keep_met(folder, met, observer, network),
    )


def usable_profile(
    machine: Machine, target: Target, observer: Observer, given: Path | None = None
) -> tuple[Path, LatencyPredictor] | None:
    """The folder and predictor of this machine's profile; None, said to ``observer``, where none can be used.

    Raises:
        ProfileError: the profile in ``given`` cannot be used.
    """
    here = circumstances_of(machine, target.threads)
    try:
        folder = given or place_of(here)
        if given is None and not is_profile(folder):
            observer.note(
                "no latency profile of this machine: every candidate is measured; `autocompress profile` makes one"
                f"{_unlike(here)}"
            )
            return None
        facts = read_facts(folder)
        require_same(facts.circumstances, here, folder)
        predictor, notes = predictor_in(folder, facts)
    except (ProfileError, OSError) as error:
        if given is not None:
            raise
        observer.note(f"every candidate is measured, as the latency profile cannot be used: {error}")
        return None
    for note in notes:
        observer.note(note)
    return folder, predictor


def _unlike(here: Circumstances) -> str:
    """What is said of the profile in the cache folder that was updated last."""
    latest = latest_profile()
    if latest is None:
        return ""
    folder, facts = latest
    return f"; the one in {folder} differs: {'; '.join(differences(facts.circumstances, here))}"


def keep_met(folder: Path, met: Sequence[Met], observer: Observer, network: str | None = None) -> None:
    """Keep what was measured; a profile that cannot be written to serves as well, it only learns nothing.

    ``network``: see ``keep_searched``.
    """
    try:
        keep_searched(folder, [(each.graph, each.measured_ms) for each in met], network)
    except OSError as error:
        observer.note(f"what this run measures is not added to the latency profile: {error}")
