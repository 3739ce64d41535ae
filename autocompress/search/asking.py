"""New candidates from the study: repeats are refused, and what a forecast rules out is told so without any work."""

from dataclasses import dataclass, field

from autocompress.result import TrialRecord, TrialState
from autocompress.search.candidate import Candidate
from autocompress.search.setting import Setting
from autocompress.search.study import Ask, Study

ASKS_AT_ONCE = 12  # before whoever asks looks after its slots again
BARREN_ASKS = 500  # in a row without anything new that may fit, after which the space counts as used up
BARREN_ALLOCATIONS = 60  # the same where each ask is several allocations
# Of what a forecast or an allocation ruled out, beyond one for each that was built: more would mislead the sampler.
FREE_TELLS = 8
EMPTY = 0.1  # by how much parameters count as beyond each limit within which there is no allocation


@dataclass(kw_only=True)
class Asking:
    """``seen`` are digests of structures that this search has had; ``barren`` counts asks since the last new one."""

    setting: Setting
    study: Study
    seen: set[str] = field(init=False)
    barren: int = 0

    def __post_init__(self) -> None:
        records = self.study.records()
        self.seen = {record.recipe.structure_digest() for record in records}
        self._free_tells = sum(1 if record.facts is None else -1 for record in records)

    @property
    def is_used_up(self) -> bool:
        """Whether the sampler seems to have nothing new."""
        return self.barren >= (BARREN_ASKS if self.setting.outer is None else BARREN_ALLOCATIONS)

    def ask(self) -> Candidate | None:
        """A new candidate that may fit; None if the next few asks give none."""
        if self.setting.outer is not None:
            self.setting.outer.learn(self.study.records())
        for _ in range(ASKS_AT_ONCE):
            self.barren += 1
            ask = self.study.ask()
            recipe = ask.recipe or self.setting.recipe(ask.values)
            if recipe is None:
                self._rule_out(ask)
                continue
            candidate = Candidate(ask=ask, recipe=recipe)
            digest = recipe.structure_digest()
            if not candidate.is_control and digest in self.seen:
                self.study.drop(ask)
                continue
            self.seen.add(digest)
            if candidate.is_control or not self._is_beyond(candidate):
                self.barren = 0
                if self.setting.outer is not None and ask.recipe is None:
                    self.study.settle(ask, recipe)
                return candidate
        return None

    def built(self) -> None:
        """One was built: another may be ruled out without."""
        self._free_tells -= 1

    def _rule_out(self, ask: Ask) -> None:
        """Close parameters within whose limits there is no allocation."""
        limits = self.setting.outer.limits if self.setting.outer is not None else {}
        if limits and self._free_tells < FREE_TELLS:
            self._free_tells += 1
            self.study.rule_out(ask, dict.fromkeys(limits, EMPTY))
        else:
            self.study.drop(ask)

    def _is_beyond(self, candidate: Candidate) -> bool:
        """Whether a forecast already rules the candidate out; it is closed then."""
        costing = self.setting.costing
        (found,) = costing.forecaster.of_recipes([candidate.recipe]) if costing.forecaster is not None else (None,)
        if found is None or not costing.is_beyond(found):
            return False
        candidate.forecast = found
        if self._free_tells < FREE_TELLS:
            self._free_tells += 1
            tell(self.setting, self.study, candidate, TrialState.PRUNED)
        else:
            self.study.drop(candidate.ask)
        return True


def tell(setting: Setting, study: Study, candidate: Candidate, state: TrialState) -> TrialRecord:
    """Close a candidate's trial with its record."""
    facts, goal = candidate.facts, setting.goal
    within = None if candidate.forecast is None else False
    violation, value = {}, None
    if facts is not None:
        within, violation, value = goal.within_costs(facts), goal.violation(facts), goal.objective(facts)
    elif candidate.forecast is not None:
        violation = setting.costing.violation(candidate.forecast)
    known = None if setting.outer is None else setting.outer.known(candidate.recipe)
    record = candidate.record(state, within_budget=within)
    if known is not None:
        record = record.model_copy(update={"picks": known[0], "parameters": known[1]})
    study.tell(candidate.ask, record, violation, value)
    setting.observer.trial(record)
    return record
