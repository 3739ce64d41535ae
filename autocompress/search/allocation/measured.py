"""The costs of a network's selections from its own files: built, profiled, and forecast where that is known."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from autocompress.budget import Metric
from autocompress.errors import MeasurementError
from autocompress.graph.units import units_of
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.recipe import Recipe
from autocompress.search.allocation.choices import Choice, values_of
from autocompress.search.allocation.costs import CostModel
from autocompress.search.allocation.layer_times import FileTimes, time_layers
from autocompress.search.allocation.network_costs import COSTS, NetworkCosts, UniformFile
from autocompress.search.forecast import Forecaster
from autocompress.search.parameters import RecipeBuilder
from autocompress.trial import Bench, facts_of, make_structure

Floats = npt.NDArray[np.float64]
Picks = npt.NDArray[np.intp]


def cost_model(
    bench: Bench,
    builder: RecipeBuilder,
    choices: Sequence[Sequence[Choice]],
    baseline_file: bytes,
    baseline: ModelFacts,
    *,
    forecaster: Forecaster | None = None,
    metrics: tuple[Metric, ...] = COSTS,
) -> CostModel:
    """Costs at the scale of the baseline's latency; one more file is made and two are profiled, alone on the machine.

    Args:
        bench: network and target.
        builder: over ``by_units`` of the network's anatomy.
        choices: of each unit.
        baseline_file: the original.
        baseline: what was counted and measured of it.
        forecaster: gives the latency of the selections whose kernels it knows.
        metrics: those that budgets limit.
    """
    units = units_of(builder.anatomy)
    files, facts = [baseline_file], [baseline]
    if any(each.precision.bits is not None for of_unit in choices for each in of_unit):
        uniform = builder.recipe(values_of(dict.fromkeys(range(len(units)), Choice(precision=Format.INT8))))
        files.append(make_structure(bench, uniform, threads=1).file)
        facts.append(facts_of(files[1]))
    times = _times(files, builder, bench, baseline.latency_ms)
    plain, *int8 = (UniformFile(facts=f, times=t) for f, t in zip(facts, times, strict=True))
    raw = NetworkCosts(
        anatomy=builder.anatomy,
        units=units,
        choices=choices,
        align=builder.align,
        channel_block=bench.machine.channel_block,
        plain=plain,
        int8=int8[0] if int8 else None,
    )
    return CostModel(
        raw=raw,
        n_choices=[len(of_unit) for of_unit in choices],
        metrics=metrics,
        forecast=forecasts_by(forecaster, builder, choices) if forecaster is not None else None,
    )


def recipe_of(picks: Sequence[int], builder: RecipeBuilder, choices: Sequence[Sequence[Choice]]) -> Recipe:
    """The recipe of a selection."""
    return builder.recipe(values_of({unit: choices[unit][place] for unit, place in enumerate(picks)}))


def forecasts_by(
    forecaster: Forecaster, builder: RecipeBuilder, choices: Sequence[Sequence[Choice]]
) -> Callable[[Picks], Floats]:
    """``[n, units]`` → upper ends of the latency in ms, NaN where a recipe's kernels are not known."""

    def upper_ms(picks: Picks) -> Floats:
        recipes = [recipe_of(row, builder, choices) for row in picks.tolist()]
        return np.array([np.nan if each is None else each.high_ms for each in forecaster.of_recipes(recipes)])

    return upper_ms


def _times(
    files: Sequence[bytes], builder: RecipeBuilder, bench: Bench, latency_ms: float | None
) -> Sequence[FileTimes | None]:
    """Of each file's layers, at the scale of the baseline's latency; none where a profile cannot be read."""
    try:
        times = time_layers(files, builder.anatomy.layers, bench.target)
    except MeasurementError:  # control flow: what layers take is estimated then
        return [None] * len(files)
    scale = 1.0 if latency_ms is None else latency_ms / times[0].total_ms
    return [each.scaled_to(each.total_ms * scale) for each in times]
