"""Many networks at once: their kernels as numbers of kernels that were seen, so that sums are those of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat

import numpy as np
from numpy.typing import NDArray

from autocompress.hardware.kernels.features import (
    STEPS_PER_OCTAVE,
    Context,
    Ints,
    Placed,
    describe,
    rough_us,
    with_contexts,
)
from autocompress.hardware.kernels.kernel import Kernel, digest
from autocompress.hardware.predictor.forest import Floats

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
    """A row whose contexts are known: ``pair [k]`` says which of ``pairs [p]`` each is.

    These are different kernels in different contexts, by numbers that stay the same.
    """

    networks: int
    network: Ints
    pair: Ints
    pairs: Ints

    def sums(self, us: Floats) -> Floats:
        """Of each network, of what each of ``pairs`` is."""
        found: Floats = np.bincount(self.network, us[self.pair], self.networks).astype(np.float64)
        return found


class Growing:
    """An array of rows that more are added to."""

    def __init__(self, columns: int) -> None:
        self._held, self._count = np.empty((64, columns)), 0

    @property
    def rows(self) -> Floats:
        """Those that were added: ``[n, columns]``."""
        return self._held[: self._count]

    def add(self, rows: Floats) -> None:
        """``rows [m, columns]`` behind the others."""
        end = self._count + len(rows)
        if end > len(self._held):
            more = np.empty((max(end, 2 * len(self._held)), self._held.shape[1]))
            more[: self._count] = self.rows
            self._held = more
        self._held[self._count : end] = rows
        self._count = end


class Flattener:
    """Numbers kernels and contexts as they come, and remembers what of them their time follows from."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._number: dict[str, int] = {}  # of a kernel, by its signature
        self._names: list[str] = []
        self._kernels = Growing(4)  # stored bytes, rough time, number of the path, place among those of this path
        self._described: dict[str, tuple[int, Growing]] = {}  # by path: its place in ``paths``, and its kernels
        self._contexts: dict[Context, int] = {}

    def row(self, networks: Sequence[Sequence[Kernel]]) -> Row:
        """One row of all kernels."""
        every = list(chain.from_iterable(networks))
        # Recipes of one network share most kernels as objects, which are told apart faster than by their signatures.
        objects = np.fromiter(map(id, every), np.int64, len(every))
        _, first, which = np.unique(objects, return_index=True, return_inverse=True)
        different = [every[place] for place in first.tolist()]
        self._take_in(different)
        ids = np.array([self._number[kernel.signature] for kernel in different], np.int64)[which]
        network = np.repeat(np.arange(len(networks)), [len(kernels) for kernels in networks])
        columns = self._kernels.rows[ids, :2].T
        stored, rough = (np.bincount(network, each, len(networks)).astype(np.float64) for each in columns)
        return Row(networks=len(networks), kernel=ids, network=network, stored_bytes=stored, rough_us=rough)

    def flat(self, row: Row, pause_us: Floats, steps: float = STEPS_PER_OCTAVE) -> Flat:
        """The row in networks that take ``pause_us [n]``; see ``Context.of_sums``."""
        contexts = map(Context.of_sums, row.stored_bytes.tolist(), pause_us.tolist(), repeat(steps))
        numbers = np.array([self._contexts.setdefault(each, len(self._contexts)) for each in contexts], np.int64)
        pairs, pair = np.unique(numbers[row.network] * MOST_KERNELS + row.kernel, return_inverse=True)
        return Flat(networks=row.networks, network=row.network, pair=pair, pairs=pairs)

    def placed(self, pairs: Ints) -> dict[str, Placed]:
        """Path → those of its kernels that are in ``pairs [p]``."""
        context, kernel = np.divmod(pairs, MOST_KERNELS)
        contexts = np.array([(each.stored_bytes, each.pause_us) for each in self._contexts])[context]
        path, row = self._kernels.rows[kernel, 2:].astype(np.int64).T
        return {
            self.paths[number]: with_contexts(at, self._described[self.paths[number]][1].rows[row[at]], contexts[at])
            for number in np.unique(path).tolist()
            for at in [np.flatnonzero(path == number)]
        }

    def names(self, pairs: Ints) -> list[str]:
        """Digests of the signatures of the kernels in ``pairs``."""
        return [self._names[number] for number in (pairs % MOST_KERNELS).tolist()]

    def path(self, pairs: Ints) -> Ints:
        """The numbers in ``paths`` of the paths that the kernels in ``pairs`` take."""
        found: Ints = self._kernels.rows[pairs % MOST_KERNELS, 2].astype(np.int64)
        return found

    def _take_in(self, kernels: Sequence[Kernel]) -> None:
        """Number those that are new."""
        new = {kernel.signature: kernel for kernel in kernels if kernel.signature not in self._number}
        rows: dict[str, list[tuple[float, ...]]] = {}
        about = []
        for kernel in new.values():
            found = describe(kernel)
            of_path = rows.setdefault(found.path, [])
            if found.path not in self._described:
                self._described[found.path] = len(self.paths), Growing(len(found.numbers))
                self.paths.append(found.path)
            number, before = self._described[found.path]
            about.append((kernel.stored_bytes, rough_us(kernel), number, len(before.rows) + len(of_path)))
            of_path.append(found.numbers)
        if about:
            self._kernels.add(np.array(about))
        for path, numbers in rows.items():
            self._described[path][1].add(np.array(numbers))
        self._number.update(zip(new, count(len(self._names))))
        self._names += map(digest, new)


class Known:
    """What each pair of kernel and context was found to take: microseconds, their spread, whether the kernel was timed.

    ``fitted_us`` are those of the device that was fitted on, where the others are brought to another one.
    """

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self._rows = Growing(4)

    def lacking(self, pairs: Ints) -> Ints:
        """Those that are not known."""
        return np.array([pair for pair in pairs.tolist() if pair not in self._place], np.int64)

    def add(self, pairs: Ints, us: Floats, spread: Floats, timed: Bools, *, fitted_us: Floats) -> None:
        """Remember some that were lacking."""
        first = len(self._place)
        self._place.update(zip(pairs.tolist(), range(first, first + len(pairs)), strict=True))
        self._rows.add(np.column_stack([us, spread, timed, fitted_us]))

    def numbers(self, pairs: Ints) -> tuple[Floats, Floats, Bools, Floats]:
        """Of each pair: microseconds, spread, whether the kernel was timed, ``fitted_us``."""
        rows = self._rows.rows[[self._place[pair] for pair in pairs.tolist()]]
        return rows[:, 0], rows[:, 1], rows[:, 2].astype(np.bool_), rows[:, 3]


def sums(flat: Flat, us: Floats, spread: Floats, path: Ints) -> tuple[Floats, Floats, Floats]:
    """Of each network, from what each of ``pairs`` is: microseconds, and the squares of what kernels are off by.

    First each kernel alone, then those of one path together.
    """
    off = us * spread
    networks, paths = flat.networks, int(path.max(initial=0)) + 1
    of_path = np.bincount(flat.network * paths + path[flat.pair], off[flat.pair], networks * paths).astype(np.float64)
    together: Floats = (of_path.reshape(networks, paths) ** 2).sum(axis=1)
    return flat.sums(us), flat.sums(off**2), together
