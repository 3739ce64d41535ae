"""Several networks drawn at once, one on each core: quantizing and exporting one takes as long as measuring it."""

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool

from joblib import Parallel, delayed

from autocompress.hardware.drawn.draw import Drawn
from autocompress.hardware.machine import this_machine

MOST_PROCESSES = 8  # each of them imports PyTorch
_DIED = "the process that drew it and others beside it died, perhaps for want of memory"


def drawn_together(
    draw_one: Callable[..., Sequence[Drawn]], seeds: Sequence[int], *about: object
) -> list[Sequence[Drawn] | str]:
    """What each of ``seeds`` gives, in order; why not, for one that the tools refuse.

    Processes are kept for the next call and wait for it idly, so that nothing of ours runs beside a measurement.

    Args:
        draw_one: takes a seed and ``about``; all of these, and what it returns, cross processes.
        seeds: of the networks.
        about: the same for all.
    """
    processes = min(this_machine().cores, MOST_PROCESSES, len(seeds))
    try:
        return list(Parallel(n_jobs=processes)(delayed(attempted)(draw_one, seed, *about) for seed in seeds))
    except BrokenProcessPool:
        return [_DIED for _ in seeds]


def attempted(draw_one: Callable[..., Sequence[Drawn]], seed: int, *about: object) -> Sequence[Drawn] | str:
    """What ``seed`` gives; why not, where the tools refuse it."""
    try:
        return draw_one(seed, *about)
    except Exception as error:  # PyTorch's exporter and the quantizer have errors of their own
        return str(error)
