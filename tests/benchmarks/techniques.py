"""Every technique alone on four networks: bytes, milliseconds and lost accuracy, before and after a short recovery.

``python tests/benchmarks/techniques.py DATA`` with a folder of CIFAR-10's images in ``train/CLASS/`` and
``test/CLASS/``, or a ``.zip`` of one. About 75 minutes on two cores that do nothing else; an estimate is printed first.
JSON on stdout, progress on stderr, the table in Markdown in ``--markdown``.

Bases are trained here from nothing, for a few minutes each, and kept in ``--cache`` with every cell that is done: a run
that was killed goes on. A cell that fails is recorded with its error, and tried again by the next run. Drops are of the
exported file in ONNX Runtime, on the same validation images for all; latencies are ratios to the base's fp32 file,
measured in turns with it.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from technique_cells import Cell, Key, Subject, correct_of, interval_points, run_cell
from technique_rows import NOT_HERE, ROWS, Row, parts_of
from technique_table import markdown
from torch import nn

from autocompress.commands.baseline import Pace, default_recovery
from autocompress.data import load_task, with_input_size
from autocompress.facts import write_whole
from autocompress.graph.channel_groups import channel_groups
from autocompress.graph.surgery import example_input
from autocompress.hardware.machine import package_versions, this_machine
from autocompress.models.checkpoint import load_weights
from autocompress.models.config import weights_digest
from autocompress.models.load import build_model
from autocompress.models.source import ModelSource
from autocompress.recipe import Arithmetic, Recipe, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import teacher_outputs
from autocompress.recover.train import recover, train_baseline
from autocompress.target import Target
from autocompress.task import Split, Task
from autocompress.trial import Bench, export_base

# Height and width of the images. CIFAR's are 32; twice that leaves networks with a stride of 32 or patches of 16 more
# than one position to work on. A ResNet-18 works on 8×8 positions at 32 already.
SIZES = {"resnet18": 32, "mobilenetv3_small_050": 64, "vit_tiny_patch16_224": 64, "convnext_atto": 64}
# Whichever trains faster, measured on a Zen 4, which has bf16 instructions; fixed, so that a run can be repeated.
FP32_TRAINED = {"mobilenetv3_small_050"}
# Shares of the steps of base and recovery for networks whose steps take two to five times as long as the others'.
SLOW_STEPS = {"vit_tiny_patch16_224": (0.6, 0.4), "convnext_atto": (0.6, 0.4)}
MOST_STARTS = 2  # of a cell that never ended: it takes the process down with it
PROBE_STEPS = 3
AWARE_COST = 1.6  # times a float recovery's, of one whose last third trains the rounded file at 2.7 times a step's cost
JUDGING_S = 9.0  # of a cell besides its training: two exports, two evaluations, the clock


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    rows = [row for row in ROWS if not arguments.rows or any(word in row.name for word in arguments.rows)]
    arguments.cache.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    tasks = _tasks(arguments)
    _say(f"data read in {time.monotonic() - started:.0f} s")
    _say(_estimate(arguments, tasks, rows))
    log = arguments.cache / "cells.jsonl"
    cells: list[Cell] = []
    bases: dict[str, dict[str, object]] = {}
    for name in arguments.models:
        try:
            subject = _subject(name, tasks[SIZES[name]], arguments)
        except Exception:  # the other networks are still wanted; its column stays away
            traceback.print_exc(file=sys.stderr)
            continue
        bases[name] = _facts_of(subject)
        for row in rows:
            cell = _done(log, subject.key(row), fresh=arguments.fresh) or _logged(log, subject, row)
            cells.append(cell)
            _say(f"{name:24} {_line(cell)}   [{(time.monotonic() - started) / 60:.1f} min]")
        _write(arguments, bases, cells)
    print(_write(arguments, bases, cells))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder, or a zip of it")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "autocompress-techniques"))
    parser.add_argument("--markdown", type=Path, help="where the table goes; default: table.md in the cache")
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rows", nargs="+", help="parts of the names of rows; default: all")
    parser.add_argument("--steps", type=int, default=150, help="of the short recovery, of 64 samples each")
    parser.add_argument("--base-steps", type=int, default=1500, help="of the training of a base")
    parser.add_argument("--samples", type=int, default=2000, help="validation images that judge a file")
    parser.add_argument("--threads", type=int, default=this_machine().cores, help="of trainings and evaluations")
    parser.add_argument("--untimed", action="store_true", help="without the clock: to try rows on a busy machine")
    parser.add_argument("--fresh", action="store_true", help="do cells again that are done")
    return parser.parse_args()


def _tasks(arguments: argparse.Namespace) -> dict[int, Task]:
    """The task at every size that is asked for."""
    task = load_task(str(_folder(arguments.data, arguments.cache)))
    task = replace(task, test=task.test.take(np.arange(1)))  # no cell reads it
    return {size: with_input_size(task, size) for size in {SIZES[name] for name in arguments.models}}


def _folder(data: Path, cache: Path) -> Path:
    if data.suffix != ".zip":
        return data
    folder = cache / data.stem
    if not folder.is_dir():
        with zipfile.ZipFile(data) as archive:
            archive.extractall(folder)
    inside = [place for place in folder.iterdir() if place.is_dir()]
    return inside[0] if len(inside) == 1 else folder


def _steps(name: str, arguments: argparse.Namespace) -> tuple[int, int]:
    """Of the training of a base, and of the short recovery."""
    base_share, share = SLOW_STEPS.get(name, (1.0, 1.0))
    return round(base_share * arguments.base_steps), round(share * arguments.steps)


def _subject(name: str, task: Task, arguments: argparse.Namespace) -> Subject:
    """The base, trained or read from the cache, and what all its cells share."""
    model = _new_model(name, task)
    stream = SampleStream(task, 0)
    base_steps, steps = _steps(name, arguments)
    kept = arguments.cache / f"{name}-{base_steps}.safetensors"
    if kept.is_file():
        load_weights(model, kept)
    else:
        _say(f"{name}: training the base")
        torch.manual_seed(0)
        settings = _recovery(name, model, base_steps)
        settings = settings.model_copy(update={"learning_rate": 2 * settings.learning_rate, "weight_decay": 0.05})
        train_baseline(model, stream, settings)
        tensors = {key: tensor.detach().clone().contiguous() for key, tensor in model.state_dict().items()}
        write_whole(kept, safetensors.torch.save(tensors))
    model.eval()
    recovery = _recovery(name, model, steps)
    bench = Bench(
        base=model,
        task=task,
        target=Target(),
        machine=this_machine(),
        groups=channel_groups(model, example_input(task.preprocess.shape, task.preprocess.dtype)),
    )
    teacher = teacher_outputs(model, stream, recovery.steps * recovery.batch, recovery.arithmetic)
    bench = bench.with_teacher(teacher.numpy())
    file = export_base(bench)
    images = _images(task, arguments.samples)
    return Subject(
        name=name,
        bench=bench,
        parts=parts_of(bench),
        digest=weights_digest(model)[:16],
        file=file,
        images=images,
        correct=correct_of(file, images, bench, arguments.threads),
        recovery=recovery,
        threads=arguments.threads,
        timed=not arguments.untimed,
    )


def _new_model(name: str, task: Task) -> nn.Module:
    return build_model(ModelSource(spec=name, in_shape=task.preprocess.shape, n_outputs=task.n_outputs))


def _recovery(name: str, model: nn.Module, steps: int) -> Recovery:
    arithmetic = Arithmetic.FP32 if name in FP32_TRAINED else Arithmetic.BF16
    pace = Pace(arithmetic=arithmetic, one_thread=1.0, all_threads=1.0)
    return default_recovery(model, pace).model_copy(update={"steps": steps})


def _images(task: Task, samples: int) -> Split:
    """The same random validation images for every file."""
    order = np.random.default_rng(0).permutation(len(task.val))
    return task.val.take(order[:samples])


def _facts_of(subject: Subject) -> dict[str, object]:
    return {
        "size_bytes": len(subject.file),
        "accuracy_points": round(100 * float(subject.correct.mean()), 2),
        "interval_points": interval_points(subject.correct),
        "samples": len(subject.correct),
        "image_size": subject.bench.task.preprocess.shape[-1],
        "weights_sha256": subject.digest,
        "recovery": subject.recovery.model_dump(mode="json"),
    }


def _estimate(arguments: argparse.Namespace, tasks: dict[int, Task], rows: list[Row]) -> str:
    """How long the run may take if nothing is done yet, from a few training steps of each network."""
    seconds = {}
    for name in arguments.models:
        task = tasks[SIZES[name]]
        model = _new_model(name, task)
        marks = [time.perf_counter()]
        recover(
            model,
            SampleStream(task, 0),
            _recovery(name, model, PROBE_STEPS),
            teacher=None,
            progress=lambda _step, _steps, marks=marks: marks.append(time.perf_counter()),
        )
        step_s = min(after - before for before, after in pairwise(marks))
        recoveries = sum(AWARE_COST if row.recovery.get("quantize_aware") else 1.0 for row in rows)
        base_steps, steps = _steps(name, arguments)
        seconds[name] = step_s * (base_steps + recoveries * steps) + len(rows) * JUDGING_S
    parts = ", ".join(f"{name} {value / 60:.0f}" for name, value in seconds.items())
    return f"about {sum(seconds.values()) / 60:.0f} minutes if nothing is cached ({parts})"


def _done(log: Path, key: Key, *, fresh: bool) -> Cell | None:
    """The cell as it was done before; a failed one where it took the process down each time it was begun."""
    if fresh:
        return None
    starts = 0
    for line in _lines(log):
        if "began" in line:
            starts += Key.model_validate(line["began"]) == key
            continue
        cell = Cell.model_validate(line)
        if cell.key == key and not cell.errors:
            return cell
        starts -= cell.key == key
    if starts < MOST_STARTS:
        return None
    return Cell(key=key, recipe=Recipe(), errors={"cell": f"the process ended in it, {starts} times"})


def _lines(log: Path) -> Iterator[dict]:
    if not log.is_file():
        return
    for line in log.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # the last one, of a process that was killed while it wrote
            continue


def _logged(log: Path, subject: Subject, row: Row) -> Cell:
    with log.open("a") as file:
        file.write(json.dumps({"began": subject.key(row).model_dump(mode="json")}) + "\n")
    cell = run_cell(subject, row)
    with log.open("a") as file:
        file.write(cell.model_dump_json() + "\n")
    return cell


def _line(cell: Cell) -> str:
    drops = [f"{each.drop_points:+.1f}" if each else "-" for each in (cell.before, cell.after)]
    last = cell.after or cell.before
    size = f"{last.size_bytes:,} B" if last else "-"
    ms = f"{cell.timed.ms / cell.timed.base_ms:.2f}×" if cell.timed else "-"
    words = f"{cell.key.row:42} {size:>14} {ms:>6}  drop {' → '.join(drops)}  {cell.changed}/{cell.skipped}"
    return f"{words}  {cell.seconds:.0f} s" + "".join(f"\n    {where}: {what}" for where, what in cell.errors.items())


def _write(arguments: argparse.Namespace, bases: dict[str, dict[str, object]], cells: list[Cell]) -> str:
    """The answer as JSON, after the Markdown is written."""
    place = arguments.markdown or arguments.cache / "table.md"
    write_whole(place, markdown(bases, cells))
    answer = {
        "machine": this_machine().model_dump(mode="json"),
        "versions": package_versions(),
        "bases": bases,
        "cells": [cell.model_dump(mode="json") for cell in cells],
        "failed": dict(Counter(cell.key.model for cell in cells if cell.errors)),
        "not_here": NOT_HERE,
        "markdown": str(place),
    }
    return json.dumps(answer, indent=2)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
