"""What every stage of a search works with, and the one way to learn what candidates cost."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from autocompress.events import Observer
from autocompress.measurement import ModelFacts
from autocompress.recipe import Recipe, Recovery
from autocompress.search.costing import Costing
from autocompress.search.goal import Goal
from autocompress.search.launcher import Job, Launcher, Work
from autocompress.search.outer import Outer
from autocompress.search.parameters import RecipeBuilder, Value
from autocompress.trial import Bench


@dataclass(frozen=True, kw_only=True)
class Costed:
    """Costs of the candidates that could be built; the errors of the others; what passes skipped; seconds of work."""

    facts: dict[int, ModelFacts]
    errors: dict[int, str] = field(default_factory=dict)
    notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)

    def with_others(self, others: "Costed") -> "Costed":
        """Both."""
        return Costed(
            facts=self.facts | others.facts,
            errors=self.errors | others.errors,
            notes=self.notes | others.notes,
            seconds=self.seconds | others.seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Network and data, how recipes are made, what is sought, where work is done and who watches.

    ``builder`` has a setting for each stage of the network; with ``outer`` the study's parameters are that one's.
    """

    bench: Bench
    builder: RecipeBuilder
    goal: Goal
    costing: Costing
    launcher: Launcher
    observer: Observer
    outer: Outer | None = None

    def recipe(self, values: Mapping[str, Value]) -> Recipe | None:
        """The recipe that a study's parameters mean; None where nothing within the limits does."""
        return self.builder.recipe(values) if self.outer is None else self.outer.recipe(values)

    def with_recovery(self, recovery: Recovery, bench: Bench) -> "Setting":
        """A copy whose recipes are recovered so, on a bench with what that needs."""
        builder = replace(self.builder, recovery=recovery)
        outer = None if self.outer is None else self.outer.with_recovery(recovery)
        return replace(self, bench=bench, builder=builder, outer=outer)

    def cost(self, recipes: Mapping[int, Recipe], what: str, always: Collection[int] = ()) -> Costed:
        """Export every recipe untrained, then learn what the files cost while nothing else of ours runs.

        ``always``: those whose latency is measured even if a forecast would do.
        """
        jobs = [Job(key=key, work=Work.STRUCTURE, recipe=recipe) for key, recipe in recipes.items()]
        found = Costed(facts={})
        files: dict[int, tuple[bytes, ModelFacts]] = {}
        for ended, done in enumerate(self.launcher.run(self.bench, jobs), 1):
            if done.product is None or done.product.file is None:
                found.errors[done.key] = done.error or "no reason was given"
            else:
                files[done.key] = (done.product.file, done.product.facts)
                found.notes[done.key] = done.product.notes
                found.seconds[done.key] = done.product.seconds
                if self.costing.forecaster is not None:
                    self.costing.forecaster.see(recipes[done.key], done.product.file)
            self.observer.progress(ended, len(jobs), what)
        found.facts.update(self.costing.measure(files, always))
        return found
