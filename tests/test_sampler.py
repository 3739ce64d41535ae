import itertools
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from autocompress.errors import SpaceError
from autocompress.search import proposal
from autocompress.search.parameters import Knob
from autocompress.search.pool import Axis, Space
from autocompress.search.proposal import MISS_COST, Proposer, Rules, _per_cost
from autocompress.search.sampler import SurrogateSampler
from autocompress.search.space import Range
from autocompress.search.study import Sampler, Study, optuna_sampler

CHOICES = {f"op{place}": CategoricalDistribution(tuple("abcd")) for place in range(5)}
MIXED = {
    "ratio": FloatDistribution(0.0, 0.8),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "share": FloatDistribution(0.0, 1.0, step=0.25),
    "depth": IntDistribution(1, 9),
    "bits": CategoricalDistribution((2, 4, 8)),
    "only": CategoricalDistribution(("one",)),
}
EFFECTS = np.random.default_rng(5).normal(size=(5, 4))
PAIRS = np.random.default_rng(6).normal(size=(5, 5, 4, 4))


def codes(params) -> list[int]:
    return ["abcd".index(params[name]) for name in CHOICES]


def additive(params) -> float:
    return float(sum(EFFECTS[place, code] for place, code in enumerate(codes(params))))


def pairwise(params) -> float:
    found = codes(params)
    return float(sum(PAIRS[i, i + 1, found[i], found[i + 1]] for i in range(4)))


def mixed(params) -> float:
    return -((params["ratio"] - 0.3) ** 2) - abs(params["depth"] - 4) / 8 - (params["bits"] == 2)


def all_of(score) -> list[float]:
    return [score(dict(zip(CHOICES, word, strict=True))) for word in itertools.product("abcd", repeat=5)]


def study_of(sampler, ways=("maximize",)) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=sampler, directions=list(ways))


def searched(score, trials: int, space=CHOICES, ways=("maximize",), **settings) -> list[dict]:
    study = study_of(SurrogateSampler(space, **({"seed": 0} | settings)), ways)
    for _ in range(trials):
        trial = study.ask(space)
        study.tell(trial, score(trial.params))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize(("score", "trials"), [(additive, 40), (pairwise, 70)])
@pytest.mark.parametrize("way", ["maximize", "minimize"])
def test_the_best_of_a_thousand_is_found_in_few_trials(score, trials, way):
    sign = 1 if way == "maximize" else -1
    found = searched(lambda params: sign * score(params), trials, ways=(way,))
    assert max(map(score, found)) == max(all_of(score))


def test_a_mixed_space_is_searched_and_kept_to():
    found = searched(mixed, 40, MIXED)
    assert max(map(mixed, found)) > -0.01
    for name, way in MIXED.items():
        assert all(way._contains(way.to_internal_repr(params[name])) for params in found)
        assert way.single() or len({params[name] for params in found}) > 2


@pytest.mark.parametrize("space", [CHOICES, MIXED])
def test_the_same_seed_proposes_the_same_and_another_does_not(space):
    score = additive if space is CHOICES else mixed
    assert searched(score, 16, space) == searched(score, 16, space)
    assert searched(score, 16, space) != searched(score, 16, space, seed=1)


def test_a_new_sampler_goes_on_as_the_old_one_would_have():
    """What it keeps in memory only spares time."""
    one = study_of(SurrogateSampler(CHOICES, seed=0))
    asked = [one.ask(CHOICES) for _ in range(4)]
    for _ in range(26):  # they end in another order than they began, the first one never
        asked.append(one.ask(CHOICES))
        trial = asked.pop(1 if len(asked) % 2 else 3)
        one.tell(trial, additive(trial.params))
    other = study_of(SurrogateSampler(CHOICES, seed=0))
    other.add_trials(one.trials)
    assert one.ask(CHOICES).params == other.ask(CHOICES).params


def test_nothing_seen_pending_failed_or_infeasible_is_proposed():
    small = {name: CHOICES[name] for name in list(CHOICES)[:3]}
    study = study_of(SurrogateSampler(small, seed=0, feasible=lambda many: [p["op0"] != "a" for p in many]))
    asked = []
    for place in range(48):
        trial = study.ask(small)
        asked.append(tuple(trial.params.values()))
        if place % 3 == 0:
            study.tell(trial, float(EFFECTS[0, "abcd".index(trial.params["op1"])]))
        elif place % 3 == 1:
            study.tell(trial, state=TrialState.FAIL if place % 2 else TrialState.PRUNED)
    assert len(set(asked)) == 48
    assert all(word[0] != "a" for word in asked)
    assert study.ask(small).params  # all are used up: anything rather than an error


def test_a_large_space_keeps_to_what_is_feasible_too():
    found = searched(mixed, 25, MIXED, feasible=lambda many: [p["depth"] * p["ratio"] < 0.6 for p in many])
    assert all(params["depth"] * params["ratio"] < 0.6 for params in found)


def test_broken_limits_are_learned_from_what_is_told():
    study = study_of(SurrogateSampler(CHOICES, seed=0))
    broken = []
    for _ in range(60):
        trial = study.ask(CHOICES)
        over = sum(code == int(np.argmax(EFFECTS[place])) for place, code in enumerate(codes(trial.params))) / 2 - 1
        trial.set_constraint("size", over)
        broken.append(over > 0)
        if over > 0:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, additive(trial.params))
    assert sum(broken[30:]) < 10
    two_best = sorted(max(row) - np.sort(row)[-2] for row in EFFECTS)
    best = EFFECTS.max(axis=1).sum() - sum(two_best[:3])
    assert study.best_value == pytest.approx(best)


def test_what_kept_the_limits_is_not_forgotten_among_many_that_broke_them():
    study = study_of(SurrogateSampler(CHOICES, seed=0))
    words = list(itertools.product("abcd", repeat=5))
    kept = [word for word in words if word[0] == "a"][::20]
    broken = [word for word in words if word[0] != "a"][::3]
    for word in (*kept, *broken):
        params, is_kept = dict(zip(CHOICES, word, strict=True)), word in kept
        study.add_trial(
            create_trial(
                params=params,
                distributions=CHOICES,
                value=additive(params) if is_kept else None,
                state=TrialState.COMPLETE if is_kept else TrialState.PRUNED,
                constraints={"size": -0.5 if is_kept else 1.0},
            )
        )
    asked = [study.ask(CHOICES).params["op0"] for _ in range(10)]
    assert asked.count("a") >= 7


def test_what_kept_the_limits_is_looked_at_although_all_that_broke_them_looks_better(monkeypatch):
    monkeypatch.setattr(proposal, "MOST_ROWS", 10)
    study = study_of(SurrogateSampler(CHOICES, seed=0, startup=4))
    for place, word in enumerate(itertools.islice(itertools.product("abcd", repeat=5), 0, 1000, 25)):
        over = -0.1 if place < 2 else 0.1
        params = dict(zip(CHOICES, word, strict=True))
        study.add_trial(
            create_trial(params=params, distributions=CHOICES, value=float(place), constraints={"accuracy": over})
        )
    assert set(study.ask(CHOICES).params) == set(CHOICES)


def test_what_is_kept_between_proposals_is_what_would_be_learned_anew():
    """From the first rows on, fewer than a prediction needs."""
    rng = np.random.default_rng(0)
    codes, scores = rng.integers(4, size=(8, 5)).astype(float), rng.random(8)
    going_on = proposer_of_choices()
    for count in range(1, 9):
        kept, anew = (each._kernel(0, codes[:count], scores[:count]) for each in (going_on, proposer_of_choices()))
        assert np.array_equal(kept.relevance, anew.relevance)


def proposer_of_choices() -> Proposer:
    return Proposer(Space(axes=(Axis(choices=4),) * 5), Rules(), startup=1)


def test_a_miss_costs_a_tenth_of_a_trial():
    """Of one that is tried in half of the cases: half a trial is had for 0.55."""
    tried = np.exp(_per_cost(np.log([1.0, 0.5, 0.001]), MISS_COST))
    assert tried == pytest.approx([1.0, 0.5 / 0.55, 0.001 / 0.1009])


@pytest.mark.parametrize(("minimize", "share"), [(False, MISS_COST), (True, 1.0)])
def test_a_miss_that_only_training_shows_costs_a_whole_trial(tmp_path: Path, minimize, share):
    knobs = (Knob(name="ratio", range=Range(low=0.0, high=0.8)),)
    study = Study(tmp_path / "journal", knobs, seed=0, minimize=minimize, startup=4)
    assert study._study.sampler._miss_cost == share
    assert np.exp(_per_cost(np.log([0.25]), 1.0)) == pytest.approx([0.25])


def test_before_anything_kept_the_limits_what_breaks_them_least_is_followed():
    study = study_of(SurrogateSampler(CHOICES, seed=0, startup=5))
    over = []
    for _ in range(30):
        trial = study.ask(CHOICES)
        over.append(0.25 + (max(all_of(additive)) - additive(trial.params)) / 4)
        trial.set_constraint("size", over[-1])
        study.tell(trial, 0.0)
    assert min(over) == pytest.approx(0.25)


def test_two_objectives_fill_the_front():
    def both(params) -> list[float]:
        return [additive(params), float(sum(codes(params)))]

    def cost(many) -> list[float]:
        return [both(params)[1] for params in many]

    for known in ({}, {1: cost}):
        found = searched(both, 60, ways=("maximize", "minimize"), known=known)
        best: dict[float, float] = {}
        for params in found:
            value, price = both(params)
            best[price] = max(value, best.get(price, -np.inf))
        assert max(best.values()) == max(all_of(additive))
        assert len(best) > 8


def test_three_objectives_are_refused():
    study = study_of(SurrogateSampler(CHOICES, seed=0), ("minimize",) * 3)
    with pytest.raises(SpaceError, match="takes one or two objectives, got 3; take sampler tpe or nsga2"):
        study.ask(CHOICES)


def test_a_parameter_outside_of_the_space_is_drawn_at_random():
    study = study_of(SurrogateSampler(CHOICES, seed=0))
    trial = study.ask(CHOICES)
    assert 0 <= trial.suggest_float("other", 0, 1) <= 1


def test_a_thousand_finished_trials_take_no_time():
    space = {f"x{place}": FloatDistribution(0, 1) for place in range(10)}
    space |= {f"c{place}": CategoricalDistribution(tuple("abcd")) for place in range(10)}
    study, rng = study_of(SurrogateSampler(space, seed=0)), np.random.default_rng(0)
    for place in range(1000):
        params = {name: rng.random() if name[0] == "x" else str(rng.choice(list("abcd"))) for name in space}
        study.add_trial(create_trial(params=params, distributions=space, value=params["x0"] - params["x1"] ** 2))
        if place == 2:
            study.ask(space)  # and waits between rungs all the time
    seconds = []
    for _ in range(6):
        started = time.process_time()  # other programs' work does not count
        study.tell(trial := study.ask(space), trial.params["x0"])
        seconds.append(time.process_time() - started)
    assert np.median(seconds[1:]) < 0.2  # the first one learns the kernel


@pytest.mark.parametrize("sampler", Sampler)
def test_every_sampler_can_be_chosen(sampler, tmp_path: Path):
    knobs = (Knob(name="prune.0", range=Range(low=0.0, high=0.8)), Knob(name="precision.0", choices=("int8", "fp32")))
    study = Study(tmp_path / "journal", knobs, seed=0, minimize=True, startup=2, sampler=sampler)
    for _ in range(6):
        ask = study.ask()
        study._study.tell(ask.trial, ask.values["prune.0"])
    expected = {"surrogate": SurrogateSampler} | {
        name: type(optuna_sampler(name, seed=0, startup=2)) for name in Sampler if name is not Sampler.SURROGATE
    }
    assert type(study._study.sampler) is expected[sampler]
