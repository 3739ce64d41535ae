"""Many networks at once: their kernels as numbers of kernels that were seen, so that sums are those of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from autocompress.hardware.kernels.features import STEPS_PER_OCTAVE, Context, describe, rough_us
from autocompress.hardware.kernels.kernel import Kernel, digest
from autocompress.hardware.kernels.paths.description import Description
from autocompress.hardware.predictor.forest import Floats

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
MOST_KERNELS = 2**40  # more than memory holds: a pair's number is that of its context times this, plus its kernel's


@dataclass(frozen=True, kw_only=True)
class Row:
    """The kernels of several networks in one row.

    ``kernel [k]`` and ``network [k]`` say of each which it is, by a number that stays the same, and where it belongs;
    ``stored_bytes [n]`` and ``rough_us [n]`` are sums of each network's.
    """

    networks: int
    kernel: Ints
    network: Ints
    stored_bytes: Floats
    rough_us: Floats


@dataclass(frozen=True, kw_only=True)
class Flat:
    """A row whose contexts are known: ``pair [k]`` says which of ``pairs`` each is.

    These are different kernels in different contexts, by numbers that stay the same.
    """

    networks: int
    network: Ints
    pair: Ints
    pairs: list[int]

    def sums(self, us: Floats) -> Floats:
        """Of each network, of what each of ``pairs`` is."""
        found: Floats = np.bincount(self.network, us[self.pair], self.networks).astype(np.float64)
        return found


@dataclass(frozen=True)
class Numbered:
    """What of a kernel its time follows from, worked out once: ``name`` is the digest of its signature."""

    name: str
    described: Description
    stored_bytes: float
    rough_us: float

    @classmethod
    def of(cls, kernel: Kernel) -> "Numbered":
        """Of one kernel."""
        return cls(digest(kernel.signature), describe(kernel), kernel.stored_bytes, rough_us(kernel))


@dataclass(frozen=True)
class Flattener:
    """Numbers kernels as they come, and remembers what of them their time follows from."""

    _number: dict[str, int] = field(default_factory=dict)
    _kernels: list[Numbered] = field(default_factory=list)
    _contexts: dict[Context, int] = field(default_factory=dict)

    def row(self, networks: Sequence[Sequence[Kernel]]) -> Row:
        """One row of all kernels."""
        count = len(networks)
        number, every = self._number, [kernel for kernels in networks for kernel in kernels]
        for kernel in every:
            if kernel.signature not in number:
                number[kernel.signature] = len(self._kernels)
                self._kernels.append(Numbered.of(kernel))
        ids = np.array([number[kernel.signature] for kernel in every], np.int64)
        network = np.repeat(np.arange(count), [len(kernels) for kernels in networks])
        used, which = np.unique(ids, return_inverse=True)
        sizes = np.array([(self._kernels[at].stored_bytes, self._kernels[at].rough_us) for at in used.tolist()])
        stored, rough = (
            np.bincount(network, column[which], count).astype(np.float64) for column in sizes.reshape(-1, 2).T
        )
        return Row(networks=count, kernel=ids, network=network, stored_bytes=stored, rough_us=rough)

    def flat(self, row: Row, pause_us: Floats, steps: float = STEPS_PER_OCTAVE) -> Flat:
        """The row in networks that take ``pause_us [n]``; see ``Context.of_sums``."""
        contexts = map(Context.of_sums, row.stored_bytes.tolist(), pause_us.tolist(), repeat(steps))
        numbers = np.array([self._contexts.setdefault(each, len(self._contexts)) for each in contexts], np.int64)
        codes, pair = np.unique(numbers[row.network] * MOST_KERNELS + row.kernel, return_inverse=True)
        return Flat(networks=row.networks, network=row.network, pair=pair, pairs=codes.tolist())

    def pairs(self, codes: Sequence[int]) -> tuple[list[Numbered], list[Context]]:
        """The kernels and contexts that numbers of pairs stand for."""
        contexts = list(self._contexts)
        kernels = [self._kernels[code % MOST_KERNELS] for code in codes]
        return kernels, [contexts[code // MOST_KERNELS] for code in codes]


@dataclass(frozen=True)
class Known:
    """What each pair of kernel and context was found to take: microseconds, their spread, path, whether timed.

    ``fitted_us`` are those of the device that was fitted on, where the others are brought to another one.
    """

    _rows: dict[int, tuple[float, float, int, bool, float]] = field(default_factory=dict)
    _paths: dict[str, int] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """By their numbers."""
        return list(self._paths)

    def lacking(self, pairs: Sequence[int]) -> list[int]:
        """Those that are not known."""
        return [pair for pair in pairs if pair not in self._rows]

    def add(
        self,
        pairs: Sequence[int],
        us: Floats,
        spread: Floats,
        paths: Sequence[str],
        timed: Bools,
        *,
        fitted_us: Floats,
    ) -> None:
        """Remember some."""
        numbers = [self._paths.setdefault(path, len(self._paths)) for path in paths]
        rows = zip(us.tolist(), spread.tolist(), numbers, timed.tolist(), fitted_us.tolist(), strict=True)
        self._rows.update(zip(pairs, rows, strict=True))

    def numbers(self, pairs: Sequence[int]) -> tuple[Floats, Floats, Ints, Bools]:
        """Of each pair: microseconds, spread, number of the path, whether it was timed."""
        rows = np.array([self._rows[pair] for pair in pairs], np.float64).reshape(-1, 5)
        return rows[:, 0], rows[:, 1], rows[:, 2].astype(np.int64), rows[:, 3].astype(np.bool_)

    def fitted_us(self, pairs: Sequence[int]) -> Floats:
        """Of each pair, on the device that was fitted on."""
        return np.array([self._rows[pair][-1] for pair in pairs], np.float64)


def sums(flat: Flat, us: Floats, spread: Floats, path: Ints) -> tuple[Floats, Floats, Floats]:
    """Of each network, from what each of ``pairs`` is: microseconds, and the squares of what kernels are off by.

    First each kernel alone, then those of one path together.
    """
    off = us * spread
    count, paths = flat.networks, int(path.max(initial=0)) + 1
    of_path = np.bincount(flat.network * paths + path[flat.pair], off[flat.pair], count * paths).astype(np.float64)
    together: Floats = (of_path.reshape(count, paths) ** 2).sum(axis=1)
    return flat.sums(us), flat.sums(off**2), together
