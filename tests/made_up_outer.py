"""An outer search on a tiny network whose parts cost and lose what a formula says, and a setting that goes with it."""

import numpy as np
from made_up_costs import case_of
from made_up_search import made_up_setting

from autocompress.budget import Budget, Metric
from autocompress.events import Silence
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.search.allocation.allocate import Allocator
from autocompress.search.allocation.choices import Choice
from autocompress.search.allocation.costs import CostModel
from autocompress.search.costing import Costing
from autocompress.search.goal import Goal
from autocompress.search.outer import Outer
from autocompress.search.setting import Costed, Setting

UNIT_BYTES = 1000.0
WANTED = (
    Choice(),
    Choice(prune=0.25),
    Choice(prune=0.5),
    Choice(precision=Format.INT8),
    Choice(prune=0.5, precision=Format.INT8),
    Choice(drop=True),
)


def kept(choice: Choice) -> float:
    """The share of a unit's bytes that stay."""
    return 0.0 if choice.drop else (1 - choice.prune) * (choice.precision.bits or 32) / 32


def lost(choice: Choice) -> float:
    """Quantizing costs little, pruning more, and a block most."""
    return 3.0 * choice.drop + 1.0 * choice.prune + 0.05 * (choice.precision is Format.INT8)


def made_up_outer(limits: dict[Metric, float], wanted: tuple[Choice, ...] = WANTED, name: str = "residual") -> Outer:
    """An outer search within ``limits``: bytes are those of all units, milliseconds a thousandth of them."""
    case = case_of(name)
    choices = [tuple(each for each in wanted if each in row) for row in case.choices]

    def raw(picks):
        rows = [zip(choices, each, strict=True) for each in picks.tolist()]
        size = np.array([sum(UNIT_BYTES * kept(row[at]) for row, at in pairs) for pairs in rows])
        return np.stack([size / 1000, size, size, size], axis=1)

    loss = [[lost(each) for each in row] for row in choices]
    model = CostModel(raw=raw, n_choices=[len(row) for row in choices])
    return Outer(
        builder=case.builder,
        allocator=Allocator(units=case.units, choices=choices, loss=loss, model=model),
        stages=tuple(range(len(case.units))),
        limits=limits,
        original_accuracy=0.9,
    )


def setting_with(outer: Outer, budget: str, off: float = 1.0) -> Setting:
    """A setting whose files take ``off`` times what is calculated, without the margin that allocations keep."""
    baseline = ModelFacts(size_bytes=10**6, macs=1, params=1, latency_ms=100.0, accuracy_val=0.9)

    class Made(Setting):
        def cost(self, recipes, what, always=()):  # noqa: ARG002  # as the real one has it
            return Costed(facts={key: file_of(outer, recipe, off) for key, recipe in recipes.items()})

    plain = made_up_setting(budget)
    goal = Goal(budget=Budget.parse(budget), baseline=baseline)
    return Made(
        bench=plain.bench,
        builder=plain.builder,
        goal=goal,
        costing=Costing(b"", goal, plain.bench.target),
        launcher=plain.launcher,
        observer=Silence(),
        outer=outer,
    )


def file_of(outer: Outer, recipe, off: float) -> ModelFacts:
    """What the file of a selection that ``outer`` remembers takes."""
    known = outer.known(recipe)
    assert known is not None
    ms, size, macs, params = outer.allocator.model.costs(np.array([known[0]]))[0].tolist()
    ms, size = off * ms, off * size
    facts = ModelFacts(size_bytes=round(size), macs=round(macs), params=round(params), latency_ms=ms)
    return facts.model_copy(update={"latency_interval_ms": (ms, ms)})
