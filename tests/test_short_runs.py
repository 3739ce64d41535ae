"""A run without time to choose part by part treats parts alike, and does so again when it goes on."""

from types import SimpleNamespace

import pytest

from autocompress.commands.folder import JOURNAL, WORK
from autocompress.commands.pipeline import ALIKE, Pipeline


def is_short(out, left_s: float) -> bool:
    clock = SimpleNamespace(limit_s=100.0, search_left_s=left_s)
    run = SimpleNamespace(out=out, outer=None, clock=clock)
    return Pipeline._is_short(run)


@pytest.mark.parametrize(("left_s", "short"), [(-5.0, True), (4.0, True), (6.0, False)])
def test_a_new_run_goes_by_the_time_that_is_left(tmp_path, left_s, short):
    assert is_short(tmp_path, left_s) is short


@pytest.mark.parametrize("left_s", [-5.0, 60.0])
def test_a_run_that_goes_on_does_as_before(tmp_path, left_s):
    (tmp_path / WORK).mkdir()
    (tmp_path / JOURNAL).touch()
    assert not is_short(tmp_path, left_s)
    (tmp_path / WORK / ALIKE).touch()
    assert is_short(tmp_path, left_s)
