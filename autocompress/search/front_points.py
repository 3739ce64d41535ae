"""Trials as models to take: their own files, as they came out of a short recovery, measured and judged like others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autocompress.clock import Clock
from autocompress.graph.program import Portable
from autocompress.measurement import Latency, ModelFacts
from autocompress.result import TrialRecord
from autocompress.search.costing import measure_files, scaled
from autocompress.search.finalist import FILE, STRUCTURE, WEIGHTS
from autocompress.search.selection import front
from autocompress.trial import Bench, accuracy_of

MOST_POINTS = 6
TIME_SHARE = 0.4  # of what is left once the finalists are measured; the rest is for the certificate and the report
EACH_S = 2.0  # of measuring one, beside evaluating it
JUDGED = 2.0  # times what its inferences take: loading and feeding


@dataclass(frozen=True, kw_only=True)
class FrontFile:
    """The file of one trial, measured beside the baseline and judged on the whole validation split."""

    record: TrialRecord
    facts: ModelFacts
    latency: Latency
    file: bytes
    portable: Portable


def front_files(
    bench: Bench,
    clock: Clock,
    records: Sequence[TrialRecord],
    files: Mapping[int, Path],
    taken: Sequence[TrialRecord],
    *,
    baseline: tuple[bytes, Latency],
) -> list[FrontFile]:
    """Files that no other known model dominates, as many as there is time for.

    Args:
        bench: task, target and machine.
        clock: the run's.
        records: of the search.
        files: where those of some of them are, by number.
        taken: finalists, which are kept anyway; their trials would be the same models less well trained.
        baseline: its file, and its latency in the measurement whose scale all are brought to.
    """
    done = {record.recipe.structure_digest() for record in taken}
    open_ = [
        record
        for record in records
        if record.number in files and record.facts is not None and record.recipe.structure_digest() not in done
    ]
    known = [record.facts for record in taken if record.facts is not None]
    facts = [*known, *(record.facts for record in open_ if record.facts is not None)]
    ahead = [open_[place - len(known)] for place in front(facts) if place >= len(known)]
    chosen = _affordable(_spread(ahead), len(bench.task.val), TIME_SHARE * clock.left_s)
    if not chosen:
        return []
    contents = {record.number: (files[record.number] / FILE).read_bytes() for record in chosen}
    file, at_first = baseline
    now, latencies = measure_files(file, contents, bench.target)
    found = []
    for record in chosen:
        latency = scaled(latencies[record.number], at_first.median_ms / now.median_ms)
        found.append(_judged(bench, record, files[record.number], latency))
    return found


def _spread(ahead: list[TrialRecord]) -> list[TrialRecord]:
    """The ends of a front first, then what halves the gaps between those before."""
    if len(ahead) <= 2:
        return ahead
    order, step = [0, len(ahead) - 1], len(ahead)
    while step > 1:
        step = -(-step // 2)
        order += range(0, len(ahead), step)
        if step == 1:
            break
    return [ahead[place] for place in dict.fromkeys(order)]


def _affordable(records: list[TrialRecord], samples: int, time_s: float) -> list[TrialRecord]:
    chosen: list[TrialRecord] = []
    for record in records[:MOST_POINTS]:
        ms = 0.0 if record.facts is None else record.facts.latency_ms or record.facts.latency_predicted_ms or 0.0
        time_s -= EACH_S + JUDGED * samples * ms / 1e3
        if time_s < 0:
            break
        chosen.append(record)
    return chosen


def _judged(bench: Bench, record: TrialRecord, place: Path, latency: Latency) -> FrontFile:
    file = (place / FILE).read_bytes()
    accuracy = accuracy_of(file, bench.task, "val", threads=bench.machine.cores)
    assert record.facts is not None
    facts = record.facts.with_latency(latency).model_copy(
        update={"size_bytes": len(file), "accuracy_val": accuracy.value, "accuracy_val_interval": accuracy.interval}
    )
    portable = Portable(structure=(place / STRUCTURE).read_text(), weights=(place / WEIGHTS).read_bytes())
    return FrontFile(record=record, facts=facts, latency=latency, file=file, portable=portable)
