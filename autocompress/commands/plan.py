"""What a budget asks for, before anything is trained for it."""

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import nn

from autocompress.budget import BudgetRow, Metric
from autocompress.clock import BASELINE_SHARE, CERTIFY_SHARE, FINISH_SHARE
from autocompress.commands.baseline import measure_pace, measured_baseline
from autocompress.commands.compress import check_budget, ray_launcher
from autocompress.commands.config import RunConfig
from autocompress.commands.prepare import prepare
from autocompress.commands.reach import setting_of, with_extremes
from autocompress.commands.survey import survey
from autocompress.errors import BudgetError
from autocompress.events import Observer
from autocompress.facts import Facts
from autocompress.graph.anatomy import Anatomy
from autocompress.measurement import ModelFacts
from autocompress.recover.sample_stream import SampleStream
from autocompress.search.ladder import Ladder, Rung
from autocompress.search.launcher import Launcher
from autocompress.search.selection import diagnose, nearest_of
from autocompress.task import Task

UNIFORM = "some uniform recipe meets every cost limit, for example: {}"
EXTREME = "no uniform recipe meets every cost limit, one of the smallest structures does"


class Reach(Facts):
    """What uniform recipes make of one metric, measured on untrained files: from the original to the least."""

    metric: Metric
    baseline: float
    least: float
    least_by: str = Field(description="the recipe that reaches it")


class Plan(Facts):
    """Whether a budget can be met at all, what binds, and what a run would cost.

    Accuracy is not in it: that takes training.
    """

    model: str
    data: str
    asked: str
    feasible: bool = Field(
        description="whether some uniform recipe, or one of the smallest there are, meets every cost limit"
    )
    baseline: ModelFacts
    reach: tuple[Reach, ...]
    rows: tuple[BudgetRow, ...] = Field(description="cost limits beside the nearest of what was built")
    binding: tuple[Metric, ...]
    message: str
    dropped: dict[str, str] = Field(description="option → why it cannot be used or does not pay")
    needs_training: bool
    steps_per_s: float = Field(description="training speed, measured, all cores, batches of 64")
    stage_estimate_s: dict[str, float] = Field(description="how a run would share its time, estimated")


def plan(
    config: RunConfig,
    *,
    observer: Observer,
    model: nn.Module | None = None,
    task: Task | None = None,
    launcher: Launcher | None = None,
) -> Plan:
    """Measure the original and a few uniform recipes, all untrained; write nothing.

    Raises:
        InputError: something handed in cannot be used.
    """
    if config.sweep:
        raise BudgetError(f"plan looks at one budget, got {len(config.sweep)}; name one of them by --budget")
    check_budget(config.budget)
    prepared = prepare(config, observer, model=model, task=task)
    owned = launcher is None
    launcher = launcher or ray_launcher(config, prepared.machine.cores)
    try:
        found = survey(prepared, launcher, observer)
        found = with_extremes(found, setting_of(prepared, found, launcher, observer))
    finally:
        if owned:
            launcher.close()
    baseline = found.goal.baseline
    if not prepared.needs_training:
        baseline = measured_baseline(found.baseline_file, found.bench, accuracy=True, rounds=6)
    pace = measure_pace(prepared.model, SampleStream(prepared.task, config.seed), prepared.machine.cores)
    torch.set_num_threads(prepared.machine.cores)
    nearest = found.ladder.nearest(found.goal)
    diagnosis = diagnose(found.goal, found.structures, found.least)
    feasible = any(map(found.goal.within_costs, found.structures))
    uniform = any(found.goal.within_costs(rung.facts) for rung in found.ladder.rungs)
    return Plan(
        model=config.model,
        data=config.data,
        asked=config.budget,
        feasible=feasible,
        baseline=baseline,
        reach=tuple(_reach(found.ladder.rungs, baseline)),
        rows=found.goal.budget.cost_rows(nearest_of(found.goal, found.structures), baseline),
        binding=() if feasible else diagnosis.binding,
        message=diagnosis.message if not feasible else EXTREME if not uniform else UNIFORM.format(nearest.name),
        dropped=_dropped(found.anatomy, found.ladder),
        needs_training=prepared.needs_training,
        steps_per_s=pace.all_threads,
        stage_estimate_s=_estimate(config, needs_training=prepared.needs_training, survey_s=found.ladder.seconds),
    )


def _reach(rungs: tuple[Rung, ...], baseline: ModelFacts) -> Iterator[Reach]:
    for metric in Metric:
        value = metric.of(baseline)
        known = [(each, rung) for rung in rungs if (each := metric.of(rung.facts)) is not None]
        if value is None or not known:
            continue
        least, rung = min(known, key=lambda pair: pair[0])
        yield Reach(metric=metric, baseline=value, least=least, least_by=rung.name)


def _dropped(anatomy: Anatomy, ladder: Ladder) -> dict[str, str]:
    dropped = {f"channels of {group.name}": group.reason for group in anatomy.groups if group.reason}
    dropped |= {f"block {block.name}": block.reason for block in anatomy.blocks or () if block.reason}
    if ladder.int8_pays() is False:
        dropped["int8 for speed"] = "uniform int8 is no faster than fp32 on this machine; it still saves bytes"
    return dropped


def _estimate(config: RunConfig, *, needs_training: bool, survey_s: float) -> dict[str, float]:
    baseline_s = BASELINE_SHARE * config.time_s if needs_training else 0.0
    finish_s, certify_s = FINISH_SHARE * config.time_s, CERTIFY_SHARE * config.time_s
    search_s = max(0.0, config.time_s - survey_s - baseline_s - finish_s - certify_s)
    return {"plan": survey_s, "baseline": baseline_s, "search": search_s, "finish": finish_s, "certify": certify_s}
