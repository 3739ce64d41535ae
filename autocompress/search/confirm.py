"""Before any full recovery: the candidates that were only predicted to fit are measured, best first."""

from collections.abc import Sequence

from autocompress.result import TrialRecord, TrialState
from autocompress.search.loop import Search
from autocompress.search.setting import Setting

MOST_PASSES = 8  # each takes the next best where the best so far turned out not to fit


def search_and_confirm(search: Search, count: int) -> tuple[TrialRecord, ...]:
    """Search until time or trials are used up, and on where nothing that was predicted to fit does when measured."""
    records = confirmed(search.setting, search.run(), count)
    trained = 0
    while not any(record.within_budget for record in records) and search.trained() > trained and search.can_go_on():
        trained = search.trained()
        search.setting.observer.note("no candidate meets the budget when it is measured; the search goes on")
        search.study.amend(records)
        records = confirmed(search.setting, search.run(), count)
    return records


def confirmed(setting: Setting, records: Sequence[TrialRecord], count: int) -> tuple[TrialRecord, ...]:
    """The records, so that the best ``count`` that seem to fit have been measured and do; as far as there are so many.

    What is measured corrects the forecasts of candidates to come.
    """
    found = list(records)
    for _ in range(MOST_PASSES):
        best = _best(setting, found, count)
        open_ = [place for place in best if _is_predicted(found[place])]
        if not open_:
            break
        recipes = {place: found[place].recipe for place in open_}
        costed = setting.cost(recipes, "the best candidates, measured alone", always=recipes)
        for place in open_:
            facts = costed.facts.get(place)
            record = found[place]
            if facts is None or record.facts is None:
                found[place] = record.model_copy(update={"within_budget": False})
                continue
            judged = {name: getattr(record.facts, name) for name in ("accuracy_val", "accuracy_val_interval")}
            facts = facts.model_copy(update=judged)
            within = setting.goal.within_costs(facts)
            if not within:
                setting.observer.note(f"{record.summary} was predicted to meet the budget and does not")
            found[place] = record.model_copy(update={"facts": facts, "within_budget": within})
    return tuple(found)


def _best(setting: Setting, records: Sequence[TrialRecord], count: int) -> list[int]:
    fitting = [
        place
        for place, record in enumerate(records)
        if record.state is TrialState.COMPLETE and record.facts is not None and record.within_budget
    ]

    def rank(place: int) -> tuple[float, ...]:
        facts = records[place].facts
        return () if facts is None else setting.goal.rank(facts)

    return sorted(fitting, key=rank)[:count]


def _is_predicted(record: TrialRecord) -> bool:
    return record.facts is not None and record.facts.latency_ms is None
