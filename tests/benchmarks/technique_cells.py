"""One cell of the table of techniques: a recipe on a network, before and after a short recovery."""

import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

import numpy as np
from pydantic import Field
from technique_rows import Parts, Row

from autocompress.evaluate import correct_samples, paired_drop_error, predict_file, wilson_interval
from autocompress.facts import Facts
from autocompress.hardware.latency import measure_latency
from autocompress.recipe import Recipe, Recovery
from autocompress.task import Array, Split
from autocompress.trial import Bench, make_model

CELL_LIMIT_S = 900.0  # of one step of a cell; a recovery takes a minute where nothing else runs
ROUNDS = 8  # of latency, of 60 ms each
T = TypeVar("T")


class Judged(Facts):
    """A file on the validation images. ``drop_points`` is to the base, on the same images, ± its standard error."""

    size_bytes: int
    accuracy: float
    drop_points: float
    drop_error_points: float


class Timed(Facts):
    """Median milliseconds measured in turns with the base's file and a copy of it, which differ by ``a_a``."""

    ms: float
    base_ms: float
    a_a: float
    noisy: bool


class Key(Facts):
    """Which cell it is; one with another key is another cell. ``base`` is a digest of the base's weights."""

    model: str
    row: str
    base: str
    steps: int
    samples: int
    timed: bool = True


class Cell(Facts):
    """What came of a row on a network. ``reasons`` counts skipped layers by why; ``errors`` say what failed where."""

    key: Key
    recipe: Recipe
    before: Judged | None = None
    after: Judged | None = None
    timed: Timed | None = None
    changed: int = 0
    skipped: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    errors: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained base as all its cells see it: ``correct`` says which of ``images`` its ``file`` gets right."""

    name: str
    bench: Bench
    parts: Parts
    digest: str
    file: bytes
    images: Split
    correct: Array
    recovery: Recovery
    threads: int
    timed: bool

    def key(self, row: Row) -> Key:
        """Of the cell of ``row``."""
        return Key(
            model=self.name,
            row=row.name,
            base=self.digest,
            steps=self.recovery.steps,
            samples=len(self.images),
            timed=self.timed,
        )

    def recipe(self, row: Row) -> Recipe:
        """The recipe of ``row`` with its recovery."""
        settings = {**self.recovery.model_dump(), **row.recovery}
        return Recipe(passes=row.passes(self.parts), recovery=Recovery.model_validate(settings))


def run_cell(subject: Subject, row: Row) -> Cell:
    """The cell of ``row``. What fails is in ``errors``, and nothing is raised for it."""
    started = time.monotonic()
    errors: dict[str, str] = {}
    recipe = _tried(errors, "recipe", lambda: subject.recipe(row))
    if recipe is None:
        return Cell(key=subject.key(row), recipe=Recipe(), errors=errors, seconds=time.monotonic() - started)
    threads = subject.threads
    before = _tried(errors, "before", lambda: make_model(subject.bench, recipe.with_steps(0), threads=threads))
    composed = before.composed if before else None
    applies = composed is None or bool(composed.changed) or not recipe.passes
    recovers = applies and recipe.recovery.steps > 0
    after = _tried(errors, "after", lambda: make_model(subject.bench, recipe, threads=threads)) if recovers else None
    files = {"before": before, "after": after}
    judged = {
        when: _tried(errors, f"judging {when}", lambda made=made: judge(subject, made.file))
        for when, made in files.items()
        if made is not None and applies
    }
    last = (after or before) if applies and subject.timed else None
    timed = _tried(errors, "timing", lambda: timed_beside(subject, last.file)) if last else None
    return Cell(
        key=subject.key(row),
        recipe=recipe,
        before=judged.get("before"),
        after=judged.get("after"),
        timed=timed,
        changed=_layers(composed.changed) if composed else 0,
        skipped=_layers(composed.skipped) if composed else 0,
        reasons=counted(list(composed.skipped.values())) if composed else {},
        errors=errors,
        seconds=round(time.monotonic() - started, 1),
    )


def _layers(by_place: dict[str, str]) -> int:
    """How many layers ``pass: layer`` names, one that two passes treated once."""
    return len({place.partition(": ")[2] for place in by_place})


def judge(subject: Subject, file: bytes) -> Judged:
    """The accuracy of ``file`` beside the base's."""
    right = correct_of(file, subject.images, subject.bench, subject.threads)
    return Judged(
        size_bytes=len(file),
        accuracy=float(right.mean()),
        drop_points=round(100 * float(subject.correct.mean() - right.mean()), 3),
        drop_error_points=round(100 * paired_drop_error(subject.correct, right), 3),
    )


def correct_of(file: bytes, images: Split, bench: Bench, threads: int) -> Array:
    """Which of ``images`` the file gets right in the runtime."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(file)
        outputs = predict_file(path, images.inputs, bench.task.preprocess, threads=threads)
    return correct_samples(outputs, images.targets)


def interval_points(correct: Array) -> tuple[float, float]:
    """95 % interval of an accuracy, in points."""
    low, high = wilson_interval(int(np.sum(correct)), len(correct))
    return round(100 * low, 1), round(100 * high, 1)


def timed_beside(subject: Subject, file: bytes) -> Timed:
    """The latency of ``file``, of the base and of the base's copy, in turns."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        paths = [Path(folder, name) for name in ("base.onnx", "copy.onnx", "model.onnx")]
        paths[0].write_bytes(subject.file)
        shutil.copyfile(paths[0], paths[1])
        paths[2].write_bytes(file)
        base, copy, own = measure_latency(paths, subject.bench.target, rounds=ROUNDS)
    return Timed(
        ms=own.median_ms,
        base_ms=base.median_ms,
        a_a=abs(copy.median_ms / base.median_ms - 1),
        noisy=own.noisy or base.noisy,
    )


def counted(reasons: list[str]) -> dict[str, int]:
    """Reason → how many layers; those that differ in numbers and names alone count as one, said as their first."""
    alike = [re.sub(r"\d[\d,.]*|[\w]+(\.[\w]+)+", "#", reason) for reason in reasons]
    first = dict(zip(reversed(alike), reversed(reasons), strict=True))
    return {first[kind]: count for kind, count in Counter(alike).most_common()}


def _tried(errors: dict[str, str], step: str, work: Callable[[], T]) -> T | None:
    """What ``work`` gives; None, and a word in ``errors``, where it fails or takes longer than a cell may."""
    try:
        with _limited(CELL_LIMIT_S):
            return work()
    except Exception as error:  # a cell that fails is a finding, and the others are still wanted
        traceback.print_exc(file=sys.stderr)
        errors[step] = f"{type(error).__name__}: {error}"[:400]
        return None


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def over(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"a step of a cell may take {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
