"""Does a run beat the simple alternatives on CIFAR-10, all recovered for as many steps? Prints JSON.

``python tests/benchmarks/race.py --data cifar10-jpeg [--time 5m] [--seeds 0 1 2]``; a ResNet-20, trained first for some
minutes. For each budget and seed: a whole run, then each control of that run with the full recovery that
the run gave its answer. Accuracies are of exported files on the whole test split, in points.
"""

import json
import statistics
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from cifar import accuracy, arguments, bench_of

import autocompress
from autocompress.result import Result, Status, TrialRecord
from autocompress.search.controls import AT_RANDOM, UNIFORM_INT8, UNIFORM_PRUNING
from autocompress.search.full_recovery import fully_recovered
from autocompress.trial import Bench, export_base, run_trial

NETWORK = "residual_20"
BUDGETS = ("latency<=50%,size<=20%", "latency<=42%,size<=12%")


def main() -> None:
    """Run, print after each."""
    parser = arguments(__doc__)
    parser.add_argument("--time", default="5m", help="of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", nargs="+", default=BUDGETS)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/race"))
    options = parser.parse_args()
    bench, _ = bench_of(NETWORK, options)
    found: dict[str, Any] = {"original": accuracy(export_base(bench), bench), "time": options.time, "rows": []}
    for budget in options.budgets:
        for seed in options.seeds:
            found["rows"].append(row(bench, options, budget, seed))
            print(json.dumps(found["rows"][-1]), file=sys.stderr, flush=True)
    found["summary"] = {budget: summary([row for row in found["rows"] if row["budget"] == budget])
                        for budget in options.budgets}  # fmt: skip
    print(json.dumps(found, indent=1))


def row(bench: Bench, options: Namespace, budget: str, seed: int) -> dict[str, Any]:
    """One run and its controls."""
    out = options.out / f"{options.budgets.index(budget)}-{seed}"
    started = time.monotonic()
    result = autocompress.compress(
        f"{Path(__file__).with_name('cifar.py')}:{NETWORK}", options.data, budget, out, overwrite=True,
        checkpoint=options.cache / f"{NETWORK}.safetensors", time=options.time, seed=seed,
    )  # fmt: skip
    seconds = time.monotonic() - started
    controls = {r.control: r for r in result.trial_log if r.control is not None}
    return {
        "budget": budget,
        "seed": seed,
        "status": result.status,
        "seconds": round(seconds, 1),
        "trials": result.trials.total,
        "best": facts_of(result),
        "controls": {name: control(bench, record, result) for name, record in controls.items()},
    }


def facts_of(result: Result) -> dict[str, Any]:
    """Of the answer."""
    best = result.best
    if best is None or result.recipe is None:
        return {}
    assert best.accuracy_test is not None
    return {
        "accuracy": round(100 * best.accuracy_test, 2),
        "interval": [round(100 * end, 2) for end in best.accuracy_test_interval or ()],
        "latency_us": round(1e3 * (best.latency_ms or 0), 1),
        "size": best.size_bytes,
        "steps": result.recipe.recovery.steps,
        "met": result.status is Status.MET,
    }


def control(bench: Bench, record: TrialRecord, result: Result) -> dict[str, Any]:
    """A control with the recovery of the answer."""
    steps = result.recipe.recovery.steps if result.recipe is not None else record.recipe.recovery.steps
    made = run_trial(bench, fully_recovered(record.recipe, steps), threads=bench.machine.cores)
    facts = record.facts
    return {
        "accuracy": round(accuracy(made.file, bench), 2),
        "latency_us": None if facts is None or facts.latency_ms is None else round(1e3 * facts.latency_ms, 1),
        "size": made.facts.size_bytes,
        "within": record.within_budget,
        "recipe": record.summary,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, of those that meet the budget."""
    ours = [row["best"]["accuracy"] for row in rows if row["best"]]
    fitting = [{name: each for name, each in row["controls"].items() if each["within"]} for row in rows]
    simple = [
        max(
            (each["accuracy"] for name, each in controls.items() if name in {UNIFORM_INT8, UNIFORM_PRUNING}),
            default=None,
        )
        for controls in fitting
    ]
    random = [each["accuracy"] for controls in fitting for name, each in controls.items() if name == AT_RANDOM]
    known = [each for each in simple if each is not None]
    return {
        "ours": round(statistics.mean(ours), 2) if ours else None,
        "better of uniform int8 and uniform pruning + int8": round(statistics.mean(known), 2) if known else None,
        "median of random ones": round(statistics.median(random), 2) if random else None,
        "ahead of each control by at least": round(
            min(row["best"]["accuracy"] - each["accuracy"] for row, controls in zip(rows, fitting, strict=True)
                for each in controls.values()), 2)
        if ours and any(fitting) else None,
    }  # fmt: skip


if __name__ == "__main__":
    main()
