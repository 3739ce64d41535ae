"""Lightweight architectures for a budget, each a folder that builds itself."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from autocompress.budget import Budget, BudgetRow
from autocompress.commands.candidates_race import RACE_SHARE, raced
from autocompress.commands.candidates_request import Request, Subject, families_of, subject_of
from autocompress.commands.forecasting import keep_met, usable_profile
from autocompress.delivery.candidates import check_folder, write_candidates
from autocompress.events import Observer
from autocompress.hardware.machine import package_versions, this_machine
from autocompress.measurement import ModelFacts
from autocompress.search.candidates.draw import Pool, Sizes
from autocompress.search.candidates.facts import Candidate, Candidates, Closeness, closeness
from autocompress.search.candidates.filed import Filed, Workshop
from autocompress.search.candidates.hunt import Cost, Hunt
from autocompress.search.candidates.latencies import ByLayers, ByProfile, Foreteller
from autocompress.search.candidates.race import Place
from autocompress.search.launcher import Launcher
from autocompress.students.family import Family
from autocompress.target import Machine
from autocompress.task import Layout, Task
from autocompress.units import format_quantity

Chosen = tuple[Filed, Cost]


def find(
    request: Request,
    out: Path,
    *,
    observer: Observer,
    overwrite: bool = False,
    task: Task | None = None,
    launcher: Launcher | None = None,
) -> Candidates:
    """Hunt, race where there is data, rank, and write ``out``; see ``autocompress.candidates``.

    Raises:
        InputError: something handed in cannot be used; nothing has been written then.
    """
    started = time.monotonic()
    wish = request.wish()
    check_folder(out, overwrite=overwrite)
    machine = this_machine()
    foreteller = _foreteller(request, machine, observer)
    subject = subject_of(request, observer, task)
    families = families_of(request.space, subject.preprocess)
    seconds = request.seconds
    hunt = Hunt(
        wish=wish,
        pool=_pool(request, subject, families, machine),
        workshop=_workshop(request, subject),
        foreteller=foreteller,
        observer=observer,
        seconds=seconds if subject.task is None else seconds * (1 - RACE_SHARE),
    )
    chosen = hunt.run()
    places: Sequence[Place | None] = [None] * len(chosen)
    if subject.task is not None and chosen:
        left = seconds - (time.monotonic() - started)
        files = [filed for filed, _ in chosen]
        places = raced(files, subject.task, request, machine, left, launcher=launcher, observer=observer)
    ranked = _ranked(chosen, places, hunt)
    budget = Budget.parse(request.budget)
    rows = tuple(_candidate(rank, each, place, hunt, budget) for rank, (each, place) in enumerate(ranked, 1))
    costs = list(hunt.costs.values())  # of all that were measured: what is delivered was chosen
    found = Candidates(
        space=request.space,
        families=tuple(families),
        asked=str(budget),
        wanted=request.n,
        message=_message(hunt, rows, subject.preprocess.layout),
        least=hunt.least(),
        axis=wish.axis,
        input_shape=subject.preprocess.shape,
        n_outputs=subject.n_outputs,
        data=None if subject.task is None else subject.task.name,
        metric_name="accuracy" if subject.task is None else subject.task.metric_name,
        drawn=len(hunt.pool.members),
        exported=len(hunt.filed),
        candidates=rows,
        predicted=_close([cost for cost in costs if not cost.corrects], first=False),
        profiled=_close(costs, first=True) if isinstance(foreteller, ByProfile) else None,
        notes=tuple(hunt.notes),
        target=request.target,
        machine=machine,
        seed=request.seed,
        seconds=time.monotonic() - started,
        versions=package_versions(),
    )
    contents = {folder_of(rank, filed): filed.file for rank, ((filed, _), _) in enumerate(ranked, 1)}
    write_candidates(out, found, contents, overwrite=overwrite)
    return found


def _foreteller(request: Request, machine: Machine, observer: Observer) -> Foreteller:
    given = None if request.profile is None else Path(request.profile)
    usable = usable_profile(machine, request.target, observer, given)
    if usable is None:
        return ByLayers()
    folder, predictor = usable
    return ByProfile(predictor, request.target, keep=lambda met: keep_met(folder, met, observer))


def _pool(request: Request, subject: Subject, families: Mapping[str, Family], machine: Machine) -> Pool:
    sizes = Sizes(shape=subject.preprocess.shape, n_outputs=subject.n_outputs, channel_block=machine.channel_block)
    return Pool(families=families, sizes=sizes, seed=request.seed)


def _workshop(request: Request, subject: Subject) -> Workshop:
    return Workshop(
        preprocess=subject.preprocess,
        n_outputs=subject.n_outputs,
        target=request.target,
        seed=request.seed,
        inputs=subject.samples(request.seed),
    )


def _ranked(chosen: Sequence[Chosen], places: Sequence[Place | None], hunt: Hunt) -> list[tuple[Chosen, Place | None]]:
    """By the race, then by evidence."""
    worth = hunt.evidence([filed for filed, _ in chosen])
    pairs = list(zip(chosen, places, strict=True))
    order = sorted(range(len(pairs)), key=lambda index: (merit_of(pairs[index][1]), worth[index]), reverse=True)
    return [pairs[index] for index in order]


def merit_of(place: Place | None) -> tuple[int, float]:
    """Of an architecture that did not race, less than of any that did."""
    return (-1, 0.0) if place is None else place.merit


def folder_of(rank: int, filed: Filed) -> str:
    """The folder of a candidate."""
    return f"{rank:02d}-{filed.member.architecture.family}-{filed.key[:6]}"


def _candidate(rank: int, chosen: Chosen, place: Place | None, hunt: Hunt, budget: Budget) -> Candidate:
    filed, cost = chosen
    folder = folder_of(rank, filed)
    facts = filed.facts.with_latency(cost.latency).model_copy(
        update={"peak_ram_bytes": cost.ram_bytes, "artifact": f"{folder}/model.onnx"}
    )
    if cost.said is not None:
        facts = cost.said.filled_in(facts)
    trained = None if place is None else place.facts
    if trained is not None:
        names = ("accuracy_val", "accuracy_val_interval")
        facts = facts.model_copy(update={name: getattr(trained, name) for name in names})
    (evidence,) = hunt.evidence([filed])
    return Candidate(
        rank=rank,
        name=folder.partition("-")[2],
        folder=folder,
        architecture=filed.member.architecture,
        evidence=evidence,
        scores=filed.scores,
        facts=facts,
        profile_ms=None if cost.first is None or isinstance(hunt.foreteller, ByLayers) else cost.first.ms,
        corrects=cost.corrects,
        noisy=cost.latency.noisy,
        race_steps=None if place is None or trained is None else place.steps,
        rows=_rows(budget, facts),
    )


def _rows(budget: Budget, facts: ModelFacts) -> tuple[BudgetRow, ...]:
    return budget.rows(facts, facts, "val")


def _close(costs: Sequence[Cost], *, first: bool) -> Closeness | None:
    said = [(cost.first if first else cost.said, cost.latency.median_ms) for cost in costs]
    return closeness([(forecast.ms, ms) for forecast, ms in said if forecast is not None])


def _message(hunt: Hunt, candidates: Sequence[Candidate], layout: Layout) -> str:
    wish, found = hunt.wish, len(candidates)
    families = ", ".join(hunt.pool.families)
    if found:
        meet = sum(all(row.met for row in each.rows) for each in candidates)
        fewer = f", {wish.count} were wanted; more --time finds more" if found < wish.count else ""
        if meet == found:
            return f"{found} architectures of {families} meet the budget{fewer}"
        return f"{meet} of {found} architectures of {families} that keep the limits on costs were as accurate{fewer}"
    least = hunt.least()
    reached = [
        f"{metric} {format_quantity(least[metric], metric.kind)} (limit {format_quantity(limit, metric.kind)})"
        for metric, limit in wish.limits.items()
        if metric in least
    ]
    alone = ", each by itself," if len(reached) > 1 else ""
    smaller = f"lower --input-size {hunt.pool.sizes.shape[-1]}, " if layout is Layout.IMAGE else ""
    return (
        f"no architecture of {families} meets the budget; the least that was reached{alone} is {', '.join(reached)}. "
        f"Raise the limit, {smaller}or try another family"
    )
