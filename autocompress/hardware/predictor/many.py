"""Many networks at once: their kernels as numbers of kernels that were seen, so that sums are those of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autocompress.hardware.kernels.features import Context
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.predictor.forest import Floats

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Flat:
    """The kernels of several networks in one row.

    ``network [k]`` and ``pair [k]`` say of each which network it belongs to, and which of ``pairs`` it is: different
    kernels in different contexts.
    """

    networks: int
    network: Ints
    pair: Ints
    pairs: list[tuple[Kernel, Context]]


@dataclass(frozen=True)
class Flattener:
    """Numbers kernels as they come, and remembers what of them a context follows from."""

    _number: dict[str, int] = field(default_factory=dict)
    _kernels: list[Kernel] = field(default_factory=list)
    _stored: list[float] = field(default_factory=list)
    _moved: list[float] = field(default_factory=list)

    def flat(self, networks: Sequence[Sequence[Kernel]]) -> Flat:
        """One row of all kernels."""
        count = len(networks)
        ids = np.array([self._id(kernel) for kernels in networks for kernel in kernels], np.int64)
        network = np.repeat(np.arange(count), [len(kernels) for kernels in networks])
        stored = np.bincount(network, np.array(self._stored)[ids], count) if len(ids) else np.zeros(count)
        largest = np.zeros(count)
        np.maximum.at(largest, network, np.array(self._moved)[ids] if len(ids) else 0.0)
        contexts = [Context.of_sizes(*sizes) for sizes in zip(stored.tolist(), largest.tolist(), strict=True)]
        places = {context: place for place, context in enumerate(dict.fromkeys(contexts))}
        which = np.array([places[context] for context in contexts], np.int64)
        codes, pair = np.unique(which[network] * len(self._kernels) + ids, return_inverse=True)
        known = list(places)
        pairs = [(self._kernels[i], known[c]) for c, i in (divmod(code, len(self._kernels)) for code in codes.tolist())]
        return Flat(networks=count, network=network, pair=pair, pairs=pairs)

    def _id(self, kernel: Kernel) -> int:
        found = self._number.get(kernel.signature)
        if found is None:
            found = self._number[kernel.signature] = len(self._kernels)
            self._kernels.append(kernel)
            self._stored.append(kernel.stored_bytes)
            self._moved.append(kernel.moved_bytes)
        return found


def sums(flat: Flat, us: Floats, spread: Floats, path: Ints) -> tuple[Floats, Floats, Floats]:
    """Of each network, from what each of ``pairs`` is: microseconds, and the squares of what kernels are off by.

    First each kernel alone, then those of one path together.
    """
    off = us * spread
    count, paths = flat.networks, int(path.max(initial=0)) + 1
    total: Floats = np.bincount(flat.network, us[flat.pair], count)
    alone: Floats = np.bincount(flat.network, (off**2)[flat.pair], count)
    of_path: Floats = np.bincount(flat.network * paths + path[flat.pair], off[flat.pair], count * paths)
    return total, alone, (of_path.reshape(count, paths) ** 2).sum(axis=1)
