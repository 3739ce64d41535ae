"""What the search's driver costs, and how busy it keeps its workers. Prints JSON.

``python tests/benchmarks/scaling.py [driver] [slots] [workers]``, by hand, alone on the machine:

- ``driver``: milliseconds that one trial adds in the driver (ask, allocation, recipe, tell, journal) after ``--trials``
  others, with ``--knobs`` parameters and the sampler of the search. Wanted: at most 50.
- ``slots``: share of the time that ``--slots`` simulated workers are at work, whose jobs sleep for a random time. The
  driver, its study and its journal are the real ones. Wanted: at least 0.9.
- ``workers``: trials that two Ray workers finish against one in the same ``--seconds``, with real training of a small
  network. Needs two idle cores. Wanted: at least 1.7.
"""

import argparse
import heapq
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cloudpickle
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import made_up_search
import tiny_runs
from made_up_search import MadeUpLauncher, made_up_setting

from autocompress.budget import Metric
from autocompress.clock import Clock
from autocompress.measurement import ModelFacts
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.launcher import Done, Job, Work
from autocompress.search.loop import Search
from autocompress.search.parameters import Knob
from autocompress.search.setting import Setting
from autocompress.search.space import Range
from autocompress.search.study import Study
from autocompress.trial import Bench

PARTS = ("driver", "slots", "workers")
UNITS, CHOICES = 60, 40  # of the allocation that stands in for the real one
LAST = 20  # trials over which the driver's cost is averaged
BUILD_S, RECOVERY_S = 4.0, 30.0  # means of what sleeping jobs take: a build, all rungs of a recovery


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--knobs", type=int, default=20)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each search")
    options = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "driver" in options.parts:
            found["driver"] = driver(Path(folder, "driver.journal"), options.trials, options.knobs)
        if "slots" in options.parts:
            found["slots"] = slots(Path(folder, "slots.journal"), options.slots, options.seconds)
        if "workers" in options.parts:
            found["workers"] = workers(Path(folder), options.seconds)
    print(json.dumps(found, indent=2))


def driver(journal: Path, trials: int, knobs: int) -> dict[str, object]:
    """Milliseconds of processor time by part, medians over the last trials; what else runs does not count."""
    space = tuple(
        Knob(name=f"share.{number}", range=Range(low=0.0, high=1.0))
        if number % 3
        else Knob(name=f"family.{number}", choices=("a", "b", "c"))
        for number in range(knobs)
    )
    _tried(Study(journal, space, seed=0, minimize=False, startup=trials + 1), trials)  # at random, which is quicker
    began = time.process_time()
    study = Study(journal, space, seed=0, minimize=False, startup=12)
    opening_s = time.process_time() - began
    spent = _tried(study, LAST)
    parts = {name: round(1e3 * float(np.median(values)), 2) for name, values in spent.items()}
    return {
        "finished": trials,
        "knobs": knobs,
        "ms": parts,
        "ms_in_all": round(sum(parts.values()), 2),
        "opening_s": round(opening_s, 2),
        "journal_bytes": journal.stat().st_size,
    }


def _tried(study: Study, count: int) -> dict[str, list[float]]:
    """Seconds of so many trials by part."""
    costs = np.random.default_rng(0).random((UNITS, CHOICES))
    spent: dict[str, list[float]] = {name: [] for name in ("ask", "allocate", "tell")}
    for _ in range(count):
        began = time.process_time()
        ask = study.ask()
        asked = time.process_time()
        picks = (costs * (1 + float(ask.values["share.1"]))).argmin(axis=1)
        recipe = _recipe(picks.tolist())
        allocated = time.process_time()
        study.tell(ask, _record(ask.number, recipe), {Metric.SIZE: -0.1}, float(ask.values["share.1"]))
        told = time.process_time()
        for name, seconds in zip(spent, (asked - began, allocated - asked, told - allocated), strict=True):
            spent[name].append(seconds)
    return spent


def _recipe(picks: list[int]) -> Recipe:
    """As long as those of a network of sixty layers."""
    ratios = {f"layers.{unit}.conv1": pick / CHOICES for unit, pick in enumerate(picks)}
    layers = {f"layers.{unit}.conv1": {"weights": f"int{2 + pick % 7}"} for unit, pick in enumerate(picks)}
    return Recipe(
        passes=(
            PassStep(name="prune_channels", settings={"ratios": ratios}),
            PassStep(name="quantize", settings={"layers": layers}),
        )
    )


def _record(number: int, recipe: Recipe) -> TrialRecord:
    return TrialRecord(
        number=number,
        kind=TrialKind.SEARCH,
        state=TrialState.COMPLETE,
        summary="",
        recipe=recipe,
        facts=ModelFacts(size_bytes=10**6, macs=10**6, params=10**6, latency_ms=1.0, accuracy_val=0.9),
        within_budget=True,
    )


class SleepingLauncher(MadeUpLauncher):
    """Slots whose jobs end after a random time; what they give is made up."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.random, self.busy_s = count, random.Random(0), 0.0
        self.ends: list[tuple[float, int, Job]] = []

    def slots(self) -> int:
        return self.count

    def submit(self, bench: Bench, job: Job) -> None:  # noqa: ARG002  # as the protocol has it
        mean_s = (
            BUILD_S if job.rung is None else RECOVERY_S * (job.rung.last - job.rung.first) / job.recipe.recovery.steps
        )
        seconds = mean_s * self.random.uniform(0.5, 1.5)
        self.busy_s += seconds
        heapq.heappush(self.ends, (time.monotonic() + seconds, job.key, job))

    def next_done(self) -> Done:
        end, _, job = heapq.heappop(self.ends)
        time.sleep(max(0.0, end - time.monotonic()))
        return self.done(job)

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:  # noqa: ARG002
        raise AssertionError("nothing here is measured in batches")


class Known:
    """Costs that are known as soon as a file is."""

    forecaster = None

    def foreseen(self, candidates: dict[int, tuple[bytes, ModelFacts]]) -> dict[int, ModelFacts]:
        return {key: facts.model_copy(update={"latency_ms": 1.0}) for key, (_, facts) in candidates.items()}


def _setting(launcher: object, recovery: Recovery) -> Setting:
    setting = made_up_setting("size<=100MB")
    return replace(
        setting,
        builder=replace(setting.builder, recovery=recovery),
        costing=Known(),  # type: ignore[arg-type]  # what of Costing is used
        launcher=launcher,  # type: ignore[arg-type]
    )


def _search(journal: Path, setting: Setting, seconds: float) -> Search:
    study = Study(journal, setting.builder.knobs(), seed=0, minimize=False, startup=12)
    return Search(setting=setting, study=study, clock=Clock(seconds + 8.0))


def slots(journal: Path, count: int, seconds: float) -> dict[str, object]:
    """Shares of busy time while candidates come, and in all: at the end slots run empty."""
    launcher = SleepingLauncher(count)
    search = _search(journal, _setting(launcher, Recovery(steps=900)), seconds)
    began = time.monotonic()
    marks: list[tuple[float, float]] = []
    submit = launcher.submit

    def marked(bench: Bench, job: Job) -> None:
        submit(bench, job)
        if job.work is Work.STRUCTURE:
            idle_later_s = sum(max(0.0, end - time.monotonic()) for end, _, _ in launcher.ends)
            marks.append((time.monotonic() - began, launcher.busy_s - idle_later_s))

    launcher.submit = marked  # type: ignore[method-assign]
    records = search.run()
    whole_s = time.monotonic() - began
    until_s, busy_s = marks[-1]
    return {
        "slots": count,
        "busy_while_candidates_come": round(busy_s / (count * until_s), 3),
        "busy_in_all": round(launcher.busy_s / (count * whole_s), 3),
        "trials": len(records),
        "trials_per_s": round(len(records) / whole_s, 2),
    }


def workers(folder: Path, seconds: float) -> dict[str, object]:
    """Trials finished by one worker and by two, on real networks."""
    from autocompress.search.launch_ray import RayLauncher  # noqa: PLC0415  # only where it is used

    modules = [tiny_runs, made_up_search, sys.modules[__name__]]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    counts = {}
    for count in (1, 2):
        launcher = RayLauncher(workers=count)
        try:
            list(launcher.run(tiny_runs.tiny_bench(), [_warm_up(key) for key in range(count)]))
            setting = _setting(launcher, Recovery(steps=270, batch=32))
            records = _search(folder / f"{count}.journal", setting, seconds).run()
        finally:
            launcher.close()
        counts[count] = sum(record.rung is not None for record in records)
    return {"seconds": seconds, "trials": counts, "ratio": round(counts[2] / max(1, counts[1]), 2)}


def _warm_up(key: int) -> Job:
    """Its worker has loaded everything once."""
    return Job(key=key, work=Work.STRUCTURE, recipe=Recipe())


if __name__ == "__main__":
    main()
