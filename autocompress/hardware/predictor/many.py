"""Many networks at once: their kernels as numbers of kernels that were seen, so that sums are those of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autocompress.hardware.kernels.features import Context, rough_us
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.predictor.forest import Floats

Ints = NDArray[np.int64]
MOST_KERNELS = 2**40  # more than memory holds: a pair's number is that of its context times this, plus its kernel's


@dataclass(frozen=True, kw_only=True)
class Flat:
    """The kernels of several networks in one row.

    ``network [k]`` and ``pair [k]`` say of each which network it belongs to, and which of ``pairs`` it is: different
    kernels in different contexts, by numbers that stay the same.
    """

    networks: int
    network: Ints
    pair: Ints
    pairs: list[int]


@dataclass(frozen=True)
class Flattener:
    """Numbers kernels as they come, and remembers what of them a context follows from."""

    _number: dict[str, int] = field(default_factory=dict)
    _kernels: list[Kernel] = field(default_factory=list)
    _stored: list[float] = field(default_factory=list)
    _rough: list[float] = field(default_factory=list)
    _contexts: dict[Context, int] = field(default_factory=dict)

    def flat(self, networks: Sequence[Sequence[Kernel]]) -> Flat:
        """One row of all kernels."""
        count = len(networks)
        ids = np.array([self._id(kernel) for kernels in networks for kernel in kernels], np.int64)
        network = np.repeat(np.arange(count), [len(kernels) for kernels in networks])
        stored = np.bincount(network, np.array(self._stored)[ids], count) if len(ids) else np.zeros(count)
        rough = np.bincount(network, np.array(self._rough)[ids], count) if len(ids) else np.zeros(count)
        contexts = [Context.of_sums(*both) for both in zip(stored.tolist(), rough.tolist(), strict=True)]
        numbers = [self._contexts.setdefault(context, len(self._contexts)) for context in contexts]
        codes, pair = np.unique(np.array(numbers, np.int64)[network] * MOST_KERNELS + ids, return_inverse=True)
        return Flat(networks=count, network=network, pair=pair, pairs=codes.tolist())

    def pairs(self, codes: Sequence[int]) -> list[tuple[Kernel, Context]]:
        """The kernels and contexts that numbers of pairs stand for."""
        contexts = list(self._contexts)
        return [(self._kernels[code % MOST_KERNELS], contexts[code // MOST_KERNELS]) for code in codes]

    def _id(self, kernel: Kernel) -> int:
        found = self._number.get(kernel.signature)
        if found is None:
            found = self._number[kernel.signature] = len(self._kernels)
            self._kernels.append(kernel)
            self._stored.append(kernel.stored_bytes)
            self._rough.append(rough_us(kernel))
        return found


@dataclass(frozen=True)
class Known:
    """What each pair of kernel and context was found to take: microseconds, their spread, their path's number."""

    _rows: dict[int, tuple[float, float, int]] = field(default_factory=dict)
    _paths: dict[str, int] = field(default_factory=dict)

    def lacking(self, pairs: Sequence[int]) -> list[int]:
        """Those that are not known."""
        return [pair for pair in pairs if pair not in self._rows]

    def add(self, pair: int, us: float, spread: float, path: str) -> None:
        """Remember one."""
        self._rows[pair] = us, spread, self._paths.setdefault(path, len(self._paths))

    def numbers(self, pairs: Sequence[int]) -> tuple[Floats, Floats, Ints]:
        """Three of ``[pairs]``."""
        rows = [self._rows[pair] for pair in pairs]
        us, spread, path = np.array(rows, np.float64).reshape(-1, 3).T
        return us, spread, path.astype(np.int64)


def sums(flat: Flat, us: Floats, spread: Floats, path: Ints) -> tuple[Floats, Floats, Floats]:
    """Of each network, from what each of ``pairs`` is: microseconds, and the squares of what kernels are off by.

    First each kernel alone, then those of one path together.
    """
    off = us * spread
    count, paths = flat.networks, int(path.max(initial=0)) + 1
    total: Floats = np.bincount(flat.network, us[flat.pair], count).astype(np.float64)
    alone: Floats = np.bincount(flat.network, (off**2)[flat.pair], count).astype(np.float64)
    of_path = np.bincount(flat.network * paths + path[flat.pair], off[flat.pair], count * paths).astype(np.float64)
    together: Floats = (of_path.reshape(count, paths) ** 2).sum(axis=1)
    return total, alone, together
