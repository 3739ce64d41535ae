"""Codes of parameters, and configurations that are listed or drawn."""

import numpy as np
import pytest

from autocompress.search.pool import Axis, Space, keys


@pytest.mark.parametrize("steps", range(1, 40))
def test_what_is_listed_and_what_is_drawn_are_told_apart_by_the_same_bits(steps):
    axis = Axis(steps=steps)
    (listed, drawn) = axis.every(), axis.draw(np.random.default_rng(0), 100 * steps)
    assert set(keys(listed[:, None])) == set(keys(drawn[:, None]))


def test_a_space_is_listed_whole_or_not_at_all():
    assert Space(axes=(Axis(choices=3), Axis(steps=2))).listed().tolist() == [
        [choice, code] for choice in (0, 1, 2) for code in (0, 1)
    ]
    assert Space(axes=(Axis(choices=3), Axis())).listed() is None
