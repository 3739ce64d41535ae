"""Measures the files that ``predictor_files.py`` built, with their kernels. Prints JSON: how many, and the A/A floors.

``python tests/benchmarks/predictor_measure.py --files FOLDER [--passes 3] [--most 60] [--threads 2]``; a second a file
and pass, with nothing else running. What is measured stays. The machine is another one for seconds or minutes, so each
file is measured in several passes over all of them, minutes apart, and counts with the median. A reference file is
measured in every process: what its times differ by is what measuring alone makes different.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from predictor_nets import About, Net
from predictor_timm import file_of

from autocompress.errors import MeasurementError
from autocompress.facts import write_whole
from autocompress.hardware.child import Line, run_runner
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph, graph_of
from autocompress.hardware.predictor.observation import Observation, observation_of

MOST_DISTURBED = 0.1  # of a processor's time, to other programs
TOGETHER = 10  # files of one process
FILE_LIMIT_S = 30
PLAN = {
    "rounds": 4,
    "window_ms": 40.0,
    "warm_up_ms": 30.0,
    "profile_ms": 60.0,
    "seed": 0,
    "threads": 1,
    "batch": 1,
    "patience": 0.75,
}
REFERENCE = Net(group="reference", family="resnet", kind="cnn", model="resnet18", size=64, treatment="fp32")
OBSERVED, SEEN, FAILED = ".observation.json", ".seen.json", ".unmeasured"


def main() -> None:
    """Measure what is missing, print."""
    options = arguments().parse_args()
    PLAN["threads"] = options.threads
    for number in range(1, options.passes + 1):
        measure(options.files, options.most, number)
    left = sum(1 for _ in unmeasured(options.files, options.passes))
    found = sum(1 for _ in options.files.glob(f"*/*{OBSERVED}"))
    print(
        json.dumps(
            {"measured": found, "left": left, **aa_floor(options.files), **passes_differ(options.files)}, indent=2
        )
    )


def arguments() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, default=Path("runs/benchmarks/predictor"), help="where the files lie")
    parser.add_argument("--passes", type=int, default=3, help="measure each file so often")
    parser.add_argument("--most", type=int, default=10**6, help="measure at most so many files in each pass")
    parser.add_argument("--threads", type=int, default=1, help="of the runtime, the same for all files of a folder")
    return parser


def measure(folder: Path, most: int, passes: int) -> None:
    """Measure up to ``most`` of the files that fewer passes have seen, a few in each process, the reference first."""
    reference = folder / "reference.onnx"
    if not reference.exists():
        write_whole(reference, file_of(REFERENCE))
    files = list(unmeasured(folder, passes))[:most]
    for start in range(0, len(files), TOGETHER):
        chunk = files[start : start + TOGETHER]
        try:
            lines = _run([reference, *chunk])
        except MeasurementError:  # one of them: the others are still wanted
            for file in chunk:
                try:
                    _keep_all(folder, [file], _run([reference, file]))
                except MeasurementError as error:
                    print(error, file=sys.stderr)
                    write_whole(file.with_suffix(FAILED), str(error))
        else:
            _keep_all(folder, chunk, lines)


def unmeasured(folder: Path, passes: int) -> Iterator[Path]:
    """The files that fewer passes have seen, and that did not fail; those of a group mixed, so that drift hits all."""
    files = sorted(path for path in folder.glob("*/*.onnx"))
    order = np.random.default_rng(passes).permutation(len(files))
    for file in (files[place] for place in order):
        if _seen_by(file) < passes and not file.with_suffix(FAILED).exists():
            yield file


def _seen_by(file: Path) -> int:
    """How many passes have measured a file."""
    observed = file.with_suffix(OBSERVED)
    if not observed.exists():
        return 0
    return len(Observation.from_json(observed.read_text()).rounds_us) // int(PLAN["rounds"])


def observations(folder: Path) -> Iterator[tuple[About, Observation, RuntimeGraph]]:
    """Each measured file, and the graph of its kernels as one knows it before measuring."""
    for path in sorted(folder.glob(f"*/*{OBSERVED}")):
        stem = path.name.removesuffix(OBSERVED)
        about = About.from_json(path.with_name(f"{stem}.json").read_text())
        seen = json.loads(path.with_name(f"{stem}{SEEN}").read_text())
        for event in seen["kernels"]:
            del event["us"]
        yield about, Observation.from_json(path.read_text()), graph_of(seen, 1)


def aa_floor(folder: Path) -> dict[str, Any]:
    """How far measurements of the reference file lie from their median: the mean, and the largest."""
    notes = folder / "reference.jsonl"
    medians = np.array([json.loads(line)["us"] for line in notes.read_text().splitlines()] if notes.exists() else [])
    if len(medians) < 2:
        return {"a_a": None}
    off = np.abs(medians / np.median(medians) - 1)
    return {"a_a": {"times": len(off), "mean": round(float(off.mean()), 4), "most": round(float(off.max()), 4)}}


def passes_differ(folder: Path) -> dict[str, Any]:
    """How far the second pass lies from the first, of the files that both have measured: the mean."""
    rounds = int(PLAN["rounds"])
    times = [Observation.from_json(path.read_text()).rounds_us for path in folder.glob(f"*/*{OBSERVED}")]
    pairs = [(np.median(us[:rounds]), np.median(us[rounds : 2 * rounds])) for us in times if len(us) >= 2 * rounds]
    off = [abs(float(second / first) - 1) for first, second in pairs]
    return {"passes_differ": {"files": len(off), "mean": round(float(np.mean(off)), 4)} if off else None}


def _run(files: Sequence[Path]) -> list[Line]:
    lines = run_runner("kernels", files, timeout_s=FILE_LIMIT_S * len(files), **PLAN)
    return sorted((line for line in lines if line.kind == "kernels"), key=lambda line: line.file or 0)


def _keep_all(folder: Path, files: Sequence[Path], lines: Sequence[Line]) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    reference, *others = lines
    if _is_calm(reference):
        with (folder / "reference.jsonl").open("a") as notes:
            notes.write(json.dumps({"at": at, "us": float(np.median(reference.content["rounds_us"]))}) + "\n")
    for file, line in zip(files, others, strict=True):
        if not _is_calm(line):  # it stays unmeasured, for the next call
            continue
        about = About.from_json(file.with_suffix(".json").read_text())
        rounds_us = tuple(line.content.pop("rounds_us"))
        if _seen_by(file):
            _add(file.with_suffix(OBSERVED), rounds_us)
            continue
        graph = graph_of(line.content, 1)
        observation = observation_of(
            graph, rounds_us, name=about.name, family=about.family, precision=about.precision, at=at, source="import",
            reference_ms=line.content["reference_ms"], disturbed=line.content["disturbed"],
            unrest=line.content["unrest"],
        )  # fmt: skip
        write_whole(file.with_suffix(SEEN), json.dumps(line.content))
        write_whole(file.with_suffix(OBSERVED), observation.model_dump_json())


def _is_calm(line: Line) -> bool:
    """Whether neither another program nor a neighbour on the same core was at work."""
    return bool(line.content["unrest"] <= 1 and line.content["disturbed"] <= MOST_DISTURBED)


def _add(observed: Path, rounds_us: tuple[float, ...]) -> None:
    """The rounds of another pass."""
    first = Observation.from_json(observed.read_text())
    both = first.model_copy(update={"rounds_us": (*first.rounds_us, *rounds_us)})
    write_whole(observed, both.model_dump_json())


if __name__ == "__main__":
    main()
