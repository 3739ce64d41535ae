"""Tucker-2 factors of a kernel."""

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import composite, integers

from autocompress.linalg.scale import of_equal_norms
from autocompress.linalg.tucker import tucker2


def noise(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@composite
def kernels(draw):
    c_out, c_in, k_h, k_w = (draw(integers(1, most)) for most in (9, 9, 3, 3))
    kernel = noise(c_out, c_in, k_h, k_w, seed=draw(integers(0, 9999)))
    return kernel, draw(integers(1, c_out)), draw(integers(1, c_in))


def squared_error(kernel, found):
    return float((kernel - found.dense()).square().sum())


def dropped_energy(kernel, axis, rank):
    return float(torch.linalg.svdvals(kernel.movedim(axis, 0).flatten(1))[rank:].square().sum())


@given(drawn=kernels())
def test_at_full_ranks_nothing_is_lost(drawn):
    kernel, *_ = drawn
    torch.testing.assert_close(tucker2(kernel, *kernel.shape[:2]).dense(), kernel)


@given(drawn=kernels())
def test_the_bases_are_orthonormal(drawn):
    kernel, rank_out, rank_in = drawn
    found = tucker2(kernel, rank_out, rank_in)
    assert found.core.shape == (rank_out, rank_in, *kernel.shape[2:])
    for basis, rank in ((found.u_out, rank_out), (found.u_in, rank_in)):
        torch.testing.assert_close(basis.T @ basis, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-9)


@given(drawn=kernels())
def test_the_error_stays_below_the_bound_of_the_truncated_hosvd(drawn):
    """De Lathauwer, De Moor & Vandewalle 2000, property 10: at most the sum of what each axis drops."""
    kernel, rank_out, rank_in = drawn
    drops = dropped_energy(kernel, 0, rank_out), dropped_energy(kernel, 1, rank_in)
    hosvd = squared_error(kernel, tucker2(kernel, rank_out, rank_in, sweeps=0))
    hooi = squared_error(kernel, tucker2(kernel, rank_out, rank_in))
    assert max(drops) - 1e-9 <= hooi <= hosvd + 1e-9
    assert hosvd <= sum(drops) + 1e-9


def test_sweeps_make_it_better():
    kernel = noise(8, 8, 3, 3)
    before, after = (squared_error(kernel, tucker2(kernel, 3, 3, sweeps=sweeps)) for sweeps in (0, 20))
    assert after < 0.99 * before


def test_a_kernel_of_those_ranks_is_found_exactly():
    kernel = torch.einsum("op,pqyx,iq->oiyx", noise(9, 2), noise(2, 3, 3, 3, seed=1), noise(7, 3, seed=2))
    torch.testing.assert_close(tucker2(kernel, 2, 3).dense(), kernel)


@pytest.mark.parametrize(
    ("ranks", "message"), [((5, 1), r"^rank_out .*\[1, 4\], got 5$"), ((1, 0), r"^rank_in .*\[1, 3\], got 0$")]
)
def test_a_rank_outside_its_range_is_refused(ranks, message):
    with pytest.raises(ValueError, match=message):
        tucker2(torch.zeros(4, 3, 3, 3), *ranks)


def test_scale_is_shared_and_the_product_stays():
    one, other, third = of_equal_norms(noise(3, 4), 1e-3 * noise(4, 5), 50 * noise(5, 2))
    torch.testing.assert_close(one @ other @ third, noise(3, 4) @ (1e-3 * noise(4, 5)) @ (50 * noise(5, 2)))
    torch.testing.assert_close(one.norm(), other.norm())
    torch.testing.assert_close(one.norm(), third.norm())
    assert all(torch.isfinite(factor).all() for factor in of_equal_norms(noise(2, 2), torch.zeros(2, 2)))
