"""What other guests of the same machine do to networks, and how long caches take to settle. Prints JSON.

``OMP_NUM_THREADS=1 python tests/benchmarks/neighbours.py FILE.onnx ... [--time 120]``: files run in turns. For each:
microseconds in calm moments, how many times as long it takes beside a slow pulse (half of the core is taken) and beside
a long reach (the outer cache is), and the first runs of a calm visit as multiples of its later ones. The same factors
for a matrix product. On a machine of one's own no moment is restless, and the factors are null.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from autocompress.hardware.calm import known_calm
from autocompress.hardware.runner import Senses, Subject, reference_matrix

VISIT_RUNS, SETTLED_FROM = 40, 20
SHOWN_RUNS = (0, 1, 2, 4, 8, 16)
WAKE_READINGS = 500


@dataclass(frozen=True)
class Visit:
    """What was read around some runs, and what each of them took."""

    pulse: float
    reach: float
    us: Sequence[float]

    @property
    def settled_us(self) -> float:
        """The median of the later runs, or of all if they are few."""
        return float(np.median(self.us[SETTLED_FROM:] or self.us))


def main() -> None:
    """Run in turns until the time is over, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="run in turns; together they should not fit into caches")
    parser.add_argument("--time", type=float, default=120.0, help="seconds")
    options = parser.parse_args()
    subjects = [Subject(str(file), {"threads": 1, "batch": 1, "seed": 0}) for file in options.files]
    senses, matrix = Senses(known_calm()), reference_matrix(0)
    for _ in range(WAKE_READINGS):
        senses.pulse()
        senses.reach()
    visits: list[list[Visit]] = [[] for _ in subjects]
    products: list[Visit] = []
    ended = time.monotonic() + options.time
    while time.monotonic() < ended:
        for subject, found in zip(subjects, visits, strict=True):
            found.append(visit(senses, partial(runs_us, subject)))
        products.append(visit(senses, partial(product_us, matrix)))
    every = [each for found in visits for each in found]
    shares = {
        "calm": np.mean([each.pulse <= 1 and each.reach <= 1 for each in every]),
        "core_taken": np.mean([each.pulse > 1 for each in every]),
        "cache_taken": np.mean([each.pulse <= 1 < each.reach for each in every]),
    }
    print(
        json.dumps(
            {
                "visits": len(every),
                "shares": {name: round(float(share), 3) for name, share in shares.items()},
                "matrix_product": described(products),
                "files": {file.stem: described(found) for file, found in zip(options.files, visits, strict=True)},
            },
            indent=2,
        )
    )


def runs_us(subject: Subject) -> list[float]:
    """Of each run of a visit."""
    return [subject.run_us() for _ in range(VISIT_RUNS)]


def product_us(matrix: np.ndarray) -> list[float]:
    """Of one matrix product."""
    started = time.perf_counter()
    np.matmul(matrix, matrix)
    return [(time.perf_counter() - started) * 1e6]


def visit(senses: Senses, run: Callable[[], list[float]]) -> Visit:
    """The worse of the readings before and after, and what ``run`` took."""
    pulse, reach = senses.pulse(), senses.reach()
    us = run()
    return Visit(max(pulse, senses.pulse()), max(reach, senses.reach()), us)


def described(visits: Sequence[Visit]) -> dict[str, object]:
    """What is printed of one file."""
    calm = [each for each in visits if each.pulse <= 1 and each.reach <= 1]
    if not calm:
        return {"us": None}
    us = float(np.median([each.settled_us for each in calm]))
    first = [[each.us[run] / each.settled_us for run in SHOWN_RUNS if run < len(each.us)] for each in calm]
    beside = {
        "core_taken": [each.settled_us / us for each in visits if each.pulse > 1],
        "cache_taken": [each.settled_us / us for each in visits if each.pulse <= 1 < each.reach],
    }
    return {
        "us": round(us, 1),
        "calm_spread": round(float(np.std([each.settled_us / us for each in calm])), 3),
        **{name: round(float(np.median(found)), 2) if found else None for name, found in beside.items()},
        "first_runs": dict(
            zip((run + 1 for run in SHOWN_RUNS), np.median(first, axis=0).round(2).tolist(), strict=False)
        ),
    }


if __name__ == "__main__":
    main()
