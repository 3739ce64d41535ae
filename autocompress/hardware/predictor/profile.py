"""A latency profile: what was measured of one machine, in a folder.

::

    profile.yaml        the machine, when, how accurate, and the coefficients of memory and energy
    observations.jsonl  one measured file a line; see ``observation_log``
    searched.jsonl      what searches measured since, the same way; see ``searched``
    regressor.json      the numbers fitted to them; made again whenever the observations have changed

Data only: nothing that is read back can run. A profile holds for its circumstances alone (``circumstances.py``).
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ConfigDict, Field

from autocompress.clock import now
from autocompress.errors import OutputError, ProfileError
from autocompress.facts import Facts, write_whole
from autocompress.hardware.kept import FOLDER, Circumstances, cache_folder
from autocompress.hardware.machine import package_versions
from autocompress.hardware.predictor.card import AccuracyCard
from autocompress.hardware.predictor.circumstances import require_same
from autocompress.hardware.predictor.energy import EnergyCoefficients, EnergySource
from autocompress.hardware.predictor.memory import RamCoefficients
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.observation_log import LOG, append_to_log, log_lock, read_log, unseen
from autocompress.hardware.predictor.yaml_record import read_record

FACTS = "profile.yaml"
SCHEMA = 2
BEFORE = ".before"  # behind the name of a profile that was put aside
HOW_TO_MAKE = "`autocompress profile` makes one, in 5 minutes"


class ProfileFacts(Facts):
    """What ``profile.yaml`` states; ``measured_s`` is the time spent on measuring, over all sessions.

    ``card`` is the accuracy on files that were left out of the fit, ``ram`` holds fitted coefficients,
    ``energy`` fitted ones or, without a meter, those of the literature. None, as for another device, are the defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(SCHEMA, alias="schema", ge=1)
    circumstances: Circumstances
    created_at: str
    updated_at: str
    packages: dict[str, str]
    measured_s: float = Field(0.0, ge=0)
    card: AccuracyCard | None = None
    ram: RamCoefficients | None = None
    energy: EnergyCoefficients | None = None


def place_of(circumstances: Circumstances) -> Path:
    """Where the profile of these circumstances lies unless said otherwise.

    Raises:
        ProfileError: the user has no home folder.
    """
    return _places() / circumstances.digest()


def latest_profile() -> tuple[Path, ProfileFacts] | None:
    """The profile that was updated last of those in the cache folder, whatever it is of; None without a readable one.

    Those that were put aside do not count.

    Raises:
        ProfileError: the user has no home folder.
    """
    found = []
    for file in _places().glob(f"*/{FACTS}"):
        if file.parent.name.endswith(BEFORE):
            continue
        with suppress(ProfileError, OSError):
            found.append((file.parent, read_facts(file.parent)))
    return max(found, key=lambda each: each[1].updated_at, default=None)


def _places() -> Path:
    try:
        return cache_folder() / "profiles"
    except RuntimeError as error:
        raise ProfileError(
            "a profile lies in the user's cache folder unless its place is given, and this user has no home folder "
            f"({error}); name the place with --out or --profile, or set {FOLDER}"
        ) from error


def is_profile(folder: Path) -> bool:
    """Whether a profile lies there."""
    return (folder / FACTS).is_file()


def read_facts(folder: Path) -> ProfileFacts:
    """What ``profile.yaml`` in ``folder`` states.

    Raises:
        ProfileError: none there, or one that was cut off or edited; names the line.
    """
    if not is_profile(folder):
        raise ProfileError(f"a profile is a folder with {FACTS}, {folder} has none; {HOW_TO_MAKE}")
    return read_record(ProfileFacts, folder / FACTS, SCHEMA)


def write_facts(folder: Path, facts: ProfileFacts) -> ProfileFacts:
    """Write ``profile.yaml`` with the time of now; what was written.

    Raises:
        OutputError: the place cannot be written to.
    """
    facts = facts.model_copy(update={"updated_at": now(), "packages": package_versions()})
    with _writing(folder):
        write_whole(folder / FACTS, facts.to_yaml())
    return facts


def update_facts(folder: Path, **changes: object) -> ProfileFacts:
    """Write ``profile.yaml`` again with some fields changed; what was written."""
    return write_facts(folder, read_facts(folder).model_copy(update=changes))


def opened(folder: Path, circumstances: Circumstances) -> ProfileFacts:
    """The profile in ``folder``, made where there is none yet.

    Raises:
        OutputError: the place cannot be written to.
        ProfileError: it cannot be read, or is one of other circumstances.
    """
    if is_profile(folder):
        facts = read_facts(folder)
        require_same(facts.circumstances, circumstances, folder)
        return facts
    started = now()
    facts = ProfileFacts(circumstances=circumstances, created_at=started, updated_at=started, packages={})
    return write_facts(folder, facts)


def put_aside(folder: Path) -> Path:
    """Move a profile away, in place of one that was moved before; where it lies now."""
    folder = folder.resolve()
    aside = folder.with_name(f"{folder.name}{BEFORE}")
    with _writing(folder):
        if is_profile(aside):
            shutil.rmtree(aside)
        folder.rename(aside)
    return aside


def read_observations(folder: Path) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """All observations of a profile, and notes on what was left out.

    Raises:
        ProfileError: a line of the log that is no observation.
    """
    return read_log(folder / LOG)


def append(folder: Path, observations: Sequence[Observation]) -> None:
    """Add observations; each is on disk when this returns.

    Raises:
        OutputError: the place cannot be written to.
    """
    with _writing(folder):
        append_to_log(folder / LOG, observations)


def merge(folder: Path, other: Path) -> int:
    """Take the observations of the profile in ``other`` over; how many were new.

    Raises:
        OutputError: the place cannot be written to.
        ProfileError: one of the two cannot be read, or they are of different circumstances.
    """
    facts, others = read_facts(folder), read_facts(other)
    require_same(others.circumstances, facts.circumstances, other)
    with _writing(folder), log_lock(folder / LOG):
        new = unseen(read_observations(other)[0], read_observations(folder)[0])
        append(folder, new)
    if new:
        update_facts(
            folder,
            measured_s=facts.measured_s + others.measured_s,
            ram=facts.ram or others.ram,
            energy=_the_better(facts.energy, others.energy),
        )
    return len(new)


def _the_better(own: EnergyCoefficients | None, other: EnergyCoefficients | None) -> EnergyCoefficients | None:
    """What a meter has shown, if either is that."""
    is_metered = other is not None and other.source is EnergySource.METERED
    return other if own is None or (is_metered and own.source is not EnergySource.METERED) else own


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"a profile must lie where files can be written, got {folder}: {error}; name another place with --out, "
            f"or another cache folder with {FOLDER}"
        ) from error
