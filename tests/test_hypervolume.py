import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocompress.search.hypervolume import front, gains, hypervolume

GROUND = np.zeros(2)
points = st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 6)), max_size=8).map(
    lambda pairs: np.array(pairs, dtype=float).reshape(-1, 2)
)


def counted(found: np.ndarray) -> int:
    """Unit squares that some point dominates."""
    return sum(any(x > i and y > j for x, y in found) for i in range(6) for j in range(6))


@given(points)
def test_it_is_the_number_of_dominated_unit_squares(found):
    assert hypervolume(found, GROUND) == counted(found)


@given(points, points)
def test_a_gain_is_the_difference_that_a_point_makes(found, new):
    differences = [hypervolume(np.vstack([found, [point]]), GROUND) - hypervolume(found, GROUND) for point in new]
    assert gains(found, GROUND, new).tolist() == differences


@given(points)
def test_the_front_is_what_no_other_point_dominates(found):
    def dominated(place: int) -> bool:
        return any((p >= found[place]).all() and (p > found[place]).any() for p in found)

    expected = {tuple(point) for place, point in enumerate(found) if not dominated(place)}
    got = [tuple(point) for point in found[front(found)]]
    assert set(got) == expected
    assert len(got) == len(expected)
    assert got == sorted(got, reverse=True)


def test_the_reference_moves_the_ground():
    assert hypervolume(np.array([[3.0, 2.0]]), np.array([1.0, -1.0])) == pytest.approx(6.0)
