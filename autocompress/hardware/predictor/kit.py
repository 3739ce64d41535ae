"""A kit to profile another device: models, a plan, and a runner that needs numpy and onnxruntime only.

What the runner leaves, ``results.jsonl``, becomes a profile of that device by ``kit_results.py``.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from autocompress.errors import OutputError
from autocompress.events import Observer
from autocompress.hardware.child import RUNNER
from autocompress.hardware.drawn.draw import Drawn, draw, draw_student, draw_timm
from autocompress.hardware.predictor.measuring import Protocol
from autocompress.target import ActivationType, Machine, Target

SCHEMA = 1
PLAN = "plan.json"
MODEL_S = 1.0  # of a model on a machine like a laptop: half of it the start of its process
STUDENT_EVERY, TIMM_EVERY = 8, 40  # models; each of these comes in two precisions
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
        observer: told how far it is.
        models: so many, whatever the time.
        protocol: how each is measured; None is the usual way.

    Raises:
        OutputError: the file cannot be written.
    """
    count = models or max(1, int(seconds / MODEL_S))
    protocol = protocol or Protocol()
    beside = kit.with_name(f".{kit.name}.part")
    entries = []
    try:
        kit.parent.mkdir(parents=True, exist_ok=True)
        with ZipFile(beside, "w", ZIP_DEFLATED) as archive:
            for place, each in enumerate(_networks(count, machine)):
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
    return count


def _networks(count: int, machine: Machine) -> Iterator[Drawn]:
    machines = [machine.model_copy(update={"int8_activations": kind}) for kind in ActivationType]
    made = seed = 0
    while made < count:
        here = machines[seed % len(machines)]
        batch = [draw(seed, here)]
        if seed % STUDENT_EVERY == STUDENT_EVERY - 1:
            batch += draw_student(seed // STUDENT_EVERY, here)
        if seed % TIMM_EVERY == TIMM_EVERY - 1:
            batch += draw_timm(seed // TIMM_EVERY, here)
        seed += 1
        for each in batch[: count - made]:
            made += 1
            yield each
