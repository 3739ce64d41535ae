"""Does a run beat the simple alternatives on CIFAR-10, all recovered for as many steps? Prints JSON.

``python tests/benchmarks/race.py --data cifar10-jpeg [--time 5m] [--seeds 0 1 2]``; a ResNet-20, trained first for some
minutes. For each budget and seed: a whole run, then each control of that run with the full recovery that the run gave
its answer, and the mildest uniform pruning + int8 that meets the budget, at its own learning rate and at the answer's,
of which the better counts. The files of one row are measured together, which decides who meets the budget. Accuracies
are of exported files on the whole test split, in points. What is in ``--out`` is not made again.
"""

import json
import re
import statistics
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from cifar import BATCH, accuracy, arguments, bench_of

import autocompress
from autocompress.budget import Budget
from autocompress.facts import write_whole
from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.precision import Format
from autocompress.recipe import Base, Recipe, Recovery
from autocompress.result import Result
from autocompress.search.controls import AT_RANDOM, UNIFORM_INT8, UNIFORM_PRUNING
from autocompress.search.costing import measure_files
from autocompress.search.full_recovery import fully_recovered
from autocompress.search.goal import Goal
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.space import DEFAULT, load_space
from autocompress.trial import Bench, export_base, facts_of, make_structure, run_trial

NETWORK = "residual_20"
BUDGETS = ("latency<=50%,size<=20%", "latency<=42%,size<=12%")
ANSWER, FITTING = "answer", "uniform pruning + int8 that fits"
RATIOS = (0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of which the first that fits is taken
ROUNDS, WINDOW_MS = 12, 60.0


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
    """One run, its answer and the others."""
    out = options.out / f"{re.sub('[^a-z0-9]+', '-', budget)}-{options.time}-{seed}"
    result = _run(out, options, budget, seed)
    controls = {r.control: r.recipe for r in result.trial_log if r.control is not None}
    builder = _builder(bench)
    pruned = {f"{ratio:g}": builder.recipe(builder.uniform(ratio, Format.INT8)) for ratio in RATIOS}
    costs = _costs(bench, result, out, {**controls, **pruned}, budget)
    fitting = next((name for name in pruned if costs[name]["within"]), None)
    wanted = {**controls, **({FITTING: pruned[fitting]} if fitting else {})}
    if fitting:
        costs[FITTING] = {**costs[fitting], "ratio": float(fitting)}
    known = _known(out / "accuracies.json")
    steps = result.recipe.recovery.steps if result.recipe is not None else 300
    for name, recipe in wanted.items():
        key = f"{FITTING} {fitting}" if name == FITTING else name
        if key not in known:
            rates = {recipe.recovery.learning_rate, *(_rates(result) if name == FITTING else ())}
            known[key] = max(_recovered(bench, _at_rate(recipe, rate), steps) for rate in rates)
            write_whole(out / "accuracies.json", json.dumps(known))
    return {
        "budget": budget,
        "seed": seed,
        "status": result.status,
        "seconds": round(result.seconds, 1),
        "trials": result.trials.total,
        "best": {**_answer(result), **costs.get(ANSWER, {})},
        "controls": {
            name: {"accuracy": known[f"{FITTING} {fitting}" if name == FITTING else name], **costs[name]}
            for name in wanted
        },
    }


def _rates(result: Result) -> tuple[float, ...]:
    return () if result.recipe is None else (result.recipe.recovery.learning_rate,)


def _at_rate(recipe: Recipe, rate: float) -> Recipe:
    return recipe.model_copy(update={"recovery": recipe.recovery.model_copy(update={"learning_rate": rate})})


def _recovered(bench: Bench, recipe: Recipe, steps: int) -> float:
    """Points on the test split after a full recovery."""
    made = run_trial(bench, fully_recovered(recipe, steps), threads=bench.machine.cores)
    return round(accuracy(made.file, bench), 2)


def _run(out: Path, options: Namespace, budget: str, seed: int) -> Result:
    if (out / "result.json").is_file():
        return Result.from_json((out / "result.json").read_text())
    return autocompress.compress(
        f"{Path(__file__).with_name('cifar.py')}:{NETWORK}", options.data, budget, out, overwrite=True,
        checkpoint=options.cache / f"{NETWORK}.safetensors", time=options.time, seed=seed,
    )  # fmt: skip


def _builder(bench: Bench) -> RecipeBuilder:
    """Of uniform recipes of the network."""
    return RecipeBuilder(
        space=load_space(DEFAULT),
        anatomy=anatomy_of(bench.base, example_input(bench.task.preprocess.shape), blocks=True),
        base=Base(model=NETWORK),
        recovery=Recovery(batch=BATCH),
        seed=0,
        align=bench.machine.channel_block,
    )


def _costs(
    bench: Bench, result: Result, out: Path, recipes: dict[str, Recipe], budget: str
) -> dict[str, dict[str, Any]]:
    """Of every file, measured in turns beside the original, and whether it meets the budget."""
    files = {name: make_structure(bench, recipe, threads=1).file for name, recipe in recipes.items()}
    if result.best is not None:
        files[ANSWER] = (out / "best" / "model.onnx").read_bytes()
    names = list(files)
    baseline, latencies = measure_files(
        export_base(bench), {place: files[name] for place, name in enumerate(names)}, bench.target,
        rounds=ROUNDS, window_ms=WINDOW_MS,
    )  # fmt: skip
    goal = Goal(budget=Budget.parse(budget), baseline=facts_of(export_base(bench)).with_latency(baseline))
    found = {}
    for place, name in enumerate(names):
        facts = facts_of(files[name]).with_latency(latencies[place])
        found[name] = {
            "latency": round(latencies[place].median_ms / baseline.median_ms, 3),
            "size": round(facts.size_bytes / goal.baseline.size_bytes, 3),
            "within": goal.within_costs(facts),
        }
    return found


def _known(file: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def _answer(result: Result) -> dict[str, Any]:
    best = result.best
    if best is None or result.recipe is None:
        return {}
    assert best.accuracy_test is not None
    return {
        "accuracy": round(100 * best.accuracy_test, 2),
        "interval": [round(100 * end, 2) for end in best.accuracy_test_interval or ()],
        "certificate_us": round(1e3 * (best.latency_ms or 0), 1),
        "steps": result.recipe.recovery.steps,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds; answers and controls count where they meet the budget, measured side by side."""
    rows = [row for row in rows if row["best"].get("within")]
    ours = [row["best"]["accuracy"] for row in rows]
    fitting = [{name: each for name, each in row["controls"].items() if each["within"]} for row in rows]
    simple = [
        max((controls[name]["accuracy"] for name in (UNIFORM_INT8, UNIFORM_PRUNING, FITTING) if name in controls),
            default=None)
        for controls in fitting
    ]  # fmt: skip
    random = [controls[AT_RANDOM]["accuracy"] for controls in fitting if AT_RANDOM in controls]
    known = [each for each in simple if each is not None]
    ahead = [
        row["best"]["accuracy"] - each["accuracy"]
        for row, controls in zip(rows, fitting, strict=True) for each in controls.values()
    ]  # fmt: skip
    return {
        "meet": len(rows),
        "ours": round(statistics.mean(ours), 2) if ours else None,
        "better of uniform int8 and uniform pruning + int8": round(statistics.mean(known), 2) if known else None,
        "median of random ones": round(statistics.median(random), 2) if random else None,
        "ahead of each control by at least": round(min(ahead), 2) if ahead else None,
        "half the widest interval": round(max((high - low) / 2 for low, high in
                                              (row["best"]["interval"] for row in rows)), 2)
        if ours else None,
    }  # fmt: skip


if __name__ == "__main__":
    main()
