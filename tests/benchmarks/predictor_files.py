"""Builds the files that the latency predictor is judged on. Prints JSON: how many, and what failed.

``python tests/benchmarks/predictor_files.py --files FOLDER [--group unseen] [--limit-s 100]``; minutes in all, and what
is there stays. Weights are random: no kernel's time depends on them. Groups: families that no profile draws from (two
sets, ``unseen`` and ``fresh``), families that each does at other widths and sizes (``seen``), networks drawn as each
does (``drawn``), and ``recipes`` of three networks, drawn at random from the default search space.
"""

import argparse
import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from predictor_nets import FRESH, SEEN, UNSEEN, About, nets
from predictor_recipes import recipe_files
from predictor_timm import file_of

from autocompress.facts import write_whole
from autocompress.hardware.drawn.draw import draw
from autocompress.hardware.machine import this_machine

ONE_LIMIT_S = 100
FIRST_SEED, DRAWN = 1_000_000, 80
Build = Callable[[], bytes]


def main() -> None:
    """Build what is missing, print."""
    options = arguments().parse_args()
    torch.set_num_threads(1)
    groups: dict[str, Callable[[], Iterator[tuple[About, Build]]]] = {
        "unseen": lambda: ((net.about, lambda net=net: file_of(net)) for net in nets("unseen", UNSEEN)),
        "fresh": lambda: ((net.about, lambda net=net: file_of(net)) for net in nets("fresh", FRESH)),
        "seen": lambda: ((net.about, lambda net=net: file_of(net)) for net in nets("seen", SEEN)),
        "drawn": drawn_files,
        "recipes": recipe_files,
    }
    ended = time.process_time() + options.limit_s
    found = {name: _build(options.files, groups[name](), ended) for name in options.group or groups}
    print(json.dumps(found, indent=2))


def drawn_files() -> Iterator[tuple[About, Build]]:
    """Networks drawn as a profile draws them, from seeds that none of them uses (above a million)."""
    machine = this_machine()
    for seed in range(FIRST_SEED, FIRST_SEED + DRAWN):
        drawn = draw(seed, machine)
        about = About(
            name=drawn.name, group="drawn", family=drawn.family, kind="drawn", precision=drawn.precision,
            treatment=drawn.precision,
        )  # fmt: skip
        yield about, lambda drawn=drawn: drawn.proto


def arguments() -> argparse.ArgumentParser:
    """The options of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, default=Path("runs/benchmarks/predictor"), help="where the files lie")
    parser.add_argument("--group", action="append", choices=["unseen", "fresh", "seen", "drawn", "recipes"])
    parser.add_argument(
        "--limit-s", type=float, default=float("inf"), help="begin no file after so much processor time"
    )
    return parser


def _build(folder: Path, wanted: Iterator[tuple[About, Build]], ended: float) -> dict[str, object]:
    """A file that failed leaves a note instead, and is not tried again before that is removed."""
    made, failed, left = 0, {}, 0
    for about, build in wanted:
        file = folder / about.group / f"{about.name}.onnx"
        note = file.with_suffix(".failed")
        if note.exists():
            failed[about.name] = note.read_text()
        elif file.exists():
            made += 1
        elif time.process_time() > ended:
            left += 1
        else:
            try:
                with _limited(ONE_LIMIT_S):
                    content = build()
            except Exception as error:  # other files are still wanted
                traceback.print_exc()
                failed[about.name] = f"{type(error).__name__}: {error}"[:300]
                write_whole(note, failed[about.name])
                continue
            write_whole(file.with_suffix(".json"), about.to_json())
            write_whole(file, content)
            made += 1
    return {"made": made, "left": left, "failed": failed}


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def over(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"a file may take {seconds} s of the processor")

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


if __name__ == "__main__":
    main()
