"""A kit to profile another device: models, a plan, and a runner that needs numpy and onnxruntime only.

What the runner leaves, ``results.jsonl``, becomes a profile of that device by ``kit_results.py``.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from autocompress.errors import OutputError, RunError
from autocompress.events import Observer
from autocompress.hardware.child import RUNNER
from autocompress.hardware.drawn.draw import RANDOM, STUDENT, TIMM, Drawn, draw, draw_student, draw_timm
from autocompress.hardware.drawn.together import attempted
from autocompress.hardware.predictor.measuring import Failure, Protocol
from autocompress.target import ActivationType, Machine, Target

SCHEMA = 1
PLAN = "plan.json"
MODEL_S = 1.0  # of a model on a machine like a laptop: half of it the start of its process
STUDENT_EVERY, TIMM_EVERY = 8, 40  # models; each of these comes in two precisions
MOST_REFUSED = 20  # networks in a row, before the tools themselves are what is wrong
README = """What this is
    {models} models and a script that measures them on this device, for autocompress. It needs Python 3.10 or newer and
    takes about {minutes:.0f} minutes with {threads} thread(s). Nothing else should be running.

1. Install what it needs, onnxruntime in the version that models will run in:
    pip install numpy onnxruntime

2. Run it in this folder; stop it whenever you like, started again it goes on:
    python runner.py plan.json

Then send back the file results.jsonl. Where autocompress is installed it becomes a profile of this device:
    autocompress profile --import results.jsonl --out DIR
"""


def export_kit(
    kit: Path,
    seconds: float,
    machine: Machine,
    target: Target,
    observer: Observer,
    *,
    models: int | None = None,
    protocol: Protocol | None = None,
) -> int:
    """Write the kit as a zip file; how many models it holds.

    Args:
        kit: the file; an older one is replaced when the new one is complete.
        seconds: what the run on the device may take, for which the number of models is chosen.
        machine: this one. The device may prefer another type of int8 activations, so the models take turns.
        target: threads and batch on the device.
        observer: told how far it is, and of networks that could not be drawn: others stand in for them.
        models: so many, whatever the time.
        protocol: how each is measured; None is the usual way.

    Raises:
        OutputError: the file cannot be written.
        RunError: no network can be drawn.
    """
    count = models or max(1, int(seconds / MODEL_S))
    protocol = protocol or Protocol()
    beside = kit.with_name(f".{kit.name}.part")
    entries, failures = [], list[Failure]()
    try:
        kit.parent.mkdir(parents=True, exist_ok=True)
        with ZipFile(beside, "w", ZIP_DEFLATED) as archive:
            for place, each in enumerate(_networks(count, machine, failures)):
                file = f"models/{place:04d}.onnx"
                archive.writestr(file, each.proto)
                entries.append({"name": each.name, "family": each.family, "precision": each.precision, "file": file})
                observer.progress(place + 1, count, each.name)
            plan = {
                "schema": SCHEMA,
                "mode": "kit",
                **protocol.plan(target),
                "timeout_s": protocol.silence_s,
                "time_s": 2 * seconds,  # slower devices may take longer; what is left then goes on by another start
                "models": entries,
            }
            archive.writestr(PLAN, json.dumps(plan, indent=1))
            archive.writestr("runner.py", RUNNER.read_text())
            archive.writestr(
                "README.txt", README.format(models=count, minutes=max(1.0, seconds / 60), threads=target.threads)
            )
        beside.replace(kit)
    except OSError as error:
        raise OutputError(f"--export-kit names a file that can be written, got {kit}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
    if failures:
        first = failures[0]
        observer.note(
            f"others stand in for {len(failures)} networks that could not be drawn; {first.name}: {first.reason}"
        )
    return count


def _networks(count: int, machine: Machine, failures: list[Failure]) -> Iterator[Drawn]:
    """So many, those of later seeds in the place of any that the tools refuse, which are added to ``failures``."""
    machines = [machine.model_copy(update={"int8_activations": kind}) for kind in ActivationType]
    made = refused = 0
    for seed in itertools.count():
        for sort, draw_one, number in _due(seed):
            found = attempted(draw_one, number, machines[seed % len(machines)])
            if isinstance(found, str):
                failures.append(Failure(name=f"{sort}-{number}", reason=found))
                refused += 1
                _check_refused(refused, failures[-1])
                continue
            refused = 0
            for each in found[: count - made]:
                made += 1
                yield each
            if made == count:
                return


def _due(seed: int) -> Iterator[tuple[str, Callable[[int, Machine], Sequence[Drawn]], int]]:
    """What is drawn when it is the turn of ``seed``: sort, what draws it, and its own seed."""
    yield RANDOM, lambda number, machine: (draw(number, machine),), seed
    if seed % STUDENT_EVERY == STUDENT_EVERY - 1:
        yield STUDENT, draw_student, seed // STUDENT_EVERY
    if seed % TIMM_EVERY == TIMM_EVERY - 1:
        yield TIMM, draw_timm, seed // TIMM_EVERY


def _check_refused(refused: int, last: Failure) -> None:
    if refused == MOST_REFUSED:
        raise RunError(
            f"a kit needs networks that can be drawn, {refused} in a row could not be, {last.name} because: "
            f"{last.reason}; autocompress doctor says what is wrong with the installation"
        )
