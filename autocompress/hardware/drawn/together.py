"""Several networks drawn at once, one on each core: quantizing and exporting take as long as measuring does."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from joblib import Parallel, delayed

from autocompress.hardware.drawn.draw import Drawn
from autocompress.hardware.machine import this_machine

Draw = Callable[[int], Sequence[Drawn]]


def drawn_together(draw_one: Callable[..., Sequence[Drawn]], seeds: Iterable[int], *about: object) -> list[Sequence[Drawn] | str]:
    """What each of ``seeds`` gives, in order; why not, for one that the tools refuse.

    Processes are kept for the next call and wait for it idly, so that nothing of ours runs beside a measurement.

    Args:
        draw_one: takes a seed and ``about``; all of these, and what it returns, cross processes.
        seeds: of the networks.
        about: the same for all.
    """
    found: list[Sequence[Drawn] | str] = Parallel(n_jobs=this_machine().cores)(
        delayed(partial(_attempt, draw_one))(seed, *about) for seed in seeds
    )
    return found


def _attempt(draw_one: Callable[..., Sequence[Drawn]], seed: int, *about: object) -> Sequence[Drawn] | str:
    try:
        return draw_one(seed, *about)
    except Exception as error:  # PyTorch's exporter and the quantizer have errors of their own
        return str(error)
