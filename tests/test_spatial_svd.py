"""Column and row factors of a kernel."""

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import composite, integers

from autocompress.linalg.spatial_svd import spatial_factors


@composite
def kernels(draw):
    shape = tuple(draw(integers(1, most)) for most in (6, 6, 4, 4))
    kernel = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(draw(integers(0, 9999))))
    c_out, c_in, k_h, k_w = shape
    return kernel, draw(integers(1, min(c_out * k_w, c_in * k_h)))


@given(drawn=kernels())
def test_the_error_is_the_dropped_energy(drawn):
    """Eckart–Young on the kernel as a matrix whose rows are (c_in, k_h) and whose columns are (c_out, k_w)."""
    kernel, rank = drawn
    column, row = spatial_factors(kernel, rank)
    product = torch.einsum("orx,riy->oiyx", row[:, :, 0], column[..., 0])
    matrix = kernel.permute(1, 2, 0, 3).flatten(2).flatten(0, 1)
    dropped = torch.linalg.svdvals(matrix)[rank:].square().sum()
    torch.testing.assert_close((kernel - product).square().sum(), dropped, rtol=1e-9, atol=1e-12)


@given(drawn=kernels())
def test_both_filters_of_a_channel_have_the_same_norm(drawn):
    kernel, rank = drawn
    column, row = spatial_factors(kernel, rank)
    torch.testing.assert_close(column.flatten(1).norm(dim=1), row.transpose(0, 1).flatten(1).norm(dim=1))


def test_a_rank_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"must lie in \[1, 6\], got 7$"):
        spatial_factors(torch.zeros(4, 2, 3, 3), 7)
