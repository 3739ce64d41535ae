"""The latency predictor on files that it never saw, beside three simpler ones. Prints JSON.

``python tests/benchmarks/predictor.py --files FOLDER --profile FOLDER``, after ``predictor_files.py`` and
``predictor_measure.py`` filled the first folder and ``autocompress profile`` the second. All are fitted on the
observations of the profile alone. ``left out`` fits them without a whole kind of network and judges them on that kind.
With ``--elsewhere FOLDER``, files measured as on another device (``predictor_measure.py --threads 2``): ten of them
adapt the profile, which is judged on the others.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from predictor_kinds import KINDS
from predictor_measure import aa_floor, observations
from predictor_nets import About

from autocompress.hardware.kept import circumstances_of
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph
from autocompress.hardware.machine import this_machine
from autocompress.hardware.predictor.baselines import fit_baselines
from autocompress.hardware.predictor.figures import Figures, Judged, figures_by, figures_of
from autocompress.hardware.predictor.fit import fit
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.predictor import LatencyPredictor
from autocompress.hardware.predictor.transfer import transferred

RANGE_MS = (0.2, 40.0)  # of the files that are judged
OURS = "predictor"
WORST = 12
FEW, DRAWS = 10, 9  # files that adapt a profile, and how often they are drawn anew
Answer = Callable[[RuntimeGraph], tuple[float, tuple[float, float] | None]]  # ms, and an interval where there is one


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to predict."""

    about: About
    graph: RuntimeGraph
    measured_ms: float

    @property
    def kernels(self) -> list[Kernel]:
        """In running order."""
        return [placed.kernel for placed in self.graph.kernels]


def main() -> None:
    """Fit, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, default=Path("runs/benchmarks/predictor"), help="measured files")
    parser.add_argument("--profile", type=Path, required=True, help="folder with observations.jsonl")
    parser.add_argument("--elsewhere", type=Path, help="files measured under other circumstances")
    options = parser.parse_args()
    lines = (options.profile / "observations.jsonl").read_text().splitlines()
    known = [Observation.from_json(line) for line in lines]
    started = time.perf_counter()
    predictor = fit_ours(known)
    files = files_in(options.files)
    seconds = {"fit_s": round(time.perf_counter() - started, 2), **costs(predictor, files)}
    rows = judged_by(answers(predictor, known), files)
    found: dict[str, Any] = {
        "observations": len(known),
        "files": len(files),
        **aa_floor(options.files),
        **seconds,
        "groups": groups(rows),
        "by": {key: by(rows, key) for key in ("family", "precision", "kind", "treatment")},
        "recipes": by_network(rows),
        "without common error": without_common_error(rows),
        "left out": {kind: left_out(kind, known, files) for kind in KINDS},
        **({} if options.elsewhere is None else {"elsewhere": elsewhere(options.elsewhere, predictor)}),
        "worst": worst(rows),
    }
    print(json.dumps(found, indent=1))


def files_in(folder: Path) -> list[File]:
    """The measured files that are judged."""
    found = []
    for about, observed, graph in observations(folder):
        if RANGE_MS[0] <= observed.median_us / 1e3 <= RANGE_MS[1]:
            found.append(File(about=about, graph=graph, measured_ms=observed.median_us / 1e3))
    return found


def fit_ours(known: Sequence[Observation]) -> LatencyPredictor:
    """The predictor of this machine at one thread."""
    return fit(known, circumstances_of(this_machine()))


def answers(predictor: LatencyPredictor, known: Sequence[Observation]) -> dict[str, Answer]:
    """Ours and the baselines by name."""

    def ours(graph: RuntimeGraph) -> tuple[float, tuple[float, float]]:
        found = predictor.predict(graph)
        return found.ms, found.interval_ms

    baselines = fit_baselines(known)

    def plain(name: str) -> Answer:
        return lambda graph: (baselines[name].predict_us([placed.kernel for placed in graph.kernels]) / 1e3, None)

    return {OURS: ours, **{name: plain(name) for name in baselines}}


Row = tuple[File, Mapping[str, Judged]]


def judged_by(predict: Mapping[str, Answer], files: Iterable[File]) -> list[Row]:
    """Each file with what each predictor said."""
    return [(file, {name: _judged(file, *answer(file.graph)) for name, answer in predict.items()}) for file in files]


def _judged(file: File, ms: float, interval: tuple[float, float] | None) -> Judged:
    return Judged(measured_ms=file.measured_ms, predicted_ms=ms, interval_ms=interval)


def groups(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of each group, and of the held-out ones together."""
    names = ("seen", "drawn", "unseen", "fresh", "recipes")
    parts = {name: [row for row in rows if row[0].about.group == name] for name in names}
    parts["in training"] = parts["seen"] + parts["drawn"]
    parts["mixed"] = parts["in training"] + parts["unseen"] + parts["fresh"]
    return {name: all_figures(part) for name, part in parts.items() if part}


def all_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of every predictor on the same files."""
    return {name: shown(figures_of([each[name] for _, each in rows])) for name in rows[0][1]} if rows else {}


def by(rows: Sequence[Row], key: str) -> dict[str, Any]:
    """Figures of ours on each kind of held-out file, by ``key``."""
    held_out = [row for row in rows if row[0].about.group != "recipes"]
    figures = figures_by(held_out, lambda row: str(getattr(row[0].about, key)), lambda row: row[1][OURS])
    return {name: shown(each) for name, each in figures.items()}


def by_network(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of the recipes of each network."""
    recipes = [row for row in rows if row[0].about.group == "recipes"]
    names = sorted({row[0].about.treatment for row in recipes})
    return {name: all_figures([row for row in recipes if row[0].about.treatment == name]) for name in names}


def without_common_error(rows: Sequence[Row]) -> dict[str, Any]:
    """Ours once the median of what all but recipes are off is taken out: the machine is another one hour by hour."""
    off = [each[OURS].predicted_ms / each[OURS].measured_ms for file, each in rows if file.about.group != "recipes"]
    common = float(np.median(off))
    shifted: list[Row] = []
    for file, each in rows:
        low, high = each[OURS].interval_ms or (0.0, 0.0)
        shifted.append((file, {OURS: _judged(file, each[OURS].predicted_ms / common, (low / common, high / common))}))
    return {"common": round(common - 1, 4), "groups": groups(shifted), "recipes": by_network(shifted)}


def left_out(kind: str, known: Sequence[Observation], files: Sequence[File]) -> dict[str, Any]:
    """Fitted without any network of ``kind``, judged on the held-out ones of it."""
    is_kind = KINDS[kind]
    rest = [each for each in known if not is_kind([kernel for kernel, _ in each.parsed()])]
    judged = [file for file in files if file.about.group != "recipes" and is_kind(file.kernels)]
    return {"observations": len(rest), **all_figures(judged_by(answers(fit_ours(rest), rest), judged))}


def elsewhere(folder: Path, predictor: LatencyPredictor) -> dict[str, Any]:
    """Several times ten of the files adapt ``predictor``, and the others judge it: of each figure the median."""
    measured = [each for each in observations(folder) if each[0].group != "recipes"]
    found = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(measured)).tolist()
        few = [measured[place][1] for place in order[:FEW]]
        there = transferred(predictor, few, predictor.circumstances)
        judged = []
        for _, observed, graph in (measured[place] for place in order[FEW:]):
            said = there.predict(graph)
            one = Judged(measured_ms=observed.median_us / 1e3, predicted_ms=said.ms, interval_ms=said.interval_ms)
            judged += [one] if RANGE_MS[0] <= one.measured_ms <= RANGE_MS[1] else []
        found.append(shown(figures_of(judged)))
    medians = {name: round(float(np.median([each[name] for each in found])), 4) for name in found[0]}
    return {**aa_floor(folder), "adapted by": FEW, "draws": DRAWS, "median": medians}


def worst(rows: Sequence[Row]) -> list[str]:
    """The files that ours is farthest off on, each with measured and predicted milliseconds and the interval."""
    ordered = sorted(rows, key=lambda row: -abs(row[1][OURS].predicted_ms / row[0].measured_ms - 1))
    return [
        f"{file.about.group}/{file.about.name}: {file.measured_ms:.3f} ms, predicted {each[OURS].predicted_ms:.3f} "
        f"({', '.join(f'{end:.3f}' for end in each[OURS].interval_ms or ())})"
        for file, each in ordered[:WORST]
    ]


def costs(predictor: LatencyPredictor, files: Sequence[File]) -> dict[str, float]:
    """Seconds to take up the fitted numbers again, ms to predict a file of about 100 kernels, and recipes a second."""
    text = json.dumps(predictor.to_data())
    started = time.perf_counter()
    fresh = LatencyPredictor.from_data(json.loads(text))
    loaded = time.perf_counter()
    found = {"load_s": round(loaded - started, 3)}
    if files:
        near = min(files, key=lambda file: abs(len(file.graph.kernels) - 100))
        fresh.predict(near.graph)
        found["predict_ms"] = round(1e3 * (time.perf_counter() - loaded), 1)
    recipes = [file.kernels for file in files if file.about.treatment == "resnet18"]
    if recipes:
        started = time.perf_counter()
        fresh.predict_many(recipes)
        found["recipes_per_s"] = round(len(recipes) / (time.perf_counter() - started))
    return found


def shown(figures: Figures) -> dict[str, Any]:
    """Rounded, without what there is none of."""
    values = figures.model_dump(exclude_none=True)
    return {name: value if isinstance(value, int) else round(value, 4) for name, value in values.items()}


if __name__ == "__main__":
    main()
