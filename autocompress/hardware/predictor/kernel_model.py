"""What a kernel takes: amounts of work times fitted rates, corrected by trees on its shape, path by path."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear

from autocompress.hardware.kernels.features import TERMS, Placed
from autocompress.hardware.predictor.forest import TREES, Floats, Forest, grow

LEAST_FOR_RATES = 8  # kernels of a path; with fewer, those of its family stand in
LEAST_FOR_TREES = 30
LEAST_US = 0.2  # no kernel takes less: the runtime has to start it
HEAVY_US = 300.0  # above this, kernels count alike in a fit
SLOWEST_FAR = 2.0  # times what a byte from far away takes in all kernels together: few kernels of a path say more
UNSEEN_SPREAD = 0.5  # of the logarithm, of a path that nobody has timed: within a factor of 2.3 nine times in ten
UNRELATED_SPREAD = 1.0  # where nothing related was timed either: a factor of 5
# Starts, multiply-accumulates, bytes read and written: what terms mean in all kinds of kernel, see ``Description``.
MEANT_BY_ALL = (0, 2, 4, 5)


@dataclass(frozen=True, kw_only=True)
class PathModel:
    """One path: ``rates [terms]`` in microseconds a unit; ``forest`` corrects the logarithm of what they give.

    ``spread`` is the standard deviation of the logarithm of the error on kernels of files not fitted on.
    """

    rates: Floats
    forest: Forest | None
    spread: float
    kernels: int

    def predict(self, terms: Floats, features: Floats) -> tuple[Floats, Floats]:
        """Microseconds ``[n]`` and the standard deviation of their logarithm ``[n]``."""
        base = np.maximum(terms @ self.rates, LEAST_US)
        if self.forest is None:
            return base, np.full(len(base), self.spread)
        answers = self.forest.answers(_with_base(features, base))
        spread = np.sqrt(self.spread**2 + answers.var(axis=1))
        return np.maximum(base * np.exp(answers.mean(axis=1)), LEAST_US), spread

    def to_data(self) -> dict[str, Any]:
        """JSON-able."""
        forest = None if self.forest is None else self.forest.to_data()
        return {"rates": self.rates.tolist(), "forest": forest, "spread": self.spread, "kernels": self.kernels}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "PathModel":
        """What ``to_data`` wrote."""
        forest = None if data["forest"] is None else Forest.from_data(data["forest"])
        return cls(rates=np.array(data["rates"]), forest=forest, spread=data["spread"], kernels=data["kernels"])


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Kernels of one path with their times; ``file [n]`` says which belong to one network."""

    file: Floats
    terms: Floats
    features: Floats
    us: Floats


@dataclass(frozen=True, kw_only=True)
class KernelModel:
    """Models of paths, and of families of paths (``conv_int8``, ``conv``, …) for those never seen."""

    paths: dict[str, PathModel]
    families: dict[str, PathModel]

    def predict(self, placed: Mapping[str, Placed]) -> tuple[Floats, Floats]:
        """Microseconds and the standard deviation of their logarithm, one of each a kernel, at their places."""
        count = sum(len(each.places) for each in placed.values())
        us, spread = np.zeros(count), np.zeros(count)
        for path, each in placed.items():
            model = self.paths.get(path) or self._stand_in(path)
            us[each.places], spread[each.places] = model.predict(each.terms, each.features)
        return us, spread

    def with_spreads(self, spreads: Mapping[str, float]) -> "KernelModel":
        """The same with what predictions of each path were found to lie off."""
        paths = {path: replace(each, spread=spreads.get(path, each.spread)) for path, each in self.paths.items()}
        return KernelModel(paths=paths, families=self.families)

    def _stand_in(self, path: str) -> PathModel:
        return next(self.families[each] for each in (path, *ancestors(path), "") if each in self.families)

    def to_data(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            name: {path: model.to_data() for path, model in models.items()}
            for name, models in (("paths", self.paths), ("families", self.families))
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "KernelModel":
        """What ``to_data`` wrote."""
        return cls(**{name: {path: PathModel.from_data(each) for path, each in data[name].items()} for name in data})


def ancestors(path: str) -> tuple[str, ...]:
    """The families that a path belongs to, the closest first: ``conv_int8_dense`` → ``conv_int8``, ``conv``."""
    parts = path.split("_")
    return tuple("_".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))


def fit_kernels(timed: Mapping[str, Timed], *, trees: int = TREES) -> KernelModel:
    """Fit each path that has kernels enough, and each family of paths; how far off they lie is not known yet.

    One way of an operator that moves numbers says nothing of its other ways (Softmax along the last axis or another
    one): it stands in for itself alone, where it has too few kernels.
    """
    most_far = _most_far(list(timed.values()))
    paths = {path: _fit(each, trees, most_far) for path, each in timed.items() if len(each.us) >= LEAST_FOR_RATES}
    groups: dict[str, list[str]] = {}
    for path in timed:
        for family in (*ancestors(path), ""):
            groups.setdefault(family, []).append(path)
    families = {}
    for family, members in groups.items():
        is_one_way = len(members) == 1 and family.startswith("move_")
        stand_in = _rates_only([timed[path] for path in members], most_far, are_related=family != "")
        families[members[0] if is_one_way else family] = stand_in
    return KernelModel(paths=paths, families=families)


def _most_far(every: list[Timed]) -> float:
    """The highest rate at which bytes may come from farther away, in microseconds each; infinite if nothing says."""
    pooled = _rates_only(every, np.inf).rates[TERMS:].sum() if every else 0.0
    return float(SLOWEST_FAR * pooled) if pooled else np.inf


def _rates_only(members: list[Timed], most_far: float, *, are_related: bool = True) -> PathModel:
    terms, us = (np.concatenate([getattr(each, name) for each in members]) for name in ("terms", "us"))
    if not are_related:  # amounts that each kind counts in its own way would be multiplied with a rate of another
        places = np.arange(terms.shape[1])
        terms = terms * (np.isin(places, MEANT_BY_ALL) | (places >= TERMS))
    return PathModel(
        rates=fit_rates(terms, us, most_far),
        forest=None,
        spread=UNSEEN_SPREAD if are_related else UNRELATED_SPREAD,
        kernels=sum(len(each.us) for each in members),
    )


def _fit(timed: Timed, trees: int, most_far: float) -> PathModel:
    rates = fit_rates(timed.terms, timed.us, most_far)
    forest = None
    if len(timed.us) >= LEAST_FOR_TREES:
        base = np.maximum(timed.terms @ rates, LEAST_US)
        target = np.log(np.maximum(timed.us, LEAST_US) / base)
        forest = grow(_with_base(timed.features, base), target, weights(timed.us), trees)
    return PathModel(rates=rates, forest=forest, spread=0.0, kernels=len(timed.us))


def fit_rates(terms: Floats, us: Floats, most_far: float = np.inf) -> Floats:
    """Non-negative microseconds a unit that minimize the relative error, heavy kernels counting more.

    Those of the terms beyond ``TERMS``, of bytes from farther away, are at most ``most_far``.
    """
    us = np.maximum(us, LEAST_US)
    largest = np.maximum(terms.max(axis=0), 1e-12)
    weight = weights(us)
    most = np.full(terms.shape[1], np.inf)
    most[TERMS:] = most_far * largest[TERMS:]
    columns = terms / largest / us[:, None] * weight[:, None]
    scaled = lsq_linear(columns, weight, (0, most), method="bvls").x
    rates: Floats = np.where(columns.any(axis=0), np.maximum(scaled, 0.0) / largest, 0.0)  # no work says nothing
    return rates


def weights(us: Floats) -> Floats:
    """How much each kernel counts: the more the longer it takes, up to a limit."""
    weight = np.sqrt(np.clip(us, 1.0, HEAVY_US))
    relative: Floats = weight / weight.mean()
    return relative


def _with_base(features: Floats, base: Floats) -> Floats:
    return np.column_stack([features, np.log(base)])
