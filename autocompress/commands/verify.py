"""A result measured again, against its own budget."""

from dataclasses import replace
from pathlib import Path

from pydantic import Field

from autocompress.budget import Budget, BudgetRow, Metric
from autocompress.commands.config import OBJECT, RunConfig
from autocompress.commands.folder import BASELINE, CONFIG
from autocompress.commands.measure import measure
from autocompress.data.load import load_task
from autocompress.data.options import DataOptions
from autocompress.delivery.bundle import FILE, bundle_in, read_certificate
from autocompress.delivery.certificate import Certificate, identity_of
from autocompress.errors import DataError, InputError
from autocompress.evaluate import evaluate_file
from autocompress.events import Observer, Silence
from autocompress.facts import Facts
from autocompress.hardware.latency import measure_latency
from autocompress.measurement import Accuracy, Latency, ModelFacts
from autocompress.task import Task


class Verification(Facts):
    """What a file is today, beside what its certificate says."""

    folder: str
    met: bool
    same_file: bool = Field(description="whether the bytes are those that were certified")
    budget: tuple[BudgetRow, ...]
    certified: ModelFacts
    latency: Latency
    size_bytes: int
    peak_ram_bytes: int
    accuracy_test: Accuracy | None = Field(description="None when the data was not there to evaluate it on")
    notes: tuple[str, ...] = ()


def verify(
    folder: str | Path,
    *,
    data: str | Task | None = None,
    options: DataOptions | None = None,
    observer: Observer | None = None,
) -> Verification:
    """Measure the file in ``folder`` again and hold it against its certificate's budget.

    A share of the original's latency is measured anew, both in turns, where the run's folder still holds the original.
    Other limits that were relative to it are taken in the units that they came out as.

    Args:
        folder: a run's folder, or a bundle in it.
        data: evaluates the test split again; None takes the run's own data if it can be read.
        options: how to read ``data``; None takes the run's own.
        observer: told of stages and notes.

    Raises:
        InputError: no result there, or the data does not fit the file.
    """
    observer = observer or Silence()
    place = bundle_in(Path(folder))
    certificate = read_certificate(place)
    file = place / FILE
    if not file.is_file():
        raise InputError(f"a result folder holds {FILE}, and {place} does not; give a run's folder or its best/")
    same = identity_of(FILE, file.read_bytes()) == certificate.file
    notes = [] if same else [f"{FILE} is not the file that was certified: its SHA-256 differs"]
    observer.stage("verify", "measuring")
    cost = measure(file, target=certificate.target)
    if cost.machine.cpu != certificate.machine.cpu:
        notes.append(f"certified on {certificate.machine.cpu}, measured here on {cost.machine.cpu}")
    task = _task(Path(folder), certificate, data, options, notes)
    accuracy = None
    if task is not None:
        observer.stage("verify", "test split")
        accuracy = evaluate_file(file, task.test, task, threads=cost.machine.cores)
    facts = ModelFacts(
        size_bytes=cost.size_bytes,
        macs=cost.macs,
        params=cost.params,
        latency_ms=cost.latency.median_ms,
        peak_ram_bytes=cost.peak_ram_bytes,
        accuracy_test=None if accuracy is None else accuracy.value,
    )
    share = _share_of_original(place, certificate)
    if share is not None:
        notes.append(f"its latency is judged as a share of the original's, measured in turns: {share:.1%}")
    rows = tuple(_again(row, facts, certificate, share) for row in certificate.budget)
    return Verification(
        folder=str(place),
        met=all(row.met for row in rows if row.met is not None),
        same_file=same,
        budget=rows,
        certified=certificate.facts,
        latency=cost.latency,
        size_bytes=cost.size_bytes,
        peak_ram_bytes=cost.peak_ram_bytes,
        accuracy_test=accuracy,
        notes=tuple(notes),
    )


def _share_of_original(place: Path, certificate: Certificate) -> float | None:
    """What the file in ``place`` takes of the original's latency; None where no share is limited or there is none."""
    if not any(_limits_share(row) for row in certificate.budget):
        return None
    originals = (folder / BASELINE / FILE for folder in (place.parent, place.parent.parent))
    found = next((each for each in originals if each.is_file()), None)
    if found is None or found.stat().st_size != certificate.baseline.size_bytes:
        return None
    original, own = measure_latency([found, place / FILE], certificate.target)
    return own.median_ms / original.median_ms


def _limits_share(row: BudgetRow) -> bool:
    return row.metric is Metric.LATENCY and any(limit.relative for limit in Budget.parse(row.text).limits)


def _again(row: BudgetRow, facts: ModelFacts, certificate: Certificate, share: float | None) -> BudgetRow:
    value = _value(row.metric, facts, certificate)
    if share is not None and _limits_share(row) and certificate.baseline.latency_ms is not None:
        value = share * certificate.baseline.latency_ms
    if value is None:
        return row.model_copy(update={"value": None, "met": None})
    met = value >= row.limit if row.metric.is_floor else value <= row.limit + 1e-12
    return row.model_copy(update={"value": value, "met": met})


def _value(metric: Metric, facts: ModelFacts, certificate: Certificate) -> float | None:
    if metric is Metric.ACCURACY:
        return facts.accuracy_test
    if metric is Metric.ACCURACY_DROP:
        base = certificate.baseline.accuracy_test
        return None if facts.accuracy_test is None or base is None else base - facts.accuracy_test
    return metric.of(facts)


def _task(
    folder: Path, certificate: Certificate, data: str | Task | None, options: DataOptions | None, notes: list[str]
) -> Task | None:
    """The data to evaluate on, prepared as the certificate says."""
    if isinstance(data, Task):
        return replace(data, preprocess=certificate.input.preprocess())
    config = next(
        (RunConfig.read(place / CONFIG) for place in (folder, folder.parent) if (place / CONFIG).is_file()), None
    )
    spec = data or certificate.data
    if spec == OBJECT:
        notes.append("the data was handed over in Python; give it again to have the accuracy checked")
        return None
    read = options or (config.options if config else DataOptions())
    if certificate.input.size is not None:
        read = read.model_copy(update={"input_size": certificate.input.size[0], "mean": None, "std": None})
    try:
        task = load_task(spec, options=read)
    except DataError:
        if data is not None:
            raise
        notes.append(f"{spec} cannot be read from here; give --data to have the accuracy checked")
        return None
    if task.preprocess.shape != certificate.input.preprocess().shape:
        raise DataError(
            f"the data must have inputs of {certificate.input.shape[1:]}, as the file takes them; {spec} has "
            f"{task.preprocess.shape}"
        )
    return replace(task, preprocess=certificate.input.preprocess())
