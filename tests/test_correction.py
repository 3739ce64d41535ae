"""Factors of techniques, learned from what whole recipes lost."""

from dataclasses import replace

import numpy as np
import pytest

from autocompress.search.allocation.correction import LEAST_RESULTS, Result, factors, shares_of

UNITS, KINDS = 6, ("none", "prune", "rank", "bits")
PARTS = [frozenset(), frozenset({"prune"}), frozenset({"rank"}), frozenset({"bits"})]
LOSS = [[0.0, *row] for row in np.random.default_rng(0).uniform(0.1, 1.0, (UNITS, 3))]


def results(true: dict[str, float], count: int, noise: float = 0.0) -> list[Result]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        picks = tuple(int(p) for p in rng.integers(0, 4, UNITS))
        lost = sum(LOSS[u][p] * true[KINDS[p]] for u, p in enumerate(picks) if p)
        shares = shares_of(LOSS, [PARTS] * UNITS, picks)
        found.append(Result(shares=shares, lost=0.02 * lost + 0.01 + noise * float(rng.normal())))
    return found


def fitted(true: dict[str, float], count: int, noise: float = 0.0) -> dict[str, float]:
    return factors(results(true, count, noise))


def test_a_technique_that_recovers_worse_gets_the_larger_factor():
    found = fitted({"prune": 4.0, "rank": 1.0, "bits": 0.25}, 40)
    assert found["prune"] > 2 * found["rank"] > 4 * found["bits"]


def test_equal_techniques_keep_equal_factors():
    found = fitted(dict.fromkeys(KINDS, 1.0), 40, noise=0.002)
    assert list(found.values()) == pytest.approx([1.0] * 3, rel=0.25)


def test_few_results_say_nothing():
    assert fitted({"prune": 4.0, "rank": 1.0, "bits": 0.25}, LEAST_RESULTS - 1) == {}


def test_results_that_do_not_follow_the_table_say_nothing():
    upside_down = [replace(each, lost=-each.lost) for each in results(dict.fromkeys(KINDS, 1.0), 20)]
    assert factors(upside_down) == {}


def test_a_part_that_was_never_used_has_no_factor():
    only = [each for each in results(dict.fromkeys(KINDS, 1.0), 400) if "bits" not in each.shares]
    assert set(factors(only)) == {"prune", "rank"}


def test_a_choices_loss_is_shared_by_its_parts():
    parts = [[frozenset({"prune", "bits"}), frozenset()], [frozenset({"bits"})]]
    assert shares_of([[0.5, 9.0], [1.0]], parts, [0, 0]) == {"prune": 0.25, "bits": 1.25}
    assert shares_of([[0.5, 9.0], [1.0]], parts, [1, 0]) == {"bits": 1.0}
