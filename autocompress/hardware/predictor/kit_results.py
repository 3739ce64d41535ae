"""What a kit's runner found on another device, read back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autocompress.errors import ProfileError
from autocompress.hardware.kept import Circumstances
from autocompress.hardware.machine import machine_from
from autocompress.hardware.predictor.measuring import Failure, observation_from
from autocompress.hardware.predictor.observation import Observation

_NEXT_STEP = "send the file as `python runner.py plan.json` wrote it"


@dataclass(frozen=True, kw_only=True)
class KitResults:
    """A device and what was measured on it."""

    circumstances: Circumstances
    observations: tuple[Observation, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]


def read_kit_results(file: Path) -> KitResults:
    """The content of ``results.jsonl``.

    Raises:
        ProfileError: no such file, or a line that is not as the runner writes it; names the line.
    """
    if not file.is_file():
        raise ProfileError(f"--import takes the results.jsonl of a kit, there is no {file}; {_NEXT_STEP}")
    lines = file.read_bytes().split(b"\n")
    cut = lines.pop()
    notes = (f"{file}, line {len(lines) + 1} was cut off in the middle and is left out",) if cut else ()
    if not lines:
        raise ProfileError(f"{file}, line 1: must state the device, the file is empty; {_NEXT_STEP}")
    circumstances = _device(file, _parsed(file, 1, lines[0]))
    found = [_result(file, number, _parsed(file, number, line)) for number, line in enumerate(lines[1:], 2)]
    return KitResults(
        circumstances=circumstances,
        observations=tuple(each for each in found if isinstance(each, Observation)),
        failures=tuple(each for each in found if isinstance(each, Failure)),
        notes=notes,
    )


def _parsed(file: Path, number: int, line: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise ProfileError(
            f"{file}, line {number}, column {error.colno}: must be JSON: {error.msg}; {_NEXT_STEP}"
        ) from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{file}, line {number}, column {error.start + 1}: must be UTF-8; {_NEXT_STEP}") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{file}, line {number}: must be a JSON object, got {str(content)[:80]!r}; {_NEXT_STEP}")
    return content


def _device(file: Path, line: Mapping[str, Any]) -> Circumstances:
    if line.get("kind") != "device":
        raise ProfileError(f"{file}, line 1: must state the device, it is of kind {line.get('kind')!r}; {_NEXT_STEP}")
    try:
        machine = machine_from(
            line["cpuinfo"],
            architecture=line["architecture"],
            cores=line["cores"],
            ram_bytes=line["ram_bytes"],
            os_name=line["os"],
        )
        return Circumstances(cpu=machine.cpu, isa=machine.isa, onnxruntime=line["onnxruntime"], threads=line["threads"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProfileError(
            f"{file}, line 1: must state the device, but {type(error).__name__}: {error}; {_NEXT_STEP}"
        ) from error


def _result(file: Path, number: int, line: Mapping[str, Any]) -> Observation | Failure:
    try:
        if line["kind"] == "error":
            return Failure(name=line["name"], reason=line["message"])
        about = {key: line[key] for key in ("family", "precision", "at")}
        return observation_from(line, 1, name=line["name"], source="import", **about)
    except Exception as error:  # the graph is read by zlib, base64 and protobuf, each with errors of its own
        raise ProfileError(
            f"{file}, line {number}: must be one measured model, but {type(error).__name__}: {error}; {_NEXT_STEP}"
        ) from error
