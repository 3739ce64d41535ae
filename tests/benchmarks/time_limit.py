"""Whether a run with a time limit ends within 110 % of it, everything included. Prints JSON.

``python tests/benchmarks/time_limit.py --times 60s 90s 180s``, by hand, alone on the machine. Each run trains its
baseline on ``digits`` and compresses it with ``--workers`` workers, or none where the run is too short for them.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import autocompress as ac
from autocompress.data.options import DataOptions
from autocompress.units import Kind, parse_quantity

ALLOWED = 1.1


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", nargs="+", default=["60s", "90s", "180s"])
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--budget", default="latency<=50%,size<=25%")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for limit in options.times:
        rows.append(one(limit, options))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"all_within": all(bool(row["within"]) for row in rows), "runs": rows}, indent=2))


def one(limit: str, options: argparse.Namespace) -> dict[str, object]:
    """One run in a folder of its own."""
    limit_s, compress = parse_quantity(limit, Kind.TIME) / 1e3, ac.compress  # which imports it
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        result = compress(
            options.model, "digits", options.budget, Path(folder, "run"), time=limit, seed=options.seed,
            workers=options.workers, options=DataOptions(input_size=32),
        )  # fmt: skip
        outside_s = time.monotonic() - began
    ends = [trial.rung for trial in result.trial_log if trial.rung is not None]
    return {
        "limit_s": limit_s,
        "seconds": round(outside_s, 1),
        "by_the_runs_own_clock_s": round(result.seconds, 1),
        "share": round(outside_s / limit_s, 3),
        "within": outside_s <= ALLOWED * limit_s,
        "status": result.status.value,
        "trials": result.trials.model_dump(),
        "ended_at_rung": {rung: ends.count(rung) for rung in sorted(set(ends))},
        "stage_seconds": {name: round(seconds, 1) for name, seconds in result.stage_seconds.items()},
    }


if __name__ == "__main__":
    main()
