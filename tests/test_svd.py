"""Low-rank factors of a matrix."""

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import composite, integers

from autocompress.linalg.svd import low_rank_factors


@composite
def matrices(draw):
    rows, columns, seed = draw(integers(1, 12)), draw(integers(1, 12)), draw(integers(0, 10_000))
    matrix = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return matrix, draw(integers(1, min(rows, columns)))


@given(drawn=matrices())
def test_the_error_is_the_dropped_energy(drawn):
    """Eckart–Young: the squared error of the best rank-r matrix is the sum of the dropped s²."""
    matrix, rank = drawn
    u, v = low_rank_factors(matrix, rank)
    dropped = torch.linalg.svdvals(matrix)[rank:].square().sum()
    torch.testing.assert_close((matrix - u @ v).square().sum(), dropped, rtol=1e-9, atol=1e-12)


@given(drawn=matrices())
def test_the_factors_have_the_rank_and_equal_scales(drawn):
    matrix, rank = drawn
    u, v = low_rank_factors(matrix, rank)
    assert (u.shape, v.shape) == ((len(matrix), rank), (rank, matrix.shape[1]))
    kept = torch.linalg.svdvals(matrix)[:rank]
    torch.testing.assert_close(u.T @ u, torch.diag(kept), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(v @ v.T, torch.diag(kept), rtol=1e-9, atol=1e-9)


def test_a_matrix_of_low_rank_is_found_exactly():
    matrix = torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 8)).double()
    u, v = low_rank_factors(matrix, 1)
    torch.testing.assert_close(u @ v, matrix)


@pytest.mark.parametrize("rank", [0, 4, -1])
def test_a_rank_outside_its_range_is_refused(rank):
    with pytest.raises(ValueError, match=rf"^the rank of a \(3, 5\) matrix must lie in \[1, 3\], got {rank}$"):
        low_rank_factors(torch.zeros(3, 5), rank)
