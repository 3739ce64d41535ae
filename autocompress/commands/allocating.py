"""The outer search of a run: its units and their choices, what those lose and cost, and who else is in the race."""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from autocompress.budget import Metric
from autocompress.commands.survey import Survey
from autocompress.facts import write_whole
from autocompress.graph.layer_cost import estimated_time
from autocompress.graph.layer_table import LayerFacts
from autocompress.graph.units import by_units, units_of
from autocompress.precision import Format
from autocompress.search.allocation.allocate import Allocator
from autocompress.search.allocation.choices import PRUNED, Choice, choices_by_unit
from autocompress.search.allocation.measured import cost_model
from autocompress.search.allocation.network_costs import COSTS, NetworkCosts
from autocompress.search.allocation.sensitivity import measure_table
from autocompress.search.allocation.uniform_selections import uniform
from autocompress.search.candidates.draw import Sizes
from autocompress.search.goal import Goal
from autocompress.search.ladder import Ladder
from autocompress.search.outer import Outer, stages_of_units
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.setting import Setting
from autocompress.search.student_arms import StudentArms
from autocompress.students.family import families_for

CODEBOOKS = "codebooks"  # a file
MILLIS = 1e6  # nanoseconds
FIRST_ROUNDS, FIRST_FILES = 2, 4  # the second where the first has moved the limits to
LEAST_EPOCHS = 3.0  # below which random weights are not worth their time: a choice, not a measurement


def outer_of(setting: Setting, found: Survey, *, table_s: float, folder: Path, epochs: float) -> Outer:
    """Measure the table and the layers' times, and put the outer search together; ``outer_under`` makes it ready.

    Args:
        setting: without an outer search.
        found: the survey of the network, with its measured baseline.
        table_s: seconds that the table may take.
        folder: where measured losses are kept.
        epochs: that a full recovery will last, about.
    """
    setting = replace(setting, builder=with_codebooks(setting.builder, found.ladder, folder / CODEBOOKS))
    table = measure_table(
        setting.bench, setting.builder, setting.launcher, limit_s=table_s, folder=folder, observer=setting.observer
    )
    for note in table.notes:
        setting.observer.note(f"sensitivity: {note}")
    units = units_of(found.anatomy)
    fine = by_units(found.anatomy)
    builder = replace(setting.builder, anatomy=fine)
    choices = choices_by_unit(found.anatomy, builder.space, builder.codebooks)
    baseline = found.goal.baseline
    forecaster = setting.costing.forecaster
    model = cost_model(setting.bench, builder, choices, found.baseline_file, baseline, forecaster=forecaster)
    outer = Outer(
        builder=builder,
        allocator=Allocator(units=units, choices=choices, loss=table.loss, model=model),
        stages=stages_of_units(found.anatomy, units),
        limits=limits_of(found.goal),
        original_accuracy=baseline.accuracy_val or 0.0,
        open_ended=found.goal.minimizes_cost,
        stand_ins=stand_ins_of(found.goal),
        students=students_of(setting, found, epochs),
    )
    _learn_of(outer, found.ladder)
    return outer


def outer_under(outer: Outer, setting: Setting, *, limit_s: float, each_s: float) -> Outer:
    """The same for the setting's budget, with nothing tried yet; its costs are corrected where the limits are.

    Whatever costs are corrected by holds for all budgets: ``outer`` learns it, too. ``limit_s`` is what the files for
    that may take, ``each_s`` what one of them takes, about.
    """
    goal = setting.goal
    found = replace(
        outer,
        limits=limits_of(goal),
        open_ended=goal.minimizes_cost,
        stand_ins=stand_ins_of(goal),
        factors={},
        _picks={},
        _given=set(),
        _values={},
        _learned=0,
        _results=[],
        _last=None,
    )
    if found.stand_ins or (goal.minimizes_cost and goal.minimize is Metric.RAM):
        setting.observer.note(
            "RAM shows only in a file: the search steers it by size, and measures it of every candidate"
        )
    _measure_first(found, setting, limit_s, each_s)
    return found


def with_codebooks(builder: RecipeBuilder, ladder: Ladder, kept: Path | None = None) -> RecipeBuilder:
    """Where int8 is no faster here, layers with a codebook compute in float, if the space has that.

    ``kept`` is a file that holds what was decided first: a session that goes on measures anew, and must not decide
    otherwise.
    """
    quantize = builder.space.passes.quantize
    has_both = quantize is not None and {Format.INT8, Format.FP32} <= set(quantize.precision)
    if not has_both:
        return builder
    decided = Format.FP32 if ladder.int8_pays() is False else Format.INT8
    if kept is not None:
        if kept.is_file():
            decided = Format(kept.read_text())
        else:
            write_whole(kept, decided.value)
    return replace(builder, codebooks=decided)


def _measure_first(outer: Outer, setting: Setting, limit_s: float, each_s: float) -> None:
    """Correct the costs where the limits are: by files of what the table would choose there, measured untrained.

    As many as there is time for.
    """
    until_s = time.monotonic() + limit_s
    if limit_s < each_s:
        setting.observer.note("the first allocations were not measured: the time was up; give more --time")
    for _ in range(FIRST_ROUNDS):
        began_s = time.monotonic()
        count = min(FIRST_FILES, int((until_s - began_s) / each_s))
        if count <= 0:
            break
        recipes = dict(enumerate(outer.samples(count)))
        facts = setting.cost(recipes, "first allocations", always=recipes).facts
        outer.learn_costs([(recipes[key], each) for key, each in facts.items()])
        each_s = max(1e-3, (time.monotonic() - began_s) / max(1, len(recipes)))


def limits_of(goal: Goal) -> dict[Metric, float]:
    """The limits of costs that are known without a file; those of the original where only accuracy is limited.

    RAM is mostly weights, so a limit on it stands as one on size: the same share of the original's.
    """
    if goal.minimizes_cost:
        metric = Metric.SIZE if goal.minimize is Metric.RAM else goal.minimize
        value = metric.of(goal.baseline)
        return {} if value is None else {metric: float(value)}
    rows = goal.budget.cost_rows(goal.baseline, goal.baseline)
    limits = {row.metric: row.limit for row in rows if row.metric in COSTS}
    share = _ram_share(goal)
    if share is not None:
        limits[Metric.SIZE] = min(limits.get(Metric.SIZE, math.inf), share * goal.baseline.size_bytes)
    return limits


def stand_ins_of(goal: Goal) -> frozenset[Metric]:
    """Of ``limits_of`` those that stand in for a limit on RAM, and are no limits of the budget themselves."""
    given = {row.metric: row.limit for row in goal.budget.cost_rows(goal.baseline, goal.baseline)}
    found = limits_of(goal).get(Metric.SIZE, math.inf)
    is_stand_in = _ram_share(goal) is not None and found < given.get(Metric.SIZE, math.inf)
    return frozenset({Metric.SIZE}) if is_stand_in else frozenset()


def _ram_share(goal: Goal) -> float | None:
    """What the budget leaves of the original's RAM; None where that meets it, or is not limited."""
    rows = goal.budget.cost_rows(goal.baseline, goal.baseline)
    ram = next((row for row in rows if row.metric is Metric.RAM), None)
    return None if ram is None or ram.met or not ram.value else ram.limit / ram.value


def students_of(setting: Setting, found: Survey, epochs: float = math.inf) -> StudentArms | None:
    """The families of the space that take this network's inputs, where there is time for them to learn anything."""
    choice, task = setting.builder.space.passes.student, setting.bench.task
    shape = tuple(task.preprocess.shape)
    fitting = families_for(shape, task.preprocess.dtype)
    if choice is None or not fitting:
        return None
    if epochs < LEAST_EPOCHS:
        setting.observer.note(
            f"students are left out: a full recovery lasts {epochs:.1f} epochs here, random weights need "
            f"{LEAST_EPOCHS:g} or more; give more --time"
        )
        return None
    families = tuple(name for name in choice.families if name in fitting)
    if not families:
        return None
    quantize = setting.builder.space.passes.quantize
    is_int8 = quantize is not None and Format.INT8 in quantize.precision
    can_be_float = quantize is None or Format.FP32 in quantize.precision
    precision = Format.INT8 if is_int8 and not (can_be_float and found.ladder.int8_pays() is False) else Format.FP32
    block = setting.bench.machine.channel_block
    return StudentArms(
        families=families,
        sizes=Sizes(shape=shape, n_outputs=task.n_outputs, channel_block=block),
        base=setting.builder.base,
        recovery=setting.builder.recovery,
        seed=setting.builder.seed,
        precision=precision,
        ms_a_rough=_ms_a_rough(found.anatomy.layers, block, found, precision),
    )


def _ms_a_rough(layers: tuple[LayerFacts, ...], channel_block: int, found: Survey, precision: Format) -> float:
    """What the network itself takes for each estimated millisecond, in the students' precision."""
    times = {
        rung.precision: rung.facts.latency_ms for rung in found.ladder.rungs if rung.ratio == 0 and rung.only_pruned
    }
    measured = times.get(precision) or found.goal.baseline.latency_ms or 1.0
    return measured / max(estimated_time(layers, channel_block) / MILLIS, 1e-9)


def _learn_of(outer: Outer, ladder: Ladder) -> None:
    """Correct the costs by the uniform files that were measured before."""
    known = [rung for rung in ladder.rungs if rung.only_pruned and rung.ratio in PRUNED]
    if not known:
        return
    alike = [Choice(prune=rung.ratio, precision=rung.precision) for rung in known]
    picks = np.array([uniform(outer.allocator.choices, each) for each in alike])
    costs: dict[Metric, list[float]] = {
        Metric.LATENCY: [rung.facts.latency_ms or math.nan for rung in known],
        Metric.SIZE: [float(rung.facts.size_bytes) for rung in known],
    }
    raw, measured = outer.allocator.model.raw, np.array(costs[Metric.LATENCY])
    if isinstance(raw, NetworkCosts) and np.isfinite(measured).all():
        raw.fit_floor(picks, measured)
    outer.allocator.model.learn(picks, costs)
