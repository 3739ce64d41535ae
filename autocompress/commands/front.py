"""The folders of the front: other models to take, each exported and measured."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autocompress.budget import Budget
from autocompress.commands.certify import FILE, certificate_of
from autocompress.commands.folder import PARETO
from autocompress.commands.prepare import Prepared
from autocompress.delivery.bundle import write_bundle
from autocompress.graph.program import Portable
from autocompress.measurement import Latency, ModelFacts
from autocompress.recipe import Recipe
from autocompress.result import FrontPoint
from autocompress.search.finalist import SHORT, Finalist
from autocompress.search.front_points import FrontFile
from autocompress.search.selection import front


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What may stand on the front; ``note`` says what was not done to it."""

    summary: str
    facts: ModelFacts
    latency: Latency
    file: bytes
    recipe: Recipe
    portable: Portable
    note: str = ""


def write_front(
    prepared: Prepared,
    out: Path,
    budget: Budget,
    baseline: ModelFacts,
    *,
    finalists: Sequence[Finalist],
    trials: Sequence[FrontFile],
) -> tuple[FrontPoint, ...]:
    """Bundles of all that no other dominates but the first finalist; accuracies are those of the validation split."""
    shutil.rmtree(out / PARETO, ignore_errors=True)
    models = [*_of_finalists(finalists), *_of_trials(trials)]
    points: list[FrontPoint] = []
    for index in front([model.facts for model in models]):
        if index == 0:
            continue
        model, name = models[index], f"{PARETO}/{len(points) + 1:02d}"
        facts = model.facts.model_copy(update={"artifact": f"{name}/{FILE}"})
        rows = budget.rows(facts, baseline, "val")
        certificate = certificate_of(
            prepared, model.file, model.recipe, facts=facts, baseline=baseline, rows=rows, latency=model.latency
        )
        write_bundle(out / name, model.file, model.portable, model.recipe, certificate, note=model.note)
        points.append(FrontPoint(name=name, summary=model.summary, facts=facts, note=model.note))
    return tuple(points)


def _of_finalists(finalists: Sequence[Finalist]) -> Iterator[_Model]:
    for each in finalists:
        assert each.latency is not None
        yield _Model(
            summary=each.kept.record.summary,
            facts=each.facts,
            latency=each.latency,
            file=each.file(),
            recipe=each.recipe,
            portable=each.portable(),
            note=each.note,
        )


def _of_trials(trials: Sequence[FrontFile]) -> Iterator[_Model]:
    for each in trials:
        record = each.record
        steps = record.recipe.recovery.steps if record.steps is None else record.steps
        named = f"{record.summary} ({record.control})" if record.control else record.summary
        yield _Model(
            summary=named,
            facts=each.facts,
            latency=each.latency,
            file=each.file,
            recipe=record.recipe.with_steps(steps),
            portable=each.portable,
            note=SHORT.format(steps),
        )
