"""Which weights stay when the least important ones go."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autocompress.linalg.sparsity import kept_by_pattern, kept_by_share


@given(n=st.integers(1, 40), sparsity=st.floats(0, 0.99), ties=st.booleans())
def test_the_count_is_exact_and_the_highest_stay(n, sparsity, ties):
    scores = torch.arange(n).float() // (3 if ties else 1)
    kept = kept_by_share(scores.reshape(1, n), sparsity)
    assert kept.shape == (1, n)
    assert kept.sum() == max(1, round(n * (1 - sparsity)))
    if not kept.all():
        assert scores[kept[0]].min() >= scores[~kept[0]].max()


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (4, 8)])
@pytest.mark.parametrize("shape", [(3, 16), (5, 8, 3, 3), (2, 24, 5)])
def test_every_block_along_the_inputs_keeps_its_highest(n, m, shape):
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    kept = kept_by_pattern(scores, n, m)
    assert kept.shape == scores.shape
    for o in range(shape[0]):
        rest = scores[o].reshape(shape[1], -1), kept[o].reshape(shape[1], -1)
        for position in range(rest[0].shape[1]):
            for start in range(0, shape[1], m):
                block, mask = (each[start : start + m, position] for each in rest)
                assert mask.sum() == n
                assert block[mask].min() >= block[~mask].max()


def test_channels_that_fill_no_block_are_refused():
    with pytest.raises(ValueError, match=r"^its 6 input channels are no multiple of 4$"):
        kept_by_pattern(torch.ones(2, 6), 2, 4)
