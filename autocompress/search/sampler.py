"""An Optuna sampler that learns a surrogate of what trials return; how it chooses is in ``proposal``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autocompress.errors import SpaceError
from autocompress.search.pool import Axis, Space, keys
from autocompress.search.proposal import MISS_COST, Past, Proposer, Rules

Array = NDArray[np.float64]
Params = Mapping[str, Any]


class SurrogateSampler(BaseSampler):
    """Proposes what a surrogate of one or two objectives expects most of; the same seed and past, the same proposal.

    Completed trials teach it the objectives; constraints of completed and pruned trials teach it what is infeasible;
    running trials count as if they came out as expected. Nothing that was asked for before is proposed again, as long
    as there is anything new. At most ``proposal.MOST_ROWS`` completed trials (best and latest) are looked at.

    Args:
        space: every parameter that is proposed; others are drawn at random.
        seed: of all draws.
        startup: finished or running trials before anything is learned.
        feasible: of many configurations at once, which may be tried. None that may not is proposed, as long as an
            allowed one can be found. A space of up to ``pool.MOST_LISTED`` configurations is asked about as a whole.
        known: by the place of an objective: its values for many configurations at once.
        miss_cost: what one that breaks a limit costs, as a share of a whole trial; 1 where only a whole trial shows it.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        seed: int,
        startup: int = 10,
        feasible: Callable[[Sequence[Params]], Sequence[bool]] | None = None,
        known: Mapping[int, Callable[[Sequence[Params]], Sequence[float]]] | None = None,
        miss_cost: float = MISS_COST,
    ) -> None:
        self._space = {name: distribution for name, distribution in space.items() if not distribution.single()}
        self._fixed = {name: _only(distribution) for name, distribution in space.items() if distribution.single()}
        self._axes = Space(axes=tuple(map(_axis, self._space.values())))
        self._seed, self._startup = seed, startup
        self._feasible, self._known = feasible, dict(known or {})
        self._miss_cost = miss_cost
        self._others = RandomSampler(seed=seed)
        self._told: dict[int, _Told] = {}  # of trials that have ended, by number
        self._proposer: Proposer | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002  # as Optuna calls it
        """The parameters that are proposed together."""
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next configuration.

        Raises:
            SpaceError: the study has more than two objectives.
        """
        if not search_space:
            return {}
        signs = np.array([1.0 if way is StudyDirection.MAXIMIZE else -1.0 for way in study.directions])
        if len(signs) > 2:
            raise SpaceError(
                f"sampler surrogate takes one or two objectives, got {len(signs)}; take sampler tpe or nsga2"
            )
        if self._proposer is None:
            self._proposer = Proposer(self._axes, self._rules(signs), self._startup)
        past = self._past(study.get_trials(deepcopy=False), signs)
        row = self._proposer.propose(past, np.random.default_rng((self._seed, trial.number)))
        return self._params(row)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random: what is outside of the given space."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    def _rules(self, signs: Array) -> Rules:
        feasible = None if self._feasible is None else _by_codes(self._feasible, self._many, 1.0)
        return Rules(
            allowed=None if feasible is None else lambda codes: feasible(codes) > 0,
            known={at: _by_codes(function, self._many, signs[at]) for at, function in self._known.items()},
            miss_cost=self._miss_cost,
        )

    def _many(self, codes: Array) -> list[dict[str, Any]]:
        return [{**self._fixed, **self._params(row)} for row in codes]

    def _params(self, row: Array) -> dict[str, Any]:
        return {name: _value(self._space[name], code) for name, code in zip(self._space, row, strict=True)}

    def _past(self, trials: list[FrozenTrial], signs: Array) -> Past:
        """What Optuna knows; trials without all of the space's parameters are left out."""
        told = [each for each in map(self._of_trial, trials) if each.row is not None]
        complete = [each for each in told if each.values is not None]
        judged = [each for each in told if not np.isnan(each.violation)]
        return Past(
            codes=self._stacked(complete),
            scores=np.array([each.values for each in complete], dtype=np.float64).reshape(-1, len(signs)) * signs,
            violation=_violations(complete),
            judged=self._stacked(judged),
            judged_violation=_violations(judged),
            pending=self._stacked([each for each in told if each.is_running]),
            seen={each.key for each in told},
        )

    def _stacked(self, told: list["_Told"]) -> Array:
        return np.array([each.row for each in told], dtype=np.float64).reshape(len(told), len(self._space))

    def _of_trial(self, trial: FrozenTrial) -> "_Told":
        known = self._told.get(trial.number)
        if known is not None:
            return known
        is_whole, state = all(name in trial.params for name in self._space), trial.state
        row = [_code(way, trial.params[name]) for name, way in self._space.items()] if is_whole else None
        may_judge = state in (TrialState.COMPLETE, TrialState.PRUNED)
        found = _Told(
            row=None if row is None else np.array(row, dtype=np.float64),
            values=tuple(trial.values) if state is TrialState.COMPLETE and trial.values is not None else None,
            violation=max(trial.constraints.values(), default=np.nan) if may_judge else np.nan,
            is_running=state is TrialState.RUNNING,
        )
        if state.is_finished():
            self._told[trial.number] = found
        return found


@dataclass(frozen=True, kw_only=True)
class _Told:
    """One trial: its codes, None where it lacks parameters; values; the largest of its constraints, NaN without any."""

    row: Array | None
    values: tuple[float, ...] | None
    violation: float
    is_running: bool

    @cached_property
    def key(self) -> bytes:
        """What tells its codes apart."""
        return b"" if self.row is None else keys(self.row[None])[0]


def _violations(told: list[_Told]) -> Array:
    return np.array([each.violation for each in told], dtype=np.float64)


def _by_codes(
    function: Callable[[Sequence[Params]], Sequence[Any]], many: Callable[[Array], list[dict[str, Any]]], sign: float
) -> Callable[[Array], Array]:
    """A function of rows of codes that asks for every configuration once."""
    known: dict[bytes, float] = {}

    def values(codes: Array) -> Array:
        names = keys(codes)
        new = [at for at, name in enumerate(names) if name not in known]
        if new:
            found = function(many(codes[new]))
            known.update((names[at], sign * float(value)) for at, value in zip(new, found, strict=True))
        return np.array([known[name] for name in names], dtype=np.float64)

    return values


def _axis(distribution: BaseDistribution) -> Axis:
    if isinstance(distribution, CategoricalDistribution):
        return Axis(choices=len(distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is None or distribution.log:
        return Axis()
    return Axis(steps=round((distribution.high - distribution.low) / distribution.step) + 1)


def _ends(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    low, high = float(distribution.low), float(distribution.high)
    return (float(np.log(low)), float(np.log(high))) if distribution.log else (low, high)


def _code(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.to_internal_repr(value))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _ends(distribution)
    code = ((np.log(value) if distribution.log else value) - low) / (high - low)
    return float(_axis(distribution).snapped(np.array([code]))[0])


def _value(distribution: BaseDistribution, code: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(code)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _ends(distribution)
    value = low + code * (high - low)
    value = float(np.exp(value)) if distribution.log else value
    held = min(max(value, distribution.low), distribution.high)
    return round(held) if isinstance(distribution, IntDistribution) else float(held)


def _only(distribution: BaseDistribution) -> Any:
    """The one value of a parameter without choice."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low
