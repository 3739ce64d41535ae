"""Kept places as distances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import composite, floats, integers

from autocompress.linalg.bit_planes import pack
from autocompress.linalg.gaps import best_bits, gap_codes, kept_of


@composite
def masks(draw):
    rng = np.random.default_rng(draw(integers(0, 10_000)))
    return rng.random(draw(integers(1, 300))) < draw(floats(0, 1))


@given(kept=masks(), bits=integers(2, 8))
def test_the_codes_tell_which_places_are_kept(kept, bits):
    np.testing.assert_array_equal(kept_of(gap_codes(kept, bits), bits, len(kept)), kept)


@given(kept=masks())
def test_the_best_bits_take_the_fewest_bytes(kept):
    sizes = {bits: sum(plane.nbytes for plane in pack(gap_codes(kept, bits), bits)) for bits in range(2, 9)}
    bits, size = best_bits(kept)
    assert size == sizes[bits] == min(sizes.values())


def test_codes_by_hand():
    """Two skipped, one kept; three skipped without keeping, one more skipped, one kept; one kept."""
    assert gap_codes(np.array([0, 0, 1, 0, 0, 0, 0, 1, 1, 0], bool), 2).tolist() == [2, 3, 1, 0]


@pytest.mark.parametrize(("kept_ratio", "most_bits"), [(0.2, 0.78), (0.1, 0.52), (0.05, 0.33), (0.02, 0.17)])
def test_the_bits_a_place_are_near_the_entropy_of_the_mask(kept_ratio, most_bits):
    """0.72, 0.47, 0.29 and 0.14 bits are the least that any code takes for independent places."""
    kept = np.random.default_rng(0).random(500_000) < kept_ratio
    assert best_bits(kept)[1] * 8 / kept.size < most_bits
