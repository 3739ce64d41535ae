"""The rounds of the search: ask, build, measure, train what is feasible, tell."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from autocompress.clock import Clock
from autocompress.errors import RunError
from autocompress.measurement import ModelFacts
from autocompress.recipe import Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search.forecast import Forecast
from autocompress.search.launcher import Done, Job, Work
from autocompress.search.parameters import RecipeBuilder, Value
from autocompress.search.setting import Setting
from autocompress.search.study import Ask, Study
from autocompress.search.summary import summary

ROUNDS_PER_SLOT = 2  # candidates of a round per slot: enough that slots rarely wait, few enough to learn between rounds
ASKED_PER_WANTED = 12  # candidates at most that are asked for one that may be trained
BARREN_ROUNDS = 12  # rounds in a row without anything new and feasible after which the space counts as used up
SEED_SPREAD = 0.15  # of the ratios of the first guesses around the uniform recipe that is just feasible
SEEDS = 8
OTHER_SHARE = 0.2  # of the other settings of a guess are random


@dataclass(kw_only=True)
class Draft:
    """One candidate of a round on its way."""

    ask: Ask
    recipe: Recipe
    started: float = field(default_factory=time.monotonic)
    facts: ModelFacts | None = None
    forecast: Forecast | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    work_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search works with; ``run`` does it."""

    setting: Setting
    study: Study
    clock: Clock
    most_trials: int | None = None

    def run(self) -> tuple[TrialRecord, ...]:
        """Rounds until time or trials are used up; the records of all finished trials, earlier sessions included.

        Raises:
            RunError: every trial that was not ruled out by its costs failed; with the first cause.
        """
        barren, longest_s = 0, 0.0
        while not self._is_over(longest_s) and barren < BARREN_ROUNDS:
            started = time.monotonic()
            trained = self._round()
            barren = 0 if trained else barren + 1
            longest_s = max(longest_s, time.monotonic() - started) if trained else longest_s
            self.clock.save()
        records = self.study.records()
        _raise_if_all_failed(records)
        return records

    def can_go_on(self) -> bool:
        """Whether there is time for more trials, and no limit on their number forbids it."""
        if self.most_trials is not None and self.trained() >= self.most_trials:
            return False
        longest_s = max((record.seconds for record in self.study.records()), default=0.0)
        return self.clock.search_left_s > longest_s

    def trained(self) -> int:
        """How many candidates were trained, or failed to be; controls apart."""
        return sum(r.state is not TrialState.PRUNED and r.kind is TrialKind.SEARCH for r in self.study.records())

    def _is_over(self, round_s: float) -> bool:
        """Whether trials or time are used up; a search without any answer may use the time of finishing, too."""
        if self.most_trials is not None and self.trained() >= self.most_trials:
            return True
        answered = any(r.state is TrialState.COMPLETE and r.within_budget for r in self.study.records())
        left_s = self.clock.search_left_s if answered else self.clock.left_s
        return bool(self.study.records()) and left_s < round_s

    def _round(self) -> int:
        """One round; how many candidates were trained."""
        self.setting.observer.deadline(self.clock.left_s)
        drafts = self._ask()
        self._cost(drafts)
        feasible = [draft for draft in drafts if self._is_worth_training(draft)]
        for draft in drafts:
            if draft not in feasible:
                self._tell(draft, TrialState.FAILED if draft.error else TrialState.PRUNED)
        self._train(feasible)
        return len(feasible)

    def _ask(self) -> list[Draft]:
        """New candidates: repeats of what this run has seen are closed at once and cost nothing."""
        seen = {record.recipe.structure_digest() for record in self.study.records()}
        wanted = ROUNDS_PER_SLOT * self.setting.launcher.slots()
        if self.most_trials is not None:
            wanted = max(1, min(wanted, self.most_trials - self.trained()))
        drafts: list[Draft] = []
        for ask in islice(self._asks(), ASKED_PER_WANTED * wanted):
            recipe = self.setting.builder.recipe(ask.values)
            digest = recipe.structure_digest()
            if digest in seen and ask.control is None:
                self.study.drop(ask)
                continue
            seen.add(digest)
            draft = Draft(ask=ask, recipe=recipe)
            if ask.control is None and self._is_beyond(draft):
                continue
            drafts.append(draft)
            if len(drafts) >= wanted:
                break
        return drafts

    def _is_beyond(self, draft: Draft) -> bool:
        """Whether a forecast already rules the candidate out; it is told so then, and costs nothing more."""
        costing = self.setting.costing
        (forecast,) = costing.forecaster.of_recipes([draft.recipe]) if costing.forecaster is not None else (None,)
        if forecast is None or not costing.is_beyond(forecast):
            return False
        draft.forecast = forecast
        self._tell(draft, TrialState.PRUNED)
        return True

    def _asks(self) -> Iterator[Ask]:
        while True:
            yield self.study.ask()

    def _cost(self, drafts: list[Draft]) -> None:
        """What the drafts cost, before any training."""
        recipes = {draft.ask.number: draft.recipe for draft in drafts}
        controls = [draft.ask.number for draft in drafts if draft.ask.control is not None]
        costed = self.setting.cost(recipes, "candidates of this round", always=controls)
        for draft in drafts:
            key = draft.ask.number
            draft.facts, draft.error = costed.facts.get(key), costed.errors.get(key)
            draft.notes, draft.work_s = costed.notes.get(key, ()), costed.seconds.get(key, 0.0)

    def _is_worth_training(self, draft: Draft) -> bool:
        if draft.error is not None or draft.facts is None:
            return False
        return draft.ask.control is not None or self.setting.goal.within_costs(draft.facts)

    def _train(self, drafts: list[Draft]) -> None:
        by_key = {draft.ask.number: draft for draft in drafts}
        jobs = [Job(key=key, work=Work.TRIAL, recipe=draft.recipe) for key, draft in by_key.items()]
        for done in self.setting.launcher.run(self.setting.bench, jobs):
            draft = by_key[done.key]
            _take(draft, done)
            if done.product is not None and draft.facts is not None:
                draft.facts = _with_accuracy(draft.facts, done.product.facts)
            self._tell(draft, TrialState.FAILED if draft.error else TrialState.COMPLETE)

    def _tell(self, draft: Draft, state: TrialState) -> None:
        facts = draft.facts
        record = TrialRecord(
            number=draft.ask.number,
            kind=TrialKind.CONTROL if draft.ask.control else TrialKind.SEARCH,
            state=state,
            summary=summary(draft.recipe),
            recipe=draft.recipe,
            facts=facts,
            within_budget=(None if draft.forecast is None else False)
            if facts is None
            else self.setting.goal.within_costs(facts),
            forecast_ms=None if draft.forecast is None else draft.forecast.ms,
            seconds=draft.work_s,
            control=draft.ask.control,
            notes=draft.notes,
            error=draft.error,
        )
        violation = {} if facts is None else self.setting.goal.violation(facts)
        if facts is None and draft.forecast is not None:
            violation = self.setting.costing.violation(draft.forecast)
        self.study.tell(draft.ask, record, violation, None if facts is None else self.setting.goal.objective(facts))
        self.setting.observer.trial(record)


def _raise_if_all_failed(records: tuple[TrialRecord, ...]) -> None:
    """A search without any success is infeasible only if costs are the reason, not if everything that fits breaks."""
    failed = [record for record in records if record.state is TrialState.FAILED]
    fitting = [record for record in failed if record.within_budget]
    worked = any(record.state is TrialState.COMPLETE for record in records)
    if not worked and (fitting or (failed and len(failed) == len(records))):
        raise RunError(f"every trial failed; the first cause:\n{(fitting or failed)[0].error}")


def first_guesses(builder: RecipeBuilder, starts: list[dict[str, Value]], seed: int) -> list[dict[str, Value]]:
    """Recipes around uniform ones that are just feasible: stages pruned a little more or less, others at random."""
    rng = np.random.default_rng(seed)
    return [_varied(builder, starts[place % len(starts)], rng) for place in range(SEEDS)] if starts else []


def _varied(builder: RecipeBuilder, start: dict[str, Value], rng: np.random.Generator) -> dict[str, Value]:
    guess = dict(start)
    for knob in builder.knobs():
        if knob.range is not None and knob.name.startswith("prune."):
            guess[knob.name] = knob.range.clip(float(start[knob.name]) + float(rng.normal(0.0, SEED_SPREAD)))
        elif knob.range is not None and rng.random() < OTHER_SHARE:
            guess[knob.name] = float(rng.uniform(knob.range.low, knob.range.high))
        elif knob.name == "criterion" or (knob.kind in {"codebook", "tie"} and rng.random() < OTHER_SHARE):
            guess[knob.name] = str(rng.choice(knob.choices))
    return guess


def _take(draft: Draft, done: Done) -> None:
    if done.product is None:
        draft.error = done.error or "no reason was given"
        return
    draft.notes = done.product.notes
    draft.work_s += done.product.seconds


def _with_accuracy(costs: ModelFacts, judged: ModelFacts) -> ModelFacts:
    """The measured costs of the structure with the accuracy of the trained file."""
    return costs.model_copy(
        update={"accuracy_val": judged.accuracy_val, "accuracy_val_interval": judged.accuracy_val_interval}
    )
