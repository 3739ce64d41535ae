"""What can be reached at all: the original and a few uniform recipes, exported untrained and measured."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from autocompress.budget import Budget
from autocompress.commands.baseline import measured_baseline
from autocompress.commands.config import RunConfig
from autocompress.commands.forecasting import forecaster_for
from autocompress.commands.prepare import Prepared
from autocompress.events import Observer
from autocompress.graph.anatomy import Anatomy, anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.measurement import ModelFacts
from autocompress.models.config import weights_digest
from autocompress.passes import DropBlocks
from autocompress.recipe import Base, Recipe, Recovery
from autocompress.search.costing import Costing
from autocompress.search.forecast import Forecaster
from autocompress.search.goal import Goal
from autocompress.search.ladder import Ladder, climb
from autocompress.search.launcher import Launcher
from autocompress.search.least import Least
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.setting import Setting
from autocompress.search.space import SearchSpace, load_space
from autocompress.students.family import Architecture
from autocompress.trial import Bench, export_base


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """One of the smallest structures there are: a selection of choices of the network's parts, or a student.

    ``facts`` are those of its untrained file, None until there is one; ``recipe`` has no recovery of its own yet.
    """

    recipe: Recipe
    picks: tuple[int, ...] | None = None
    student: Architecture | None = None
    facts: ModelFacts | None = None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The network taken apart, the original's file and costs, and the ladder of uniform recipes.

    ``extremes`` and ``least`` are there where neither the original nor a uniform recipe meets the costs.
    """

    bench: Bench
    anatomy: Anatomy
    forecaster: Forecaster | None
    goal: Goal
    baseline_file: bytes
    ladder: Ladder
    extremes: tuple[Extreme, ...] = ()
    least: Least | None = None

    @property
    def structures(self) -> tuple[ModelFacts, ...]:
        """Of every untrained file that was measured."""
        extremes = (each.facts for each in self.extremes if each.facts is not None)
        return (*(rung.facts for rung in self.ladder.rungs), *extremes)

    @property
    def is_hopeless(self) -> bool:
        """Whether neither the original nor anything that was built meets the costs."""
        return not any(self.goal.within_costs(facts) for facts in (self.goal.baseline, *self.structures))


def survey(prepared: Prepared, launcher: Launcher, observer: Observer, limit_s: float = math.inf) -> Survey:
    """Look at the network and measure its reach, in ``limit_s`` as far as possible; the model is left alone."""
    config = prepared.config
    bench, anatomy = look(prepared, observer, search_space(config).passes.names())
    file = export_base(bench)
    launcher.ready()
    baseline = measured_baseline(file, bench, accuracy=False, rounds=6)
    observer.baseline(baseline)
    goal = Goal(budget=Budget.parse(config.budget), baseline=baseline, minimize=config.minimize)
    forecaster = forecaster_for(prepared.machine, config.target, anatomy, observer)
    setting = Setting(
        bench=bench,
        builder=recipe_builder(prepared, anatomy, Recovery()),
        goal=goal,
        costing=Costing(file, goal, config.target, forecaster),
        launcher=launcher,
        observer=observer,
    )
    ladder = climb(setting, limit_s)
    return Survey(bench=bench, anatomy=anatomy, forecaster=forecaster, goal=goal, baseline_file=file, ladder=ladder)


def look(prepared: Prepared, observer: Observer, passes: Collection[str]) -> tuple[Bench, Anatomy]:
    """The bench of this network, and its parts as ``passes`` need them; groups that cannot be pruned are said."""
    preprocess = prepared.task.preprocess
    example = example_input(preprocess.shape, preprocess.dtype)
    anatomy = anatomy_of(prepared.model, example, blocks=DropBlocks.name in passes)
    for group in anatomy.groups:
        if group.reason:
            observer.note(f"channels of {group.name} stay: {group.reason}")
    bench = Bench(
        base=prepared.model,
        task=prepared.task,
        target=prepared.config.target,
        machine=prepared.machine,
        groups=anatomy.groups,
        blocks=anatomy.blocks,
        stream_seed=prepared.config.seed,
    )
    return bench, anatomy


def recipe_builder(prepared: Prepared, anatomy: Anatomy, recovery: Recovery) -> RecipeBuilder:
    """What turns parameters into recipes for this run."""
    config = prepared.config
    return RecipeBuilder(
        space=search_space(config),
        anatomy=anatomy,
        base=Base(model=config.model, sha256=weights_digest(prepared.model)),
        recovery=recovery,
        seed=config.seed,
        align=prepared.machine.channel_block,
    )


def search_space(config: RunConfig) -> SearchSpace:
    """The space that the configuration names, cut down to its techniques."""
    space = load_space(config.space)
    return space.only(config.techniques) if config.techniques else space
