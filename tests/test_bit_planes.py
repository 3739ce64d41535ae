"""Codes of few bits in few bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import composite, integers

from autocompress.linalg.bit_planes import pack, plane_widths, unpack


@composite
def codes_and_bits(draw):
    bits, n, seed = draw(integers(1, 8)), draw(integers(0, 40)), draw(integers(0, 10_000))
    return np.random.default_rng(seed).integers(0, 2**bits, n).astype(np.uint8), bits


@given(drawn=codes_and_bits())
def test_what_is_unpacked_is_what_was_packed(drawn):
    codes, bits = drawn
    np.testing.assert_array_equal(unpack(pack(codes, bits), bits, len(codes)), codes)


@given(drawn=codes_and_bits())
def test_each_plane_has_as_many_bytes_as_its_bits_need(drawn):
    codes, bits = drawn
    planes = pack(codes, bits)
    assert [plane.nbytes for plane in planes] == [-(-len(codes) * width // 8) for width in plane_widths(bits)]
    bound = -(-len(codes) * bits // 8)
    assert bound <= sum(plane.nbytes for plane in planes) <= bound + len(planes) - 1


@pytest.mark.parametrize("bits", range(1, 9))
def test_planes_add_up_to_the_bits_and_fill_bytes(bits):
    assert sum(plane_widths(bits)) == bits
    assert all(8 % width == 0 for width in plane_widths(bits))


def test_the_bytes_of_three_bits_are_known():
    """High two bits of each code, four to a byte; then the low bit, eight to a byte; the first code lies lowest."""
    high, low = pack(np.array([0b101, 0b010, 0b111], np.uint8), 3)
    assert high.tolist() == [0b11_01_10]
    assert low.tolist() == [0b101]


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_bits_outside_one_to_eight_are_refused(bits):
    with pytest.raises(ValueError, match=rf"^codes must have 1 to 8 bits, got {bits}$"):
        pack(np.zeros(3, np.uint8), bits)


@pytest.mark.parametrize("codes", [[0, 8], [-1, 3]])
def test_a_code_that_does_not_fit_is_refused(codes):
    low, high = min(codes), max(codes)
    with pytest.raises(ValueError, match=rf"^codes of 3 bits must lie in \[0, 7\], got {low} to {high}$"):
        pack(np.array(codes), 3)
