"""Searches under random latency budgets: does what is marked ``met`` hold when it is measured again? Prints JSON.

``python tests/benchmarks/budgets.py --runs 20 --time 40s``, by hand, alone on the machine. Each run compresses a small
network on ``digits`` to 20 to 90 % of its own latency. Afterwards baseline and result are measured anew, in a fresh
process; as the machine may have become faster or slower, the ratio of the two is what counts, on the scale of the
run's own baseline. The A/A floor, from the result beside its own copy, says which excess means nothing.

``a_latency_profile`` in the output says whether forecasts took part: ``autocompress profile`` makes one.
"""

import argparse
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import nn

import autocompress as ac
from autocompress.data.options import DataOptions
from autocompress.hardware.kept import circumstances_of
from autocompress.hardware.latency import a_a_floor, measure_latency
from autocompress.hardware.machine import this_machine
from autocompress.hardware.predictor.profile import is_profile, place_of
from autocompress.result import Result, Status
from autocompress.search.launcher import SerialLauncher
from autocompress.target import Target

SHARES = (0.2, 0.9)  # of the baseline's latency
TIMM_SIDE = 32
FLOORS = 3  # comparisons of a file with its own copy, of which the largest counts


def plain(width: int) -> nn.Module:
    """Four convolutions on 8 × 8 digits."""
    widths = (1, width, width, 2 * width, 2 * width)
    layers: list[nn.Module] = []
    for number, (c_in, c_out) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(c_in, c_out, 3, stride=1 + (number == 2), padding=1, bias=False), nn.BatchNorm2d(c_out)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def narrow() -> nn.Module:
    """A tenth of a millisecond."""
    return plain(32)


def wide() -> nn.Module:
    """About a millisecond."""
    return plain(96)


MODELS = (f"{__file__}:wide", "resnet10t", f"{__file__}:narrow", "mobilenetv3_small_050")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--time", default="40s", help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others count on")
    parser.add_argument("--model", choices=("all", *(name.rpartition(":")[2] for name in MODELS)), default="all")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.seed, options.seed + options.runs):
            models = [each for each in MODELS if options.model in ("all", each.rpartition(":")[2])]
            rows.append(one(models[number % len(models)], number, options.time, Path(folder)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"in all": summary(rows), "runs": rows}, indent=2))


def one(model: str, seed: int, time: str, folder: Path) -> dict[str, object]:
    """One search, and its result measured again."""
    share = float(np.random.default_rng(seed).uniform(*SHARES))
    name, out = model.rpartition(":")[2], folder / str(seed)
    weights = next(iter(folder.glob(f"*-{name}.safetensors")), None)  # of an earlier run: it is trained once
    options = DataOptions() if ":" in model else DataOptions(input_size=TIMM_SIDE)
    given = {} if weights is None else {"checkpoint": weights}
    result = ac.compress(
        model, "digits", f"latency<={100 * share:.1f}%", out, time=time, seed=seed, launcher=SerialLauncher(),
        options=options, **given,
    )  # fmt: skip
    trained = out / "baseline" / "model.safetensors"
    if weights is None and trained.is_file():
        (folder / f"{seed}-{name}.safetensors").write_bytes(trained.read_bytes())
    return {"model": name, "seed": seed, "share": round(share, 3), **judged(result, out)}


def judged(result: Result, out: Path) -> dict[str, object]:
    """What was certified beside what is found now."""
    log = result.trial_log
    trials = result.trials.model_dump() | {"never built": sum(each.forecast_ms is not None for each in log)}
    found: dict[str, object] = {"status": result.status.value, "seconds": round(result.seconds), "trials": trials}
    if result.best is None or result.status is not Status.MET:
        return found | {"verdict": result.verdict}
    limit_ms, certified_ms, baseline_ms = result.budget[0].limit, result.best.latency_ms, result.baseline.latency_ms
    assert certified_ms is not None
    assert baseline_ms is not None
    files = [out / str(result.baseline.artifact), out / str(result.best.artifact)]
    baseline, best = measure_latency(files, Target(), seed=1)
    again_ms = best.median_ms / baseline.median_ms * baseline_ms
    return found | {
        "limit_ms": round(limit_ms, 4),
        "certified_ms": round(certified_ms, 4),
        "interval_ms": result.best.latency_interval_ms,
        "predicted_ms": result.best.latency_predicted_ms,
        "again_ms": round(again_ms, 4),
        "exceeded_by": round(max(0.0, again_ms / limit_ms - 1), 4),
        "floor": round(max(a_a_floor(files[1], Target(), seed=seed) for seed in range(FLOORS)), 4),
        "noisy": baseline.noisy or best.noisy,
        "accuracy_test": result.best.accuracy_test,
    }


def summary(rows: list[dict[str, object]]) -> dict[str, object]:
    """How often, and how far, a result exceeded its budget."""
    met = [row for row in rows if row["status"] == Status.MET.value]
    return {
        "a_latency_profile": is_profile(place_of(circumstances_of(this_machine()))),
        "runs": len(rows),
        "met": len(met),
        "worst_excess": max((float(str(row["exceeded_by"])) for row in met), default=None),
        "median_floor": float(np.median([float(str(row["floor"])) for row in met])) if met else None,
        "beyond_their_floor": sum(float(str(row["exceeded_by"])) > float(str(row["floor"])) for row in met),
    }


if __name__ == "__main__":
    main()
