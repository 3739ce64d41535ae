"""How fast scoring and allocation are, and how near counted bytes come to files. Prints JSON; about half a minute.

PYTHONPATH=.:tests python tests/benchmarks/allocation.py
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from made_up_costs import case_of, costs_of
from test_allocation_solve import made_up, solve

from autocompress.budget import Metric
from autocompress.cli.outlet import end_stdout, reserved_stdout
from autocompress.search.allocation.allocate import allocate
from autocompress.search.allocation.choices import Choice
from autocompress.search.allocation.costs import CostModel
from autocompress.search.allocation.table import SensitivityTable

UNITS, CHOICES, BUDGETS = 60, 40, 3
NETWORKS = ("residual", "depthwise", "concat")
SHARES = (0.2, 0.3, 0.5)  # of the original's costs
FILES = 6  # of each network
RECIPES, SCORED = 20_000, 100_000


def solver_seconds() -> list[float]:
    seconds = []
    for seed, share in product(range(8), SHARES):
        losses, costs = made_up(UNITS, CHOICES, BUDGETS, seed)
        limits = share * sum(cost[0] for cost in costs)
        started = time.perf_counter()
        assert solve(losses, costs, limits) is not None
        seconds.append(round(time.perf_counter() - started, 3))
    return seconds


def allocation_seconds() -> list[float]:
    """Of the whole allocation: a unit's latency hangs together with what the unit before it keeps."""
    seconds = []
    for seed, share in product(range(8), SHARES):
        losses, costs = made_up(UNITS, CHOICES, BUDGETS, seed)
        most = np.stack([cost.max(axis=0) for cost in costs])

        def raw(picks: np.ndarray, costs: Sequence[np.ndarray] = costs, most: np.ndarray = most) -> np.ndarray:
            own = np.stack([cost[picks[:, unit]] for unit, cost in enumerate(costs)], axis=1)
            before = np.roll(own[..., 0] / most[:, 0], 1, axis=1)
            ms, others = (own[..., 0] * (1 + before) / 2).sum(axis=1), own[..., 1:].sum(axis=1)
            return np.column_stack([ms, others, others[:, -1]])

        model = CostModel(raw=raw, n_choices=[CHOICES] * UNITS, metrics=(Metric.LATENCY, Metric.SIZE, Metric.MACS))
        limits = share * model.costs(np.zeros((1, UNITS), dtype=np.intp))[0]
        started = time.perf_counter()
        assert allocate(losses, model, limits) is not None
        seconds.append(round(time.perf_counter() - started, 3))
    return seconds


def scored_a_second() -> int:
    """By a table of made-up losses; the middle of several calls."""
    rng = np.random.default_rng(0)
    row = tuple(Choice(prune=part / CHOICES) for part in range(CHOICES))
    table = SensitivityTable(
        units=tuple(f"u{unit}" for unit in range(UNITS)),
        choices=(row,) * UNITS,
        loss=tuple(tuple(each) for each in rng.uniform(size=(UNITS, CHOICES)).tolist()),
        measured=((True,) * CHOICES,) * UNITS,
    )
    picks, seconds = rng.integers(0, CHOICES, (SCORED, UNITS)), []
    for _ in range(5):
        started = time.perf_counter()
        table.score(picks)
        seconds.append(time.perf_counter() - started)
    return round(SCORED / statistics.median(seconds))


def recipes_a_second(name: str) -> int:
    case, costs, rng = case_of(name), costs_of(name), np.random.default_rng(0)
    picks = np.stack([rng.integers(0, len(choices), RECIPES) for choices in case.choices], axis=1)
    costs(picks)
    started = time.perf_counter()
    costs(picks)
    return round(RECIPES / (time.perf_counter() - started))


def byte_errors(name: str) -> dict[str, float]:
    case, draw, errors = case_of(name), random.Random(0), []
    for _ in range(FILES):
        picks = [draw.randrange(len(choices)) for choices in case.choices]
        real = case.facts([choices[at] for choices, at in zip(case.choices, picks, strict=True)]).size_bytes
        errors.append(abs(float(costs_of(name)(np.array([picks]))[0, 1]) / real - 1))
    return {"median": round(statistics.median(errors), 4), "most": round(max(errors), 4)}


def main() -> None:
    """Print; HiGHS, which now and then says something of its own, goes to standard error."""
    with reserved_stdout() as out:
        found = {
            "units": UNITS,
            "choices": CHOICES,
            "budgets": BUDGETS,
            "scored_a_second": scored_a_second(),
            "solver_s": solver_seconds(),
            "allocation_s": allocation_seconds(),
            "recipes_a_second": {name: recipes_a_second(name) for name in NETWORKS},
            "relative_error_of_bytes": {name: byte_errors(name) for name in NETWORKS},
        }
        print(json.dumps(found, indent=2), file=out)
    end_stdout()


if __name__ == "__main__":
    main()
