"""Networks drawn in several processes are those of one, in their order, and what fails costs itself."""

import os

import pytest

from autocompress.errors import ModelError
from autocompress.hardware.drawn import together
from autocompress.hardware.drawn.draw import Drawn
from autocompress.hardware.drawn.together import drawn_together
from autocompress.hardware.machine import this_machine

# Functions cross processes by their content here: a test module cannot be imported where they run.


def drawn_by_its_process():
    def draw(seed, suffix):
        return (Drawn(name=f"{seed}{suffix}", family=str(os.getpid()), precision="fp32", proto=b""),)

    return draw


def test_they_come_in_order_from_other_processes():
    found = drawn_together(drawn_by_its_process(), range(6), "x")
    assert [one.name for (one,) in found] == [f"{seed}x" for seed in range(6)]
    if this_machine().cores > 1:
        assert str(os.getpid()) not in {one.family for (one,) in found}


def test_what_the_tools_refuse_costs_itself():
    def refuse_odd(seed):
        if seed % 2:
            raise ModelError("odd")
        return ()

    assert drawn_together(refuse_odd, range(4)) == [(), "odd", (), "odd"]


@pytest.mark.skipif(this_machine().cores < 2, reason="with one core they are drawn in this process")
def test_a_process_that_dies_is_said_and_the_next_call_works():
    def die(seed):
        os._exit(9)

    assert drawn_together(die, range(2)) == [together._DIED] * 2
    assert len(drawn_together(drawn_by_its_process(), range(2), "")) == 2
