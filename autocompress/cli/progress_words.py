"""Trials and moments in one line of words, for both views."""

from autocompress.delivery.report_text import cost_ms, last_line, trial_ms
from autocompress.measurement import ModelFacts
from autocompress.result import TrialRecord, TrialState
from autocompress.units import Kind, format_duration, format_quantity

NOTHING = "—"


def moment(seconds: float) -> str:
    """Seconds since the start, ``0:07`` or ``12:30``."""
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def time_left(seconds: float) -> str:
    """How long the run may still take."""
    return f"{format_duration(seconds)} left" if seconds > 0 else "ending"


def costs(facts: ModelFacts | None) -> str:
    """Latency and size; ``≈`` marks a latency that was predicted."""
    if facts is None:
        return NOTHING
    return f"{cost_ms(facts)}, {format_quantity(facts.size_bytes, Kind.BYTES)}"


def outcome(record: TrialRecord) -> str:
    """What came of a trial: its accuracy, or why it has none."""
    if record.state is TrialState.FAILED:
        return "failed"
    if record.facts is None or record.facts.accuracy_val is None:
        return "over"
    return f"{record.facts.accuracy_val:.4f}"


def trial_line(record: TrialRecord) -> str:
    """One trial in one line."""
    name = f"trial {record.number}" + (f" ({record.control})" if record.control else "")
    if record.state is TrialState.FAILED:
        return f"{name}: failed: {last_line(record)}"
    if record.is_behind:
        return f"{name}: behind others after {record.steps} steps: accuracy {outcome(record)}: {record.summary}"
    if record.state is TrialState.PRUNED:
        if record.facts is None:
            return f"{name}: outside the budget as predicted, not built: {trial_ms(record)}: {record.summary}"
        return f"{name}: outside the budget, not trained: {costs(record.facts)}: {record.summary}"
    outside = "" if record.within_budget else ", outside the budget"
    return f"{name}: accuracy {outcome(record)}, {costs(record.facts)}{outside}: {record.summary}"
