"""CP factors of a kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers, tuples

from autocompress.linalg.cp import cp, most_cp_rank


def noise(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def error_of(kernel, found):
    return float((kernel - found.dense()).norm() / kernel.norm())


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_kernel_of_that_rank_is_found(rank):
    sides = [noise(side, rank, seed=side) for side in (12, 10, 3)]
    kernel = torch.einsum("or,ir,yr,xr->oiyx", *sides, noise(3, rank, seed=99))
    found = cp(kernel, rank)
    assert found.relative_error < 1e-3
    torch.testing.assert_close(found.dense(), kernel, rtol=0, atol=2e-3 * float(kernel.abs().max()))


@given(shape=tuples(integers(1, 8), integers(1, 8), integers(1, 3), integers(1, 3)), seed=integers(0, 999))
@settings(max_examples=30)
def test_the_error_is_the_one_that_it_reports_and_at_least_the_best_of_any_unfolding(shape, seed):
    """A sum of r outer products is a matrix of rank r along every axis: Eckart–Young bounds it from below."""
    kernel = noise(*shape, seed=seed)
    rank = max(1, most_cp_rank(shape) // 2)
    found = cp(kernel, rank, seed=seed)
    assert found.relative_error == pytest.approx(error_of(kernel, found), abs=1e-6)
    for axis in range(4):
        dropped = torch.linalg.svdvals(kernel.movedim(axis, 0).flatten(1))[rank:].square().sum().sqrt()
        assert error_of(kernel, found) >= float(dropped / kernel.norm()) - 1e-9


def test_the_four_vectors_of_a_component_have_equal_norms_and_do_not_run_away():
    kernel = noise(16, 16, 3, 3)
    found = cp(kernel, 12)
    norms = torch.stack([factor.norm(dim=0) for factor in (found.out, found.into, found.down, found.along)])
    torch.testing.assert_close(norms, norms[:1].expand(4, -1))
    assert float((norms[0] ** 4).norm()) < 3 * float(kernel.norm())


def test_more_rank_is_nearer():
    kernel = noise(16, 16, 3, 3)
    errors = [cp(kernel, rank).relative_error for rank in (2, 8, 32, most_cp_rank(kernel.shape))]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


def test_the_same_seed_gives_the_same_factors():
    one, other = cp(noise(5, 4, 3, 3), 6), cp(noise(5, 4, 3, 3), 6)
    assert all(torch.equal(getattr(one, side), getattr(other, side)) for side in ("out", "into", "down", "along"))


def test_a_kernel_of_zeros_stays_one():
    found = cp(torch.zeros(4, 4, 3, 3), 2)
    assert torch.isfinite(found.dense()).all()
    assert found.dense().abs().max() < 1e-6


def test_a_rank_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"^the CP rank of a \(4, 8, 3, 3\) kernel must lie in \[1, 36\], got 37$"):
        cp(torch.zeros(4, 8, 3, 3), 37)
