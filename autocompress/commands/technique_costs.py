"""What each technique saves on this machine: a few layers in files, each beside the same layers in fp32."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import Field

from autocompress.clock import now
from autocompress.commands.technique_cases import CASES, VARIANTS, Case, Variant, variants_for
from autocompress.events import Observer
from autocompress.export.calibrate import Seen
from autocompress.export.write_file import draft
from autocompress.facts import Facts
from autocompress.graph.surgery import example_input
from autocompress.hardware.kept import Record, circumstances_of
from autocompress.hardware.latency import measure_latency
from autocompress.hardware.machine import package_versions
from autocompress.measurement import Latency
from autocompress.passes import PassContext
from autocompress.passes.compose import compose
from autocompress.recipe import PassStep, Recipe
from autocompress.target import ActivationType, Machine, Target
from autocompress.task import Layout, Preprocess

_CALIBRATION = 8  # a layer is timed, not judged: any range will do
_ROUNDS, _WINDOW_MS = 8, 15.0


class LayerCost(Facts):
    """Layers in fp32, measured. ``floor_ratio``: by how much two copies of their file differed in the same run."""

    name: str
    detail: str
    latency_ms: float
    size_bytes: int
    floor_ratio: float = Field(ge=0)
    noisy: bool


class Saving(Facts):
    """A technique on some layers: time and bytes as shares of those in fp32; None where it does nothing, and why."""

    technique: str
    setting: str
    layer: str
    latency_ratio: float | None = None
    size_ratio: float | None = None
    reason: str = ""


class TechniqueCosts(Record):
    """What techniques save here; latencies are measured, bytes counted. The layers' weights are random numbers.

    Input and output are fp32, so that int8 has its rounding of both in its time; neighbours in a network share it.
    """

    layers: tuple[LayerCost, ...]
    savings: tuple[Saving, ...]
    int8_activations: ActivationType
    versions: dict[str, str]
    seconds: float = Field(description="that measuring took")

    def saving(self, variant: Variant, layer: str) -> Saving | None:
        """That of a variant on some layers; None where it was not measured, as in a record of an earlier version."""
        wanted = variant.technique, variant.setting, layer
        return next((each for each in self.savings if (each.technique, each.setting, each.layer) == wanted), None)


@dataclass(kw_only=True)
class _Files:
    """The files of one case, and why other variants have none."""

    fp32: bytes
    made: dict[int, bytes] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)


def measure_techniques(
    machine: Machine,
    observer: Observer,
    *,
    threads: int = 1,
    cases: tuple[Case, ...] = CASES,
) -> TechniqueCosts:
    """Every technique on every case; takes about a minute, most of it for writing some fifty small files.

    The files of a case are measured in turns in one run, the fp32 file twice.

    Args:
        machine: with the type of int8 activations to use.
        observer: told of each case.
        threads: of the runtime.
        cases: the layers.

    Raises:
        MeasurementError: the runtime cannot run one of the files.
    """
    started = time.monotonic()
    layers: list[LayerCost] = []
    savings: list[Saving] = []
    for place, case in enumerate(cases):
        observer.stage("techniques", f"{place + 1}/{len(cases)}: {case.detail}")
        files = _written(case, machine, observer)
        latencies, floor = _measured(files, threads)
        layers.append(
            LayerCost(
                name=case.name,
                detail=case.detail,
                latency_ms=latencies[0].median_ms,
                size_bytes=len(files.fp32),
                floor_ratio=floor,
                noisy=any(each.noisy for each in latencies),
            )
        )
        savings += _savings(case, files, latencies)
    return TechniqueCosts(
        circumstances=circumstances_of(machine, threads),
        measured_at=now(),
        layers=tuple(layers),
        savings=tuple(savings),
        int8_activations=machine.int8_activations,
        versions=package_versions(),
        seconds=time.monotonic() - started,
    )


def _written(case: Case, machine: Machine, observer: Observer) -> _Files:
    fp32 = _file(case, (), machine)
    assert isinstance(fp32, bytes)
    files = _Files(fp32=fp32)
    for place, (variant, reason) in enumerate(variants_for(case)):
        observer.progress(place, len(VARIANTS), f"{variant.technique}, {variant.setting}")
        found = reason or _file(case, variant.steps(case, machine.channel_block), machine)
        if isinstance(found, bytes):
            files.made[place] = found
        else:
            files.reasons[place] = found
    return files


def _file(case: Case, steps: tuple[PassStep, ...], machine: Machine) -> bytes | str:
    """The layers with ``steps`` applied, by the passes and the export of a run; words on why nothing changed, if so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = case.build().eval()
    seen = example_input(case.input, batch=_CALIBRATION)
    context = PassContext(example=seen[:1], channel_block=machine.channel_block)
    composed = compose(model, Recipe(passes=steps), context)
    if steps and not composed.changed:
        return "; ".join(dict.fromkeys(composed.skipped.values())) or "it changes nothing"
    written = draft(
        composed.model,
        composed.plan,
        composed.constraints,
        Seen(inputs=seen.numpy(), batch=1),
        preprocess=Preprocess(layout=Layout.AS_STORED, shape=case.input),
        machine=machine,
    )
    return written.finished()


def _measured(files: _Files, threads: int) -> tuple[list[Latency], float]:
    """Latencies of the fp32 file and of the others in their order, and what the fp32 file and its copy differ by."""
    contents = [files.fp32, files.fp32, *files.made.values()]
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        paths = [Path(folder, f"{place}.onnx") for place in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        first, copy, *others = measure_latency(paths, Target(threads=threads), rounds=_ROUNDS, window_ms=_WINDOW_MS)
    return [first, *others], abs(first.median_ms / copy.median_ms - 1)


def _savings(case: Case, files: _Files, latencies: list[Latency]) -> Iterator[Saving]:
    fp32, *others = latencies
    times = dict(zip(files.made, others, strict=True))
    for place, variant in enumerate(VARIANTS):
        is_made = place in files.made
        yield Saving(
            technique=variant.technique,
            setting=variant.setting,
            layer=case.name,
            latency_ratio=times[place].median_ms / fp32.median_ms if is_made else None,
            size_ratio=len(files.made[place]) / len(files.fp32) if is_made else None,
            reason=files.reasons.get(place, ""),
        )
