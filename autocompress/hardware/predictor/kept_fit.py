"""The predictor of a profile: its fitted numbers from disk, or fitted again where the observations are other ones."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autocompress.errors import ProfileError
from autocompress.facts import write_whole
from autocompress.hardware.predictor.fit import FEWEST_NETWORKS, Judged, fit_and_judge
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.observation_log import LOG, log_digest
from autocompress.hardware.predictor.predictor import LatencyPredictor
from autocompress.hardware.predictor.profile import ProfileFacts, read_facts, read_observations
from autocompress.hardware.predictor.searched import shifted
from autocompress.hardware.predictor.transfer import transferred

REGRESSOR = "regressor.json"
SCHEMA = 8


def loaded(folder: Path) -> LatencyPredictor:
    """The predictor of the profile in ``folder``, whatever device it is of.

    Raises:
        ProfileError: none there, or one that was cut off or edited; names the line.
    """
    return predictor_in(folder, read_facts(folder))[0]


def predictor_in(folder: Path, facts: ProfileFacts) -> tuple[LatencyPredictor, tuple[str, ...]]:
    """The predictor of the profile in ``folder`` as searches have corrected it since; notes on what deserves mistrust.

    Raises:
        ProfileError: a file of the profile that was cut off or edited; names the line.
    """
    digest = digest_of(folder)
    kept = _kept(folder / REGRESSOR)
    if kept is not None and kept["schema"] == SCHEMA and kept["observations"] == digest:
        return shifted(folder, _from_kept(folder / REGRESSOR, kept))
    observations, notes = read_observations(folder)
    predictor, more = shifted(folder, refit(folder, facts, observations, digest=digest)[0])
    return predictor, (*notes, *more)


def digest_of(folder: Path) -> str:
    """Of the observations of the profile in ``folder``; changes with every one."""
    return log_digest(folder / LOG)


def refit(
    folder: Path, facts: ProfileFacts, observations: Sequence[Observation], *, digest: str
) -> tuple[LatencyPredictor, list[Judged]]:
    """Fit to ``observations``, which are those of the profile, and keep the numbers where the folder can be written.

    Beside the predictor, what it says of each network when it is fitted without it.

    Args:
        folder: of the profile.
        facts: of the profile.
        observations: all of it.
        digest: by ``digest_of``, from before they were read: one that is added meanwhile makes the fit an old one.

    Raises:
        ProfileError: there are too few of them.
    """
    if len(observations) < FEWEST_NETWORKS:
        raise ProfileError(
            f"a profile must hold at least {FEWEST_NETWORKS} measured networks, {folder} holds {len(observations)}; "
            f"`autocompress profile --profile {folder}` adds to it, {_ADAPTED}"
        )
    predictor, judged = fit_and_judge(observations, facts.circumstances)
    _keep(folder, digest, predictor)
    return predictor, judged


def adapt(
    folder: Path, facts: ProfileFacts, observations: Sequence[Observation], base: LatencyPredictor, *, digest: str
) -> LatencyPredictor:
    """The predictor of a profile with few networks: ``base``, of other circumstances, brought to these; and kept.

    ``digest`` is as in ``refit``.

    Raises:
        MeasurementError: too few networks even for that.
    """
    predictor = transferred(base, observations, facts.circumstances)
    _keep(folder, digest, predictor)
    return predictor


def _keep(folder: Path, digest: str, predictor: LatencyPredictor) -> None:
    data = predictor.to_data()
    content = {"schema": SCHEMA, "observations": digest, "digest": _digest(data), "predictor": data}
    with contextlib.suppress(OSError):
        write_whole(folder / REGRESSOR, json.dumps(content, separators=(",", ":")))


def _digest(data: object) -> str:
    """Of numbers as JSON; the same before they are written and after they are read."""
    return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode()).hexdigest()[:16]


def _kept(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise ProfileError(
            f"{file}, line {error.lineno}, column {error.colno}: must be JSON: {error.msg}; {_ANEW}"
        ) from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{file}, line 1, column {error.start + 1}: must be UTF-8; {_ANEW}") from error
    if not isinstance(content, dict) or not {"schema", "observations", "predictor"} <= content.keys():
        raise ProfileError(f"{file}, line 1, column 1: must hold schema, observations and predictor; {_ANEW}")
    return content


def _from_kept(file: Path, kept: dict[str, Any]) -> LatencyPredictor:
    found = _digest(kept["predictor"])
    if kept.get("digest") != found:
        raise ProfileError(
            f"{file}, line 1: must hold the numbers that were fitted, whose digest is {kept.get('digest')!r}; got "
            f"edited ones of {found!r}; {_ANEW}"
        )
    try:
        return LatencyPredictor.from_data(kept["predictor"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ProfileError(
            f"{file}, line 1: must hold the numbers of a fit: {type(error).__name__} {error}; {_ANEW}"
        ) from error


_ADAPTED = "and `autocompress profile --import results.jsonl --profile BASE` adapts another profile by fewer"
_ANEW = f"delete the file: {FEWEST_NETWORKS} or more observations make it again, {_ADAPTED}"
