"""The next configuration to try, from what became of those before it.

Few random ones first; then the one, of a pool that holds the whole space if that is small, whose expected improvement
(two objectives: expected hypervolume gain) is largest for what it should cost: what likely breaks a limit is ruled out
before it is trained, and costs little. What is being tried counts as if it had come out as believed. What is proposed
depends on the past and the seed alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from autocompress.search import pool
from autocompress.search.acquisition import NormalScores, levels, log_feasible, log_gain, log_improvement
from autocompress.search.hypervolume import front
from autocompress.search.pool import Space
from autocompress.search.surrogate import Features, Kernel, Surrogate, fit, fitted_kernel

Array = NDArray[np.float64]

LEAST_ROWS = 3  # finished trials below which there is nothing to learn from
# Rows that a prediction rests on, half the best, half the latest: keeps a proposal to tens of milliseconds.
MOST_ROWS = 200
MOST_VIOLATIONS = 160  # half those nearest to the limit, half the latest: close to additive, they need fewer
KERNEL_EVERY = 1.25  # growth of the past after which the kernel is learned anew
RANDOM, NEAR_BEST, NEAR_LIKELY = 300, 400, 300  # sizes of a pool's parts
PARENTS = 8
TRIES = 10  # pools of random configurations until one holds an allowed one
LIKELY = np.log(0.5)  # of the probability to keep all limits
VIOLATION = (-1.0, 3.0)  # beyond which a violation says no more
MISS_COST = 0.1  # of what is ruled out before training: a choice, near the share of a trial that building it takes


@dataclass(frozen=True, kw_only=True)
class Past:
    """What is known: rows of codes with scores to be maximized, in the order in which they were asked for.

    ``violation`` is at most 0 where all limits were kept and NaN where none was told. ``judged`` were told a violation,
    with a score or without. ``pending`` are on their way. ``seen`` are the keys of all.
    """

    codes: Array
    scores: Array
    violation: Array
    judged: Array
    judged_violation: Array
    pending: Array
    seen: set[bytes]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which finished ones kept their limits."""
        return ~(self.violation > 0)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is known without trying, of rows of codes: who may be tried, and known objectives."""

    allowed: Callable[[Array], NDArray[np.bool_]] | None = None
    known: Mapping[int, Callable[[Array], Array]] = field(default_factory=dict)
    miss_cost: float = MISS_COST


Worth = Callable[[Array], Array]


class Proposer:
    """Proposes; what it keeps between proposals only spares time."""

    def __init__(self, space: Space, rules: Rules, startup: int) -> None:
        self._space, self._rules, self._startup = space, rules, startup
        self._features = Features(choices=tuple(axis.choices for axis in space.axes))
        self._listed = _listed(space, rules)
        self._places = {} if self._listed is None else {key: at for at, key in enumerate(pool.keys(self._listed))}
        self._kernels: dict[object, tuple[int, Kernel]] = {}

    def propose(self, past: Past, rng: np.random.Generator) -> Array:
        """One row of codes: new and allowed, as long as any such can be found."""
        if len(past.codes) < LEAST_ROWS or len(past.codes) + len(past.pending) < self._startup:
            return self._at_random(past, rng)
        found = self._best(*self._pool(past, self._worth(past), rng), 1)
        return np.asarray(found[0]) if len(found) else self._at_random(past, rng)

    def _at_random(self, past: Past, rng: np.random.Generator) -> Array:
        """New and allowed if there is any, else new, else anything; what likely keeps the limits goes first."""
        limits = self._limits(past) if len(past.judged) >= self._startup else None
        fallback = self._space.draw(rng, 1)
        for _ in range(1 if self._listed is not None else TRIES):
            drawn = self._drawn(past, rng)
            fallback = drawn[:1] if len(drawn) else fallback
            value = np.linspace(1.0, 0.0, len(drawn))
            if limits is not None:
                chance = _judged(drawn, limits)
                value = np.where(chance > LIKELY, value, chance)
            found = self._best(drawn, value, 1)
            if len(found):
                return np.asarray(found[0])
        return np.asarray(fallback[0])

    def _drawn(self, past: Past, rng: np.random.Generator) -> Array:
        """New ones in random order; of a large space, behind them some near those that broke limits least."""
        if self._listed is not None:
            return rng.permutation(self._remaining(past))
        rows = self._space.draw(rng, RANDOM)
        order = np.argsort(past.judged_violation, kind="stable")
        least = past.judged[order[past.judged_violation[order] > 0][:PARENTS]]
        if len(least):
            rows = np.vstack([rows, self._space.mutated(rng, least, RANDOM)])
        return self._new(rows, past)

    def _pool(self, past: Past, worth: Worth, rng: np.random.Generator) -> tuple[Array, Array]:
        """Rows and their worth: all new ones of a small space; else some at random, near the best and the worthiest."""
        if self._listed is not None:
            rows = self._remaining(past)
            return rows, _judged(rows, worth)
        drawn = [self._space.draw(rng, RANDOM), self._space.mutated(rng, _parents(past), NEAR_BEST)]
        rows = self._new(np.vstack(drawn), past)
        value = _judged(rows, worth)
        likely = self._best(rows, value, PARENTS)
        if not len(likely):
            return rows, value
        near = self._new(self._space.mutated(rng, likely, NEAR_LIKELY), past)
        return np.vstack([rows, near]), np.concatenate([value, _judged(near, worth)])

    def _remaining(self, past: Past) -> Array:
        """Of a small space what is allowed and new."""
        assert self._listed is not None
        new = np.ones(len(self._listed), dtype=bool)
        new[[self._places[key] for key in past.seen if key in self._places]] = False
        return np.asarray(self._listed[new])

    def _new(self, rows: Array, past: Past) -> Array:
        return np.asarray(rows[pool.without(rows, past.seen)])

    def _best(self, rows: Array, value: Array, wanted: int) -> Array:
        """The worthiest allowed rows."""
        if self._listed is not None or self._rules.allowed is None:
            return np.asarray(rows[np.argsort(-value, kind="stable")[:wanted]])
        return np.asarray(rows[pool.best_allowed(rows, value, self._rules.allowed, wanted)])

    def _worth(self, past: Past) -> Worth:
        limits = self._limits(past)
        if not past.kept.any():
            assert limits is not None, "some limit was broken"
            return limits
        aim = self._improvement(past) if past.scores.shape[1] == 1 else self._gain(past)
        return aim if limits is None else lambda rows: aim(rows) + _per_cost(limits(rows), self._rules.miss_cost)

    def _limits(self, past: Past) -> Worth | None:
        """Logarithm of the probability that all limits are kept; None if none was ever broken."""
        if not (past.judged_violation > 0).any():
            return None
        violation = np.clip(past.judged_violation, *VIOLATION)
        kernel = self._kernel("violation", past.judged, violation)
        rows = _rows(-np.abs(violation), MOST_VIOLATIONS)
        surrogate = fit(self._features, past.judged[rows], violation[rows], kernel=kernel)
        return lambda rows: log_feasible(*surrogate.of(rows))

    def _improvement(self, past: Past) -> Worth:
        belief = self._belief(past, 0)
        best = float(belief.scale.of_values[past.kept[belief.rows]].max())
        return lambda rows: log_improvement(*belief.of(rows), best)

    def _gain(self, past: Past) -> Worth:
        beliefs = [None if at in self._rules.known else self._belief(past, at) for at in (0, 1)]
        reference = past.scores.min(axis=0)  # a higher one cuts off the front's ends, which then are never found
        pending = np.column_stack([self._middle(at, beliefs[at], past.pending) for at in (0, 1)])
        points = np.vstack([past.scores[past.kept], pending])

        def worth(rows: Array) -> Array:
            first, second = (self._levels(at, beliefs[at], rows) for at in (0, 1))
            return log_gain(first, second, points, reference)

        return worth

    def _levels(self, objective: int, belief: "_Belief | None", rows: Array) -> Array:
        if belief is None:
            return self._rules.known[objective](rows)[:, None]
        return levels(belief.scale, *belief.of(rows))

    def _middle(self, objective: int, belief: "_Belief | None", rows: Array) -> Array:
        """What a pending row counts as."""
        if belief is None:
            return self._rules.known[objective](rows)
        return belief.scale.values_of(belief.of(rows)[0])

    def _belief(self, past: Past, objective: int) -> "_Belief":
        scores = past.scores[:, objective]
        rows = _rows(np.where(past.kept, scores, -np.inf), MOST_ROWS)
        scale = NormalScores(scores[rows])
        kernel = self._kernel(objective, past.codes, scores)
        known = fit(self._features, past.codes[rows], scale.of_values, kernel=kernel)
        belief = _Belief(surrogate=known, scale=scale, rows=rows)
        return belief.believing(past.pending) if len(past.pending) else belief

    def _kernel(self, name: object, codes: Array, scores: Array) -> Kernel:
        """Learned from the first rows, whose number grows in steps: the past alone decides it, and seldom anew."""
        count = min(LEAST_ROWS, len(codes))
        while (more := int(np.ceil(count * KERNEL_EVERY))) <= len(codes):
            count = more
        at, kernel = self._kernels.get(name, (0, None))
        if at != count or kernel is None:
            kernel = fitted_kernel(self._features, codes[:count], NormalScores(scores[:count]).of_values)
            self._kernels[name] = (count, kernel)
        return kernel


@dataclass(frozen=True, kw_only=True)
class _Belief:
    """One objective on the scale of normal scores; ``rows`` of the past it rests on."""

    surrogate: Surrogate
    scale: NormalScores
    rows: NDArray[np.intp]

    def of(self, codes: Array) -> tuple[Array, Array]:
        """Mean and standard deviation."""
        return self.surrogate.of(codes)

    def believing(self, pending: Array) -> "_Belief":
        """With ``pending`` as if they had come out as believed: means stay, doubt near them goes."""
        return replace(self, surrogate=self.surrogate.believing(pending))


def _listed(space: Space, rules: Rules) -> Array | None:
    """Every allowed configuration of a small space."""
    rows = space.listed()
    return rows if rows is None or rules.allowed is None else np.asarray(rows[rules.allowed(rows)])


def _judged(rows: Array, worth: Worth) -> Array:
    return worth(rows) if len(rows) else np.zeros(0)


def _per_cost(chance: Array, miss_cost: float) -> Array:
    """Logarithm of how often one is tried, by the logarithm of the chance that it may be, for the cost of one trial."""
    return np.asarray(chance - np.log(miss_cost + (1 - miss_cost) * np.exp(chance)))


def _rows(scores: Array, most: int) -> NDArray[np.intp]:
    """Which of the past to keep: all while they are few, then the best and the latest."""
    if len(scores) <= most:
        return np.arange(len(scores))
    half = most // 2
    early = np.argsort(-scores[:-half], kind="stable")[:half]
    return np.concatenate([np.sort(early), np.arange(len(scores) - half, len(scores))])


def _parents(past: Past) -> Array:
    """The best finished ones that kept their limits; without any, those that broke them least."""
    if not past.kept.any():
        return past.codes[np.argsort(past.violation, kind="stable")[:PARENTS]]
    codes, scores = past.codes[past.kept], past.scores[past.kept]
    if scores.shape[1] == 2:
        return codes[front(scores)]
    return codes[np.argsort(-scores[:, 0], kind="stable")[:PARENTS]]
