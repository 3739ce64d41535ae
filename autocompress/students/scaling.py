"""How widths and strides follow from an architecture's parameters and from the size of its input."""

import math
from collections.abc import Mapping

from autocompress.students.knobs import Value

LEAST_SIZE = 4  # of the last stage's maps: smaller ones hold little more than their mean
MOST_HALVINGS = 5  # of ImageNet's networks, 224 to 7


def stage_widths(values: Mapping[str, Value], stages: int) -> tuple[int, ...]:
    """Channels of each stage: ``width``, then ``growth`` times as many from stage to stage, in multiples of 8."""
    return tuple(
        max(8, 8 * round(float(values["width"]) * float(values["growth"]) ** stage / 8)) for stage in range(stages)
    )


def depths(values: Mapping[str, Value]) -> tuple[int, ...]:
    """``depth_1``, ``depth_2`` and so on."""
    return tuple(int(value) for name, value in values.items() if name.startswith("depth_"))


def halvings(size: int) -> int:
    """How many times ``size`` can be halved before the last stage."""
    return min(MOST_HALVINGS, max(0, int(math.log2(size / LEAST_SIZE)))) if size >= LEAST_SIZE else 0


def strides(size: int, stages: int, *, stem: tuple[int, int], fine: bool = True) -> tuple[int, tuple[int, ...]]:
    """Stride of the stem, and of each stage, the first one's being 1; large inputs are halved by the stem already.

    A stem leaves 3 halvings for the stages, within ``stem``, the least and the most that it may do; one that is not
    ``fine`` halves once more, as far as it may.
    """
    times = halvings(size)
    by_stem = min(times, max(stem[0], min(stem[1], times - 3 + (not fine))))
    left = times - by_stem
    return 2**by_stem, tuple(2 if 0 < stage <= left else 1 for stage in range(stages))
