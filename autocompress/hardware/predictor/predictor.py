"""Latency of a network from its kernels, with an interval that says how sure it is.

``T = call + slope · Σ t_k``, where each kernel's time comes, in this order, from

1. a kernel with the same signature that was timed (``measured``),
2. rates and trees fitted on kernels of the same path (``learned``), see ``kernel_model``,
3. rates fitted on related paths, with a wide interval (``roofline``): never 0, never an error.

The interval is conformal: errors on networks that were not fitted on are divided by the spread that their kernels'
own errors suggest, and the 90 % quantile of that ratio stretches the spread of a new network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np

from autocompress.facts import Facts
from autocompress.hardware.kept import Circumstances
from autocompress.hardware.kernels.features import ROUGH_STEPS
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.runtime_graph import RuntimeGraph
from autocompress.hardware.predictor.forest import Floats
from autocompress.hardware.predictor.kernel_model import KernelModel
from autocompress.hardware.predictor.kernel_times import ProfilerCost
from autocompress.hardware.predictor.many import Flat, Flattener, Known, sums

Source = Literal["measured", "learned", "roofline"]
COVERAGE = 0.9
FLOOR_SPREAD = 0.015  # of a whole network, however well its kernels are known
TIMED_SPREAD = 0.04  # of a kernel that was timed in another network
DOUBT = 0.5  # a timed kernel's own correction counts as n / (n + DOUBT)
TOGETHER = 0.4  # of the errors of kernels on one path, the share that they have in common
NORMAL_90 = 1.645
KNOTS_US = (3.0, 30.0, 300.0)  # between which a kernel's size decides how it fares on another device


class KernelRow(Facts):
    """One kernel's predicted microseconds with their 90 % interval, and where they come from."""

    name: str
    op: str
    us: float
    low_us: float
    high_us: float
    source: Source


class Prediction(Facts):
    """Predicted milliseconds of one inference; ``interval_ms`` holds the measured median nine times in ten.

    ``measured_share`` is the part of the time that kernels take which were timed before; ``rows`` are in the order of
    execution; ``notes`` say what deserves mistrust.
    """

    ms: float
    interval_ms: tuple[float, float]
    measured_share: float
    rows: tuple[KernelRow, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One kernel's microseconds, the standard deviation of their logarithm, its path, and whether it was timed."""

    us: float
    spread: float
    path: str
    timed: bool


class Transfer(Facts):
    """What kernels take elsewhere: ``log t' = log t + curve(log t) + kind``; see ``transfer``.

    ``curve`` is the logarithm of the factor at ``KNOTS_US``, straight in between over the logarithm of the time;
    ``kinds`` are what kinds of kernel differ from it by.
    """

    curve: tuple[float, float, float]
    kinds: dict[str, float]

    @staticmethod
    def kind_of(path: str) -> str:
        """The kind that a path counts as: ``conv_blocked``, ``product_int8``, ``move``."""
        first, _, rest = path.partition("_")
        return first if first in {"move", "recurrent"} else f"{first}_{rest.partition('_')[0]}"

    def applied(self, paths: Sequence[str], us: Floats) -> Floats:
        """Microseconds there of kernels that take ``us [n]`` here."""
        kinds = [self.kinds.get(self.kind_of(path), 0.0) for path in paths]
        return us * np.exp(np.interp(np.log(us), np.log(KNOTS_US), self.curve) + kinds)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A network's milliseconds with their 90 % interval; ``spread`` before the conformal stretch."""

    ms: float
    interval_ms: tuple[float, float]
    spread: float


@dataclass(frozen=True, kw_only=True)
class LatencyPredictor:
    """Fitted numbers; ``fit.fit`` makes one, ``to_data`` keeps it.

    ``timed`` maps digests of kernels to the logarithm of their time over what the model says; ``quantile`` is the
    conformal stretch, ``scale`` the factor by which wholes were found to be slower than fitted.
    """

    circumstances: Circumstances
    model: KernelModel
    timed: dict[str, float]
    cost: ProfilerCost
    slope: float
    quantile: float
    scale: float = 1.0
    transfer: Transfer | None = None
    _flattener: Flattener = field(default_factory=Flattener, repr=False, compare=False)
    _known: Known = field(default_factory=Known, repr=False, compare=False)

    @classmethod
    def load(cls, profile: str | Path) -> "LatencyPredictor":
        """The predictor of the profile in a folder, as searches have corrected it since.

        Unlike ``autocompress.predict`` it takes a profile of any device; ``circumstances`` says which that is.

        Raises:
            ProfileError: no profile there, or one that was cut off or edited; names the line.
        """
        from autocompress.hardware.predictor.kept_fit import loaded  # noqa: PLC0415  # what it reads it may fit anew

        return loaded(Path(profile))

    def predict(self, graph: RuntimeGraph) -> Prediction:
        """Latency of one file's graph; see ``runtime_graph``."""
        guesses = self.guesses([placed.kernel for placed in graph.kernels])
        whole = self.whole(guesses)
        rows = tuple(
            self._row(placed.name, placed.kernel.op, guess)
            for placed, guess in zip(graph.kernels, guesses, strict=True)
        )
        total = sum(guess.us for guess in guesses)
        return Prediction(
            ms=whole.ms,
            interval_ms=whole.interval_ms,
            measured_share=sum(guess.us for guess in guesses if guess.timed) / total if total else 0.0,
            rows=rows,
        )

    def predict_many(self, networks: Sequence[Sequence[Kernel]]) -> tuple[Floats, Floats, Floats]:
        """Milliseconds of many networks, with the ends of their intervals: three of ``[n]``."""
        flat = self._flat(networks)
        us, spread, _, _ = self._known.numbers(flat.pairs)
        total, alone, together = sums(flat, us, spread, self._flattener.path(flat.pairs))
        variance = (TOGETHER * together + (1 - TOGETHER) * alone) / np.maximum(total, 1e-9) ** 2
        ms: Floats = self.scale * (self.cost.call_us + self.slope * total) / 1e3
        stretch = np.exp(self.quantile * np.sqrt(FLOOR_SPREAD**2 + variance))
        return ms, ms / stretch, ms * stretch

    def guesses(self, kernels: Sequence[Kernel]) -> list[Guess]:
        """What each kernel of one network takes."""
        flat = self._flat([kernels])
        us, spread, timed, _ = self._known.numbers(flat.pairs)
        path, names = self._flattener.path(flat.pairs), self._flattener.paths
        each = [
            Guess(us=one, spread=doubt, path=names[number], timed=bool(is_timed))
            for one, doubt, number, is_timed in zip(
                us.tolist(), spread.tolist(), path.tolist(), timed.tolist(), strict=True
            )
        ]
        return [each[pair] for pair in flat.pair]

    def whole(self, guesses: Sequence[Guess]) -> Whole:
        """A network of these kernels."""
        paths: dict[str, float] = {}
        total, alone = 0.0, 0.0
        for guess in guesses:
            off = guess.us * guess.spread
            total += guess.us
            alone += off**2
            paths[guess.path] = paths.get(guess.path, 0.0) + off
        together = sum(each**2 for each in paths.values())
        variance = (TOGETHER * together + (1 - TOGETHER) * alone) / max(total, 1e-9) ** 2
        spread = sqrt(FLOOR_SPREAD**2 + variance)
        ms = self.scale * (self.cost.call_us + self.slope * total) / 1e3
        stretch = exp(self.quantile * spread)
        return Whole(ms=ms, interval_ms=(ms / stretch, ms * stretch), spread=spread)

    def _flat(self, networks: Sequence[Sequence[Kernel]]) -> Flat:
        """The kernels in one row, each pair of kernel and context known.

        What the context says of a network's time comes from a first answer, which a rough guess of it is enough for.
        """
        row = self._flattener.row(networks)
        first = self._learned(self._flattener.flat(row, row.rough_us, ROUGH_STEPS))
        *_, fitted_us = self._known.numbers(first.pairs)
        return self._learned(self._flattener.flat(row, first.sums(fitted_us)))

    def _learned(self, flat: Flat) -> Flat:
        """The same, once all its pairs are known."""
        new = self._known.lacking(flat.pairs)
        if len(new):
            us, spread = self.model.predict(self._flattener.placed(new))
            corrections = [self.timed.get(name) for name in self._flattener.names(new)]
            us *= np.exp([correction or 0.0 for correction in corrections])
            was_timed = np.array([correction is not None for correction in corrections])
            fitted_us = us
            if self.transfer is not None:
                paths = [self._flattener.paths[number] for number in self._flattener.path(new).tolist()]
                us = self.transfer.applied(paths, us)
            was_timed &= self.transfer is None  # elsewhere nobody timed them
            spread = np.where(was_timed, TIMED_SPREAD, spread)
            self._known.add(new, us, spread, was_timed, fitted_us=fitted_us)
        return flat

    def _row(self, name: str, op: str, guess: Guess) -> KernelRow:
        us, stretch = guess.us * self.slope * self.scale, exp(NORMAL_90 * guess.spread)
        source: Source = "measured" if guess.timed else "learned" if guess.path in self.model.paths else "roofline"
        return KernelRow(name=name, op=op, us=us, low_us=us / stretch, high_us=us * stretch, source=source)

    def to_data(self) -> dict[str, Any]:
        """JSON-able; ``from_data`` gives an equal predictor back."""
        return {
            "circumstances": self.circumstances.model_dump(mode="json"),
            "model": self.model.to_data(),
            "timed": self.timed,
            "cost": self.cost.model_dump(mode="json"),
            "slope": self.slope,
            "quantile": self.quantile,
            "scale": self.scale,
            "transfer": None if self.transfer is None else self.transfer.model_dump(mode="json"),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "LatencyPredictor":
        """What ``to_data`` wrote."""
        return cls(
            circumstances=Circumstances.model_validate(data["circumstances"]),
            model=KernelModel.from_data(data["model"]),
            timed=dict(data["timed"]),
            cost=ProfilerCost.model_validate(data["cost"]),
            slope=data["slope"],
            quantile=data["quantile"],
            scale=data["scale"],
            transfer=None if data["transfer"] is None else Transfer.model_validate(data["transfer"]),
        )
