"""What the search's driver costs, and how busy it keeps its workers. Prints JSON.

``python tests/benchmarks/scaling.py [driver] [slots] [workers]``, by hand, alone on the machine:

- ``driver``: milliseconds that one trial adds in the driver (correction, ask, allocation, recipe, tell, journal) after
  ``--trials`` others, for a ResNet-20 with the parameters and the sampler of the search. Wanted: at most 50.
- ``slots``: share of the time that ``--slots`` simulated workers are at work, whose jobs sleep for a random time. The
  driver, its study and its journal are the real ones. Wanted: at least 0.9.
- ``workers``: trials that two Ray workers finish against one in the same ``--seconds``, with real training of a small
  network. Needs two idle cores. Wanted: at least 1.7.
"""

import argparse
import heapq
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import cloudpickle
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import made_up_search
import tiny_runs
from cifar import residual_20
from made_up_search import MadeUpLauncher, made_up_setting

from autocompress.budget import Metric
from autocompress.clock import Clock
from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.graph.units import by_units, units_of
from autocompress.hardware.machine import this_machine
from autocompress.measurement import ModelFacts
from autocompress.recipe import Base, Recipe, Recovery
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.allocation.allocate import Allocator
from autocompress.search.allocation.choices import Choice, choices_by_unit
from autocompress.search.allocation.costs import CostModel
from autocompress.search.allocation.network_costs import NetworkCosts, UniformFile
from autocompress.search.launcher import Done, Job, Work
from autocompress.search.loop import Search, beside_workers
from autocompress.search.outer import Outer, stages_of_units
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.setting import Setting
from autocompress.search.space import DEFAULT, load_space
from autocompress.search.study import Study
from autocompress.trial import Bench

PARTS = ("driver", "slots", "workers")
LAST = 20  # trials over which the driver's cost is averaged
BUILD_S, RECOVERY_S = 4.0, 30.0  # means of what sleeping jobs take: a build, all rungs of a recovery


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each search")
    options = parser.parse_args()
    parts = options.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "driver" in parts:
            found["driver"] = driver(Path(folder, "driver.journal"), options.trials)
        if "slots" in parts:
            found["slots"] = slots(Path(folder, "slots.journal"), options.slots, options.seconds)
        if "workers" in parts:
            found["workers"] = workers(Path(folder), options.seconds)
    print(json.dumps(found, indent=2))


def driver(journal: Path, trials: int) -> dict[str, object]:
    """Milliseconds by the clock of each part of one trial, medians over the last ones.

    The network, its choices and costs are real; what choices lose, and what comes of recipes, is drawn.
    """
    outer = resnet_outer()
    space = outer.knobs()
    made = Random(0)
    study = Study(journal, space, seed=0, minimize=False, startup=trials + 1)  # at random, which is quicker
    for _ in range(trials):
        ask = study.ask()
        picks = [made.randrange(len(row)) for row in outer.allocator.choices]
        recipe = outer.remember(outer.recipe_of(picks, ask.values), picks, ask.values)
        study.settle(ask, recipe)
        study.tell(ask, _record(outer, ask.number, recipe, made), {Metric.SIZE: -0.1}, made.random())
    outer.learn(study.records())
    began = time.perf_counter()
    study = Study(journal, space, seed=0, minimize=False, startup=12)
    opening_s = time.perf_counter() - began
    with beside_workers():
        spent = _tried(study, outer, LAST, made)
    parts = {name: round(1e3 * float(np.median(values)), 2) for name, values in spent.items()}
    return {
        "finished": trials,
        "knobs": len(space),
        "units": len(outer.allocator.units),
        "choices": sum(map(len, outer.allocator.choices)),
        "ms": parts,
        "ms_in_all": round(1e3 * float(np.median([sum(each) for each in zip(*spent.values(), strict=True)])), 2),
        "opening_s": round(opening_s, 2),
        "journal_bytes": journal.stat().st_size,
    }


def _tried(study: Study, outer: Outer, count: int, made: Random) -> dict[str, list[float]]:
    """Seconds of so many trials by part."""
    spent: dict[str, list[float]] = {name: [] for name in ("learn", "ask", "allocate", "tell")}
    for _ in range(count):
        marks = [time.perf_counter()]
        outer.learn(study.records())
        marks.append(time.perf_counter())
        ask = study.ask()
        marks.append(time.perf_counter())
        recipe = outer.recipe(ask.values)
        marks.append(time.perf_counter())
        if recipe is None:
            raise RuntimeError("an allocation must meet the limits, none did; take wider ones")
        study.settle(ask, recipe)
        study.tell(ask, _record(outer, ask.number, recipe, made), {Metric.SIZE: -0.1}, made.random())
        marks.append(time.perf_counter())
        for name, seconds in zip(spent, np.diff(marks).tolist(), strict=True):
            spent[name].append(seconds)
    return spent


def resnet_outer() -> Outer:
    """The outer search of a ResNet-20 for half of its time and a fifth of its bytes; losses are made up."""
    model, machine = residual_20().eval(), this_machine()
    anatomy = anatomy_of(model, example_input((3, 32, 32)), blocks=True)
    builder = RecipeBuilder(
        space=load_space(DEFAULT), anatomy=by_units(anatomy), base=Base(model="residual_20"), recovery=Recovery(),
        seed=0, align=machine.channel_block,
    )  # fmt: skip
    units, choices = units_of(anatomy), choices_by_unit(anatomy, builder.space)
    plain = _uniform_facts(sum(layer.params for layer in anatomy.layers), 4.0, 1.0)
    int8 = _uniform_facts(sum(layer.params for layer in anatomy.layers), 1.1, 0.45)
    raw = NetworkCosts(
        anatomy=builder.anatomy, units=units, choices=choices, align=builder.align, channel_block=machine.channel_block,
        plain=UniformFile(facts=plain), int8=UniformFile(facts=int8),
    )  # fmt: skip
    draws = np.random.default_rng(0)
    loss = [[float(draws.lognormal() * strength(each) ** 2) for each in row] for row in choices]
    return Outer(
        builder=builder,
        allocator=Allocator(
            units=units, choices=choices, loss=loss, model=CostModel(raw=raw, n_choices=[len(row) for row in choices])
        ),
        stages=stages_of_units(anatomy, units),
        limits={Metric.LATENCY: 0.5, Metric.SIZE: 0.2 * plain.size_bytes},
        original_accuracy=0.9,
    )


def _uniform_facts(params: int, bytes_each: float, ms: float) -> ModelFacts:
    return ModelFacts(size_bytes=int(params * bytes_each) + 20_000, macs=41_000_000, params=params, latency_ms=ms)


def strength(choice: Choice) -> float:
    """About what share of a layer's bits is gone."""
    bits = choice.codebook or choice.precision.bits or 32
    return 1.0 if choice.drop else 1 - (1 - choice.prune) * choice.rank * (bits / 32) ** 0.25


def _record(outer: Outer, number: int, recipe: Recipe, made: Random) -> TrialRecord:
    """Of a candidate that cost what was calculated, about."""
    known = outer.known(recipe)
    assert known is not None
    ms, size, macs, params = outer.allocator.model.costs(np.array([known[0]]))[0].tolist()
    facts = ModelFacts(
        size_bytes=round(size), macs=round(macs), params=round(params), latency_ms=ms * made.uniform(0.95, 1.05),
        accuracy_val=made.uniform(0.6, 0.9),
    )  # fmt: skip
    return TrialRecord(
        number=number, kind=TrialKind.SEARCH, state=TrialState.COMPLETE, summary="", recipe=recipe, facts=facts,
        within_budget=True,
    )  # fmt: skip


class SleepingLauncher(MadeUpLauncher):
    """Slots whose jobs end after a random time; what they give is made up."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.random, self.busy_s = count, Random(0), 0.0
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
            launcher.ready()
            setting = _setting(launcher, Recovery(steps=270, batch=32))
            records = _search(folder / f"{count}.journal", setting, seconds).run()
        finally:
            launcher.close()
        counts[count] = sum(record.rung is not None for record in records)
    return {"seconds": seconds, "trials": counts, "ratio": round(counts[2] / max(1, counts[1]), 2)}


if __name__ == "__main__":
    main()
