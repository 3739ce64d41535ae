"""This machine's latency profile: made, extended, merged, and judged."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from time import monotonic as clock

from pydantic import ValidationError

from autocompress.errors import InputError, OutputError
from autocompress.events import Observer, Silence
from autocompress.facts import Facts
from autocompress.hardware.int8_activations import with_measured_activations
from autocompress.hardware.kept import Circumstances, circumstances_of
from autocompress.hardware.machine import this_machine
from autocompress.hardware.predictor.card import AccuracyCard
from autocompress.hardware.predictor.cross_validation import card_of
from autocompress.hardware.predictor.fit import FEWEST_NETWORKS
from autocompress.hardware.predictor.kept_fit import adapt, digest_of, predictor_in, refit
from autocompress.hardware.predictor.kit import export_kit as write_kit
from autocompress.hardware.predictor.kit_results import read_kit_results
from autocompress.hardware.predictor.measuring import Failure, Protocol
from autocompress.hardware.predictor.observation_log import unseen
from autocompress.hardware.predictor.profile import (
    append,
    is_profile,
    merge,
    opened,
    place_of,
    put_aside,
    read_facts,
    read_observations,
    update_facts,
)
from autocompress.hardware.predictor.side_measurements import measure_beside, share_beside
from autocompress.hardware.predictor.training import Session, a_a_floor_of, measure_for
from autocompress.hardware.rapl import find_meter
from autocompress.target import Target
from autocompress.units import parse_duration

TIME = "5m"
ENDING_SHARE = 0.15  # of the time: fits, cross-validation and the A/A floor
MOST_FLOOR = 0.03  # of the relative difference of a file and itself
MOST_DISTURBANCE = 0.1  # of a processor's time, to other programs, before it is said
MOST_RESTLESS = 1 / 3  # of the networks, before it is said


class ProfileSummary(Facts):
    """A profile after a command has worked on it. ``new_files`` were added, ``failed`` could not be measured."""

    folder: str
    circumstances: Circumstances
    files: int
    new_files: int
    failed: int
    seconds: float
    card: AccuracyCard | None
    notes: tuple[str, ...] = ()


class KitSummary(Facts):
    """A kit for another device."""

    kit: str
    models: int
    size_bytes: int
    threads: int
    seconds: float


def profile(
    *,
    time: str | float = TIME,
    out: str | Path | None = None,
    profiles: Sequence[str | Path] = (),
    threads: int = 1,
    anew: bool = False,
    observer: Observer | None = None,
    protocol: Protocol | None = None,
    most_files: int | None = None,
) -> ProfileSummary:
    """Measure networks for ``time`` into a profile, and say how well it predicts; run again, it goes on.

    Args:
        time: of everything, ``"5m"`` or seconds.
        out: the folder of the profile; None is the one of ``profiles`` if there is one, else the user's cache folder.
        profiles: folders of profiles of this machine that are taken over into it.
        threads: of the runtime.
        anew: put a profile that is there aside, as one of a machine that has changed since.
        observer: told how far it is.
        protocol: how each network is measured; None is the usual way.
        most_files: end after so many new networks.

    Raises:
        InputError: a flag that does not hold, or a folder that is neither new nor a profile.
        ProfileError: a profile that cannot be read, or of other circumstances.
    """
    began, observer, seconds, target = clock(), observer or Silence(), _seconds(time), _target(threads)
    here = circumstances_of(this_machine(), threads)
    folder = _folder(out, profiles, here)
    if anew and is_profile(folder):
        observer.note(f"the profile that was there lies in {put_aside(folder)}")
    opened(folder, here)
    for other in profiles:
        if Path(other).resolve() != folder.resolve():
            observer.note(f"{merge(folder, Path(other))} measured networks taken over from {other}")
    observer.stage("profile", str(folder))
    machine = with_measured_activations(this_machine(), observer)
    session, floor, meter = Session(), None, find_meter()
    left = seconds * (1 - ENDING_SHARE - share_beside(meter)) - (clock() - began)
    try:
        measure_for(
            left,
            session,
            folder,
            machine=machine,
            target=target,
            observer=observer,
            protocol=protocol,
            most_files=most_files,
        )
        observer.stage("beside", "peak RAM of some networks, and energy where a meter can be read")
        measure_beside(folder, session, target, seconds=seconds, meter=meter)
        observer.stage("judge", "some networks measured again, then cross-validation")
        floor = a_a_floor_of(session, target, protocol=protocol)
    finally:
        update_facts(folder, measured_s=read_facts(folder).measured_s + session.seconds)
    found = finish(folder, new_files=len(session.observations), failures=session.failures, floor=floor, started=began)
    return found.model_copy(update={"notes": (*found.notes, *_unrest(session, floor))})


def import_results(
    results: str | Path,
    *,
    out: str | Path | None = None,
    base: str | Path | None = None,
    observer: Observer | None = None,
) -> ProfileSummary:
    """A profile of the device on which a kit ran, from the ``results.jsonl`` that it left; more of it may follow.

    Args:
        results: the file.
        out: the folder of the profile; None is a place in the user's cache folder.
        base: a profile of another device or number of threads, to adapt where the results are too few for a fit.
        observer: told how far it is.

    Raises:
        MeasurementError: the results are too few even to adapt ``base``.
        ProfileError: the file, or a profile that is there, cannot be read or is of another device.
    """
    began, observer = clock(), observer or Silence()
    found = read_kit_results(Path(results))
    folder = _folder(out, (), found.circumstances)
    opened(folder, found.circumstances)
    new = unseen(found.observations, read_observations(folder)[0])
    append(folder, new)
    observer.stage("judge", "cross-validation")
    adapted = _adapted(folder, Path(base)) if base is not None else ()
    summary = finish(folder, new_files=len(new), failures=found.failures, started=began, notes=adapted)
    return summary.model_copy(update={"notes": (*found.notes, *summary.notes)})


def export_kit(
    kit: str | Path,
    *,
    time: str | float = TIME,
    threads: int = 1,
    observer: Observer | None = None,
    models: int | None = None,
    protocol: Protocol | None = None,
) -> KitSummary:
    """Write models, a plan and a runner for another device into a zip file.

    Args:
        kit: the file.
        time: that the run on the device may take, for which the number of models is chosen.
        threads: of the runtime on the device.
        observer: told how far it is.
        models: so many, whatever the time.
        protocol: how each is measured; None is the usual way.

    Raises:
        InputError: a flag that does not hold, or a file that cannot be written.
    """
    began, observer, path = clock(), observer or Silence(), Path(kit)
    target = _target(threads)
    observer.stage("kit", str(path))
    count = write_kit(path, _seconds(time), this_machine(), target, observer, models=models, protocol=protocol)
    return KitSummary(
        kit=str(path), models=count, size_bytes=path.stat().st_size, threads=threads, seconds=clock() - began
    )


def finish(
    folder: Path,
    *,
    started: float,
    new_files: int = 0,
    failures: Sequence[Failure] = (),
    floor: float | None = None,
    notes: tuple[str, ...] = (),
) -> ProfileSummary:
    """Fit the profile in ``folder``, judge it by cross-validation, and keep both.

    Args:
        folder: of the profile.
        started: by ``time.monotonic``, for the summary.
        new_files: for the summary, too.
        failures: what could not be measured.
        floor: relative difference of a file and itself; None keeps the one that is known.
        notes: what is to be said beside.
    """
    facts = read_facts(folder)
    digest = digest_of(folder)
    observations, left_out = read_observations(folder)
    is_adapted, notes = bool(notes), (*notes, *left_out)
    if failures:
        first = failures[0]
        notes = (*notes, f"{len(failures)} networks could not be measured; {first.name}: {first.reason}")
    if len(observations) >= FEWEST_NETWORKS:
        known = facts.card.a_a_floor if facts.card else None
        _, judged = refit(folder, facts, observations, digest=digest)
        card = card_of(judged, known if floor is None else floor)
        facts, notes = update_facts(folder, card=card), (*notes, *_left_out(len(observations), card.files))
    elif not is_adapted:
        few = f"{len(observations)} networks are too few to predict from, at least {FEWEST_NETWORKS} are needed"
        notes = (*notes, f"{few}; measure longer")
    return ProfileSummary(
        folder=str(folder),
        circumstances=facts.circumstances,
        files=len(observations),
        new_files=new_files,
        failed=len(failures),
        seconds=clock() - started,
        card=facts.card,
        notes=notes,
    )


def _adapted(folder: Path, base: Path) -> tuple[str, ...]:
    """Adapt ``base`` by the few networks in ``folder`` unless they are enough alone; says which."""
    digest = digest_of(folder)
    observations, _ = read_observations(folder)
    if len(observations) >= FEWEST_NETWORKS:
        return (f"{base} is not used: {len(observations)} networks measured there make a profile of their own",)
    predictor, _ = predictor_in(base, read_facts(base))
    adapt(folder, read_facts(folder), observations, predictor, digest=digest)
    return (
        f"adapted from {base} by {len(observations)} networks: {FEWEST_NETWORKS} or more make a profile of its own",
    )


def _left_out(observations: int, judged: int) -> tuple[str, ...]:
    """What is said where the fit and its card do without some networks."""
    if judged >= observations:
        return ()
    why = "other programs, other guests or heat changed the machine's speed beside them, or kernels were not timed"
    return (
        f"{observations - judged} of {observations} networks are left out of the fit and of the accuracy card: {why}",
    )


def _folder(out: str | Path | None, profiles: Sequence[str | Path], here: Circumstances) -> Path:
    """Where the profile is, or is to be.

    Raises:
        OutputError: a folder of something else.
        ProfileError: one of ``profiles`` is none.
    """
    for each in profiles:
        read_facts(Path(each))
    if out is None:
        return Path(profiles[0]) if len(profiles) == 1 else place_of(here)
    folder = Path(out)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not is_profile(folder)):
        raise OutputError(f"--out must be a new or empty folder, or a profile to extend; {folder} is neither")
    return folder


def _unrest(session: Session, floor: float | None) -> tuple[str, ...]:
    """All that was not calm about the measurements: other programs, other guests of the same machine, its speed."""
    share = median(each.disturbed for each in session.observations) if session.observations else 0.0
    restless = mean(each.unrest > 1 for each in session.observations) if session.observations else 0.0
    found = []
    if share > MOST_DISTURBANCE:
        found.append(f"other programs used {share:.0%} of a processor while networks were measured")
    if restless > MOST_RESTLESS:
        found.append(
            f"other guests of this machine took caches or half of the core beside {restless:.0%} of the networks"
        )
    if floor is not None and floor > MOST_FLOOR:
        found.append(f"the same file measured twice differs by {floor:.0%}: the machine changed its speed meanwhile")
    if not found:
        return ()
    return (f"{'; '.join(found)}; autocompress profile again, while nothing else runs, adds calmer measurements",)


def _target(threads: int) -> Target:
    try:
        return Target(threads=threads)
    except ValidationError as error:
        raise InputError(f"--threads must lie in [1, 256], got {threads}; --help lists the flags") from error


def _seconds(time: str | float) -> float:
    try:
        return parse_duration(str(time))
    except ValueError as error:
        raise InputError(f"--time: {error}") from error
