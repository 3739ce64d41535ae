"""A tiny network's units and choices, its builder, its uniform files and the costs that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tiny_models import shape_of, tiny
from tiny_runs import one_core
from tiny_tasks import task_for

from autocompress.graph.anatomy import Anatomy, anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.graph.units import Unit, by_units, units_of
from autocompress.measurement import ModelFacts
from autocompress.precision import Format
from autocompress.recipe import Base, Recovery
from autocompress.search.allocation.choices import Choice, choices_of, values_of
from autocompress.search.allocation.network_costs import NetworkCosts, UniformFile
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.space import load_space
from autocompress.target import Target
from autocompress.trial import Bench, make_structure


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    bench: Bench
    anatomy: Anatomy
    units: tuple[Unit, ...]
    choices: tuple[tuple[Choice, ...], ...]
    builder: RecipeBuilder

    def facts(self, choices: Sequence[Choice]) -> ModelFacts:
        """Counted on the untrained file of a choice for each unit."""
        recipe = self.builder.recipe(values_of(dict(enumerate(choices))))
        return make_structure(self.bench, recipe, threads=1).facts

    def costs(self, choices: Sequence[Sequence[Choice]] | None = None) -> NetworkCosts:
        return NetworkCosts(
            anatomy=self.anatomy,
            units=self.units,
            choices=choices or self.choices,
            align=self.builder.align,
            channel_block=self.bench.machine.channel_block,
            plain=UniformFile(facts=_uniform(self.name, Format.FP32)),
            int8=UniformFile(facts=_uniform(self.name, Format.INT8)),
        )


@lru_cache
def case_of(name: str) -> Case:
    model = tiny(name)
    anatomy = anatomy_of(model, example_input(shape_of(name)))
    machine = one_core()
    bench = Bench(
        base=model, task=task_for(name), target=Target(), machine=machine, groups=anatomy.groups, blocks=anatomy.blocks
    )
    space = load_space("everything")
    units = units_of(anatomy)
    builder = RecipeBuilder(
        space=space,
        anatomy=by_units(anatomy),
        base=Base(model=name),
        recovery=Recovery(),
        seed=0,
        align=machine.channel_block,
    )
    choices = tuple(choices_of(unit, anatomy, space) for unit in units)
    return Case(name=name, bench=bench, anatomy=anatomy, units=units, choices=choices, builder=builder)


@lru_cache
def _uniform(name: str, form: Format) -> ModelFacts:
    case = case_of(name)
    return case.facts([Choice(precision=form)] * len(case.units)).model_copy(update={"latency_ms": 2.0})


@lru_cache
def costs_of(name: str) -> NetworkCosts:
    return case_of(name).costs()
