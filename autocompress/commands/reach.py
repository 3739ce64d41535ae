"""Before a budget is given up: the smallest selections of the network's parts and the smallest students, measured."""

from collections.abc import Mapping
from dataclasses import replace

from autocompress.budget import Metric
from autocompress.commands.allocating import limits_of, students_of, with_codebooks
from autocompress.commands.prepare import Prepared
from autocompress.commands.survey import Extreme, Survey, recipe_builder
from autocompress.events import Observer
from autocompress.graph.units import by_units
from autocompress.recipe import Recipe, Recovery
from autocompress.search.allocation.choices import choices_by_unit
from autocompress.search.allocation.measured import cost_model, recipe_of
from autocompress.search.costing import Costing
from autocompress.search.launcher import Launcher
from autocompress.search.least import least_costs
from autocompress.search.setting import Setting
from autocompress.students.family import load_family, smallest

NOT_UNIFORM = "no uniform recipe meets the budget; the smallest selections and students are tried"
OFF_BY = 3.0  # times, that a student's estimated milliseconds may be before any was measured


def setting_of(
    prepared: Prepared, found: Survey, launcher: Launcher, observer: Observer, recovery: Recovery | None = None
) -> Setting:
    """What a search on a surveyed network works with, without an outer search."""
    return Setting(
        bench=found.bench,
        builder=recipe_builder(prepared, found.anatomy, recovery or Recovery()),
        goal=found.goal,
        costing=Costing(found.baseline_file, found.goal, found.bench.target, found.forecaster),
        launcher=launcher,
        observer=observer,
    )


def with_extremes(found: Survey, setting: Setting) -> Survey:
    """The survey with the smallest structures there are, where no uniform recipe meets the costs."""
    if not found.is_hopeless:
        return found
    setting.observer.note(NOT_UNIFORM)
    builder = with_codebooks(replace(setting.builder, anatomy=by_units(found.anatomy)), found.ladder)
    choices = choices_by_unit(found.anatomy, builder.space, builder.codebooks)
    students = students_of(setting, found)
    model = cost_model(
        setting.bench, builder, choices, found.baseline_file, found.goal.baseline, forecaster=found.forecaster
    )
    limits = limits_of(found.goal)
    least = least_costs(model, students, limits)
    wanted = [Extreme(recipe=recipe_of(picks, builder, choices), picks=picks) for picks in least.selections]
    if students is not None:
        members = [smallest(load_family(name)) for name in students.families]
        near = [each for each in members if _may_fit(students.estimate(each), limits)]
        wanted += [Extreme(recipe=students.recipe_of(each), student=each) for each in near]
    recipes = {key: each.recipe for key, each in enumerate(wanted)}
    costed = setting.cost(recipes, "the smallest structures", always=recipes)
    extremes = [replace(wanted[key], facts=facts) for key, facts in sorted(costed.facts.items())]
    return replace(found, extremes=tuple(extremes), least=least)


def _may_fit(costs: Mapping[Metric, float], limits: Mapping[Metric, float]) -> bool:
    """Whether an estimate leaves that open; what is far beyond need not be built."""
    return all(costs[metric] <= OFF_BY * limit for metric, limit in limits.items() if metric in costs)


def fitting_extremes(found: Survey, setting: Setting) -> list[Recipe]:
    """Recipes of the smallest structures that meet the costs, as the search makes them; none where uniform ones do."""
    fitting = [each for each in found.extremes if each.facts is not None and found.goal.within_costs(each.facts)]
    outer = setting.outer
    if outer is None:
        return [each.recipe.model_copy(update={"recovery": setting.builder.recovery}) for each in fitting]
    recipes, neutral = [], outer.neutral()
    for each in fitting:
        if each.picks is not None:
            recipes.append(outer.remember(outer.recipe_of(each.picks, neutral), each.picks))
        elif each.student is not None and outer.students is not None:
            recipes.append(outer.students.recipe_of(each.student))
    return recipes
