"""Does the sensitivity table rank recipes like their accuracy after a short recovery? Prints JSON.

``python tests/benchmarks/table_ranking.py --data cifar10-jpeg``; the first run trains the network for some minutes.
Random recipes of nearly equal bytes mix channel pruning, low rank and 2 to 8 bits; each is recovered on its own and
judged by its file on test images. Beside the table stands the divergence of the whole recipe.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from cifar import BATCH, arguments, bench_of
from scipy.stats import spearmanr

from autocompress.divergence import divergence
from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.graph.units import by_units
from autocompress.precision import Format
from autocompress.recipe import Base, Distill, Recipe, Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import teacher_outputs
from autocompress.search.allocation.choices import values_of
from autocompress.search.allocation.sensitivity import measure_table
from autocompress.search.allocation.table import SensitivityTable
from autocompress.search.launcher import SerialLauncher
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.space import PrecisionChoice, PruneRange, RankRange, SearchSpace, Techniques
from autocompress.trial import Bench, accuracy_of, export_base, make_model

SPACE = SearchSpace(
    name="mixed",
    passes=Techniques(
        prune_channels=PruneRange(),
        factorize=RankRange(),
        quantize=PrecisionChoice(precision=(Format.INT8, Format.INT4, Format.INT3, Format.INT2)),
    ),
)
RECIPES = 24
SHARE, TOLERANCE = 0.11, 0.05  # of the weights' bytes in fp32; how far a recipe's may lie from that
TEST_IMAGES = 3000
LEANING = 3.0  # how strongly a recipe may lean to or from a technique, in logits


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.set_defaults(steps=90)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench, builder = _prepared(options)
    started = time.monotonic()
    table = measure_table(
        bench, builder, SerialLauncher(), limit_s=options.limit, folder=options.cache / "table_ranking"
    )
    table_s = time.monotonic() - started
    rows = []
    for picks in random_picks(table, builder):
        values = values_of(table.picked(picks))
        rows.append(_judged(bench, builder.recipe(values), float(table.score(picks[None])[0])))
        rows[-1]["weight_bytes"] = round(weight_bytes(builder, values))
        print(rows[-1], file=sys.stderr, flush=True)
    accuracy = [row["accuracy"] for row in rows]
    original = accuracy_of(export_base(bench), bench.task, "test", threads=1, most_samples=TEST_IMAGES).value
    found = {
        "spearman": {
            score: round(-float(spearmanr([row[score] for row in rows], accuracy).statistic), 3)
            for score in ("table", "whole")
        },
        "original_accuracy": round(100 * original, 2),
        "accuracy_range": [min(accuracy), max(accuracy)],
        "table": {"units": len(table.units), "seconds": round(table_s, 1), "notes": table.notes},
        "recipes": rows,
    }
    print(json.dumps(found, indent=2))


def _prepared(options: argparse.Namespace) -> tuple[Bench, RecipeBuilder]:
    bench, _ = bench_of("residual_9", options)
    torch.set_num_threads(1)
    anatomy = anatomy_of(bench.base, example_input(bench.task.preprocess.shape))
    bench = replace(bench, groups=anatomy.groups, blocks=anatomy.blocks)
    recovery = Recovery(steps=options.steps, batch=BATCH, distill=Distill(logits=1.0), quantize_aware=True)
    builder = RecipeBuilder(
        space=SPACE,
        anatomy=by_units(anatomy),
        base=Base(model="residual_9"),
        recovery=recovery,
        seed=0,
        align=4,
    )
    positions = teacher_outputs(bench.base, SampleStream(bench.task, 0), options.steps * BATCH, recovery.arithmetic)
    return bench.with_teacher(positions.numpy()), builder


def _judged(bench: Bench, recipe: Recipe, score: float) -> dict[str, Any]:
    started = time.monotonic()
    whole = divergence(bench, recipe)
    made = make_model(bench, recipe, threads=1)
    accuracy = accuracy_of(made.file, bench.task, "test", threads=1, most_samples=TEST_IMAGES).value
    return {
        "table": round(score, 4),
        "whole": round(whole, 4),
        "accuracy": round(100 * accuracy, 2),
        "file_bytes": len(made.file),
        "seconds": round(time.monotonic() - started, 1),
    }


def random_picks(table: SensitivityTable, builder: RecipeBuilder) -> list[np.ndarray]:
    """Recipes that lean to some techniques and from others, all of nearly equal bytes."""
    rng = np.random.default_rng(0)
    plain = sum(prod(layer.kernel) * layer.c_out * layer.c_in // layer.groups for layer in builder.anatomy.layers) * 4
    found: list[np.ndarray] = []
    while len(found) < RECIPES:
        lean = rng.uniform(-LEANING, LEANING, 3)
        picks = np.array([_drawn(row, lean, rng) for row in table.choices])
        size = weight_bytes(builder, values_of(table.picked(picks)))
        if abs(size / (SHARE * plain) - 1) <= TOLERANCE:
            found.append(picks)
    return found


def _drawn(choices: Any, lean: np.ndarray, rng: np.random.Generator) -> int:
    features = np.array([[c.prune, 1 - c.rank, 1 - (c.precision.bits or 8) / 8] for c in choices])
    odds = np.exp(features @ lean)
    return int(rng.choice(len(choices), p=odds / odds.sum()))


def weight_bytes(builder: RecipeBuilder, values: Any) -> float:
    """Of all weights of a recipe, as stored."""
    steps, total = builder.steps(values), 0.0
    ranks = {step.name: step.settings for step in steps.all()}.get("factorize", {"layers": {}})["layers"]
    for layer in builder.anatomy.layers:
        c_in, c_out = builder.anatomy.widths_after(layer, steps.kept)
        columns = c_in // layer.groups * prod(layer.kernel)
        count = ranks[layer.name]["rank"] * (c_out + columns) if layer.name in ranks else c_out * columns
        bits = Format(str(values[f"precision.{builder.anatomy.stage_of[layer.name]}"])).bits or 32
        total += count * bits / 8
    return total


if __name__ == "__main__":
    main()
