"""A search whose candidates cost and score what a formula says: nothing is exported, measured or trained.

Pruning makes faster, smaller and less accurate, in proportion; int8 makes twice as fast and four times smaller.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tiny_runs import tiny_bench

from autocompress.budget import Budget
from autocompress.events import Silence
from autocompress.graph.anatomy import Anatomy, anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.measurement import ModelFacts
from autocompress.recipe import Base, Recipe, Recovery
from autocompress.search.goal import Goal
from autocompress.search.launcher import Done, Job, Work
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.setting import Setting
from autocompress.search.space import load_space
from autocompress.trial import Bench, Product

BASELINE = ModelFacts(
    size_bytes=100_000, macs=10**6, params=10**5, latency_ms=10.0, accuracy_val=0.95, accuracy_test=0.95
)


def facts_of(recipe: Recipe, *, judged: bool) -> ModelFacts:
    """What the formula says of a recipe; latency is left to the costing."""
    kept, int8 = 1 - _pruned(recipe), _int8_share(recipe)
    accuracy = {"accuracy_val": 0.95 - 0.2 * (1 - kept) - 0.01 * int8} if judged else {}
    return ModelFacts(
        size_bytes=round(1e5 * kept * (1 - 0.75 * int8)), macs=round(1e6 * kept), params=round(1e5 * kept), **accuracy
    )


def latency_ms(recipe: Recipe) -> float:
    """Milliseconds by the formula."""
    return 10 * (1 - _pruned(recipe)) * (1 - 0.5 * _int8_share(recipe))


def _pruned(recipe: Recipe) -> float:
    ratios = recipe.settings_of("prune_channels").get("ratios", {})
    return sum(ratios.values()) / 3 if ratios else 0.0


def _int8_share(recipe: Recipe) -> float:
    settings = recipe.settings_of("quantize")
    return 1 - len(settings.get("layers", {})) / 5 if settings else 0.0


@dataclass
class MadeUpLauncher:
    """Answers at once; ``fails`` says which recipes raise in ``fails_in``, ``jobs`` keeps what was asked."""

    fails: Callable[[Recipe], bool] = lambda _: False
    fails_in: tuple[Work, ...] = tuple(Work)
    jobs: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)

    def slots(self) -> int:
        return 2

    def ready(self) -> None:
        pass

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:  # noqa: ARG002  # as the protocol has it
        for job in jobs:
            yield self.done(job)

    def submit(self, bench: Bench, job: Job) -> None:  # noqa: ARG002
        self.waiting.append(job)

    def next_done(self) -> Done:
        return self.done(self.waiting.pop(0))

    def done(self, job: Job) -> Done:
        self.jobs.append(job)
        if job.work in self.fails_in and self.fails(job.recipe):
            return Done(key=job.key, error="made to fail")
        return Done(key=job.key, product=_product(job))

    def close(self) -> None:
        pass


def _product(job: Job) -> Product:
    judged = job.work is not Work.STRUCTURE
    file = None if job.work is Work.RUNG else job.recipe.to_json().encode()
    steps = 0 if job.rung is None else job.rung.last
    return Product(facts=facts_of(job.recipe, judged=judged), notes=(), seconds=0.25, steps=steps, file=file)


class MadeUpCosting:
    """Times files by the formula."""

    forecaster = None

    def foreseen(self, candidates: Mapping[int, tuple[bytes, ModelFacts]]) -> dict[int, ModelFacts]:  # noqa: ARG002
        return {}

    def measure(
        self,
        candidates: Mapping[int, tuple[bytes, ModelFacts]],
        always: Collection[int] = (),  # noqa: ARG002  # as the real one has it
    ) -> dict[int, ModelFacts]:
        return {
            key: facts.model_copy(update={"latency_ms": latency_ms(Recipe.from_json(file.decode()))})
            for key, (file, facts) in candidates.items()
        }


@lru_cache
def _anatomy() -> Anatomy:
    bench = tiny_bench()
    return anatomy_of(bench.base, example_input(bench.task.preprocess.shape))


def made_up_setting(
    budget: str, *, techniques: tuple[str, ...] = (), space: str = "default", **launcher: Any
) -> Setting:
    """A setting on the tiny network; ``launcher`` are arguments of ``MadeUpLauncher``."""
    passes = load_space(space)
    builder = RecipeBuilder(
        space=passes.only(techniques) if techniques else passes,
        anatomy=_anatomy(),
        base=Base(model="tiny"),
        recovery=Recovery(steps=3),
        seed=0,
        align=8,
    )
    return Setting(
        bench=tiny_bench(),
        builder=builder,
        goal=Goal(budget=Budget.parse(budget), baseline=BASELINE),
        costing=MadeUpCosting(),
        launcher=MadeUpLauncher(**launcher),
        observer=Silence(),
    )
