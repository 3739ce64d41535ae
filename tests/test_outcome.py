"""What the end of a run says in words."""

import pytest

from autocompress.budget import Budget, Metric
from autocompress.commands.outcome import minimized
from autocompress.measurement import ModelFacts
from autocompress.search.goal import Goal


def facts(ram: int | None) -> ModelFacts:
    return ModelFacts(size_bytes=1, macs=1, params=1, peak_ram_bytes=ram)


@pytest.mark.parametrize(
    ("budget", "ram", "said"),
    [
        ("accuracy>=0.9", 12_000_000, " Minimized: ram 12 MB against 16 MB."),
        ("accuracy>=0.9", 18_000_000, " Minimized: ram 18 MB against 16 MB, no less than the original's."),
        ("accuracy>=0.9", None, ""),
        ("size<=1MB", 12_000_000, ""),
    ],
)
def test_what_is_minimized_is_named_beside_the_originals(budget, ram, said):
    goal = Goal(budget=Budget.parse(budget), baseline=facts(16_000_000), minimize=Metric.RAM)
    assert minimized(goal, facts(ram), goal.baseline) == said


def test_without_an_answer_nothing_was_minimized():
    goal = Goal(budget=Budget.parse("accuracy>=0.9"), baseline=facts(16), minimize=Metric.RAM)
    assert minimized(goal, None, goal.baseline) == ""
