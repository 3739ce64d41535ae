"""What recovery in rungs with restarts comes to, against one schedule that is cut. Prints JSON.

``python tests/benchmarks/rungs.py --recipes 16 --steps 270``, by hand. Random recipes of a small network on ``digits``
are recovered in both ways. An early rung is worth what its ranks say of the ranks at the end of one whole schedule,
which is what is delivered.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parent))

from budgets import plain

from autocompress.data.load import load_task
from autocompress.hardware.machine import this_machine
from autocompress.layers.constraint import held, held_in
from autocompress.recipe import Distill, PassStep, Recipe, Recovery
from autocompress.recover import train
from autocompress.recover.sample_stream import SampleStream
from autocompress.rungs import run_rung, rungs_of
from autocompress.target import Target
from autocompress.trial import Bench, accuracy_of, composed_of, drafted, finished, run_trial

WIDTH, BASELINE_STEPS = 24, 600
CONVOLUTIONS = ("0", "3", "6", "9")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=int, default=16)
    parser.add_argument("--steps", type=int, default=270)
    options = parser.parse_args()
    bench, rows = _bench(), []
    for seed in range(options.recipes):
        recipe = _recipe(seed, options.steps)
        whole = run_trial(bench, recipe, threads=1).facts.accuracy_val
        rows.append({"restarts": _restarts(bench, recipe), "cut": _cut(bench, recipe), "whole": whole})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    whole = [row["whole"] for row in rows]
    found: dict[str, object] = {"recipes": len(rows), "steps": [rung.last for rung in rungs_of(options.steps)]}
    for way in ("restarts", "cut"):
        ends = np.array([row[way] for row in rows])
        found[way] = {
            "spearman_with_the_whole": [round(float(spearmanr(column, whole).statistic), 3) for column in ends.T],
            "mean_accuracy": [round(float(value), 4) for value in ends.mean(0)],
        }
    print(json.dumps(found | {"mean_accuracy_of_the_whole": round(float(np.mean(whole)), 4)}, indent=2))


def _bench() -> Bench:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task, model = load_task("digits"), plain(WIDTH)
    settings = Recovery(steps=BASELINE_STEPS, learning_rate=4e-3, distill=Distill(logits=0))
    train.train_baseline(model, SampleStream(task, 0), settings)
    return Bench(base=model, task=task, target=Target(), machine=this_machine())


def _recipe(seed: int, steps: int) -> Recipe:
    """Strong enough that recovery matters: channels, weights of 2 to 4 bits."""
    rng = np.random.default_rng(seed)
    ratios = {name: round(float(rng.uniform(0.3, 0.85)), 2) for name in CONVOLUTIONS}
    bits = {name: {"bits": int(rng.integers(2, 5))} for name in CONVOLUTIONS[1:]}
    return Recipe(
        passes=(
            PassStep(name="prune_channels", settings={"ratios": ratios}),
            PassStep(name="share_weights", settings={"layers": bits}),
            PassStep(name="quantize"),
        ),
        recovery=Recovery(steps=steps, learning_rate=1e-3),
    )


def _restarts(bench: Bench, recipe: Recipe) -> list[float | None]:
    found, state = [], None
    for rung in rungs_of(recipe.recovery.steps):
        made, state = run_rung(bench, recipe, state, rung, threads=1)
        found.append(made.facts.accuracy_val)
    return found


def _cut(bench: Bench, recipe: Recipe) -> list[float]:
    """One schedule over all steps, looked at where the rungs would end: at the rate that it has there."""
    found = []
    for rung in rungs_of(recipe.recovery.steps):
        composed = composed_of(bench, recipe)
        settings, stream = recipe.recovery, SampleStream(bench.task, bench.stream_seed)
        teacher = train_teacher(bench, settings, stream)
        with held(held_in(composed.model, composed.constraints)):
            _descend_until(composed.model, stream, settings, teacher, rung.last)
        made = finished(drafted(bench, composed, 256), composed, composed.model, 0.0)
        found.append(accuracy_of(made.file, bench.task, "val", threads=1).value)
    return found


def train_teacher(bench: Bench, settings: Recovery, stream: SampleStream) -> torch.Tensor:
    """The original's outputs along the stream."""
    from autocompress.recover.teacher import teacher_outputs  # noqa: PLC0415

    return teacher_outputs(bench.base, stream, settings.steps * settings.batch, settings.arithmetic)


def _descend_until(
    model: torch.nn.Module, stream: SampleStream, settings: Recovery, teacher: torch.Tensor, last: int
) -> None:
    def loss_at(start: int, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return train.recovery_loss(
            stream.task, model(inputs), targets, teacher[start : start + len(inputs)], settings.distill
        )

    few = settings.model_copy(update={"steps": last})
    train._descend(model, stream, few, loss_at, way_at=lambda step: step / settings.steps, progress=None)
    train.reestimate_batchnorm(model, stream)


if __name__ == "__main__":
    main()
