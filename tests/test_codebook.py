"""The few values that stand best for many."""

import time
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import booleans, composite, integers, sampled_from
from sklearn.cluster import KMeans

from autocompress.linalg.codebook import centroids_of, codebook


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def squared_error(weight: torch.Tensor, levels: int, **settings) -> float:
    return float((codebook(weight, levels, **settings).dense - weight).double().square().sum())


@composite
def problems(draw):
    """A weight of one of several distributions with settings for its codebook."""
    c_out, n_in, seed = draw(integers(1, 6)), draw(integers(1, 30)), draw(integers(0, 10_000))
    weight = normal(c_out, n_in, seed=seed) ** draw(sampled_from([1, 3]))
    if draw(booleans()):
        weight = (weight * 4).round() / 4  # many equal values
    kept = normal(c_out, n_in, seed=seed + 1) > 0 if draw(booleans()) else None
    return weight, {"levels": draw(integers(2, 12)), "groups": draw(integers(1, c_out)), "kept": kept}


@given(drawn=problems())
def test_every_kept_value_gets_the_nearest_entry_of_its_group(drawn):
    weight, given_to_it = drawn
    found = codebook(weight, **given_to_it)
    kept = torch.ones_like(weight, dtype=torch.bool) if given_to_it["kept"] is None else given_to_it["kept"]
    for channel, row in enumerate(weight):
        entries = found.values[channel * given_to_it["groups"] // len(weight)]
        least = (row[:, None] - entries).abs().min(1).values
        torch.testing.assert_close((row - found.dense[channel]).abs()[kept[channel]], least[kept[channel]])


@given(drawn=problems())
def test_what_is_not_kept_is_zero_and_changes_nothing(drawn):
    weight, given_to_it = drawn
    kept = normal(*weight.shape, seed=3) > 0
    found = codebook(weight, **(given_to_it | {"kept": kept}))
    disturbed = codebook(torch.where(kept, weight, torch.full_like(weight, 1e6)), **(given_to_it | {"kept": kept}))
    assert not found.dense[~kept].any()
    torch.testing.assert_close(found.values, disturbed.values, rtol=0, atol=0)
    assert torch.equal(found.indices, disturbed.indices)


@given(drawn=problems())
def test_it_is_never_worse_than_equally_spaced_levels(drawn):
    weight, given_to_it = drawn
    found = codebook(weight, given_to_it["levels"])
    uniform = torch.linspace(float(weight.min()), float(weight.max()), given_to_it["levels"])
    uniform_error = (weight.flatten()[:, None] - uniform).double().square().min(1).values.sum()
    assert float((found.dense - weight).double().square().sum()) <= uniform_error * (1 + 1e-5) + 1e-10


@given(seed=integers(0, 10_000), distinct=integers(1, 8), groups=integers(1, 3))
def test_no_more_distinct_values_than_levels_are_kept_exactly(seed, distinct, groups):
    values = normal(distinct, seed=seed)
    weight = values[torch.randint(distinct, (6, 5), generator=torch.Generator().manual_seed(seed))]
    assert torch.equal(codebook(weight, 8, groups=groups).dense, weight)


def test_evenly_spread_values_get_levels_at_equal_distances():
    """Where the places of the other start are too coarse."""
    weight = torch.linspace(0, 1, 10_000)[None]
    step = 1 / 199
    assert squared_error(weight, 200) <= 10_000 * step**2 / 12


def test_each_entry_is_the_mean_of_its_values():
    weight = normal(20, 50)
    found = codebook(weight, 8)
    means = [weight[found.indices == index].mean() for index in range(8)]
    torch.testing.assert_close(found.values[0], torch.stack(means))


@given(seed=integers(0, 10_000), n=integers(3, 9), levels=integers(2, 4), power=sampled_from([1, 3]))
def test_few_values_get_the_best_of_all_partitions(seed, n, levels, power):
    values = normal(n, seed=seed).double() ** power
    ordered = values.sort().values
    cuts = combinations(range(1, n), levels - 1)
    parts = [torch.tensor_split(ordered, list(cut)) for cut in cuts]
    best = min((sum(float((part - part.mean()).square().sum()) for part in each) for each in parts), default=0.0)
    assert squared_error(values[None], levels) == pytest.approx(best, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("power", [1, 3])
def test_the_error_is_that_of_many_random_starts_of_scikit_learn(power):
    weight = normal(40, 50) ** power
    reference = KMeans(8, n_init=20, random_state=0).fit(weight.reshape(-1, 1).double().numpy()).inertia_
    assert squared_error(weight, 8) <= reference * 1.002


def test_normal_values_reach_the_optimum_that_is_known():
    """Max 1960, table I: the mean squared error of 4, 8 and 16 levels for a normal variable."""
    weight = normal(1000, 200)
    errors = [squared_error(weight, levels) / weight.numel() for levels in (4, 8, 16)]
    assert errors == pytest.approx([0.1175, 0.03454, 0.009497], rel=0.02)


def test_the_error_falls_with_bits_and_with_groups():
    weight = normal(8, 200) * torch.arange(1.0, 9)[:, None]
    by_bits = [squared_error(weight, 2**bits) for bits in range(2, 9)]
    by_groups = [squared_error(weight, 8, groups=groups) for groups in (1, 2, 4, 8)]
    assert all(more < less / 2 for less, more in pairwise(by_bits))
    assert all(more < less for less, more in pairwise(by_groups))


def test_the_same_weight_gives_the_same_codebook():
    weight = normal(16, 8, 3, 3)
    first, second = codebook(weight, 16), codebook(weight, 16)
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.indices, second.indices)


def test_the_largest_layers_take_less_than_four_times_what_sorting_them_does():
    """That is about a second where other guests slow the machine down."""
    weight = normal(512, 512, 3, 3)

    def seconds_of(work) -> float:
        started = time.thread_time()
        work()
        return time.thread_time() - started

    sorting, taken = zip(
        *[(seconds_of(weight.flatten().sort), seconds_of(lambda: codebook(weight, 256))) for _ in range(3)], strict=True
    )
    assert min(taken) < 4 * min(sorting)


def test_entries_are_ascending_and_the_last_is_repeated():
    assert centroids_of(torch.tensor([3.0, 1.0, 3.0]), 4).tolist() == [1, 3, 3, 3]


def test_a_weight_of_which_nothing_is_kept_has_zeros():
    assert not codebook(normal(2, 3), 4, kept=torch.zeros(2, 3, dtype=torch.bool)).dense.any()


@pytest.mark.parametrize("levels", [1, 257])
def test_levels_outside_their_range_are_refused(levels):
    with pytest.raises(ValueError, match=rf"^levels of a codebook must lie in \[2, 256\], got {levels}$"):
        codebook(normal(2, 3), levels)


@pytest.mark.parametrize("groups", [0, 3])
def test_groups_outside_their_range_are_refused(groups):
    with pytest.raises(ValueError, match=rf"^groups of 2 output channels must lie in \[1, 2\], got {groups}$"):
        codebook(normal(2, 3), 4, groups=groups)
