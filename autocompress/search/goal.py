"""What a search is after: the most accurate model within the costs, or the cheapest one above the accuracy."""

from dataclasses import dataclass

from autocompress.budget import Budget, Metric
from autocompress.measurement import ModelFacts

# Standard errors that a validation accuracy must lie above a floor before the test split is asked: the best of many
# candidates is partly lucky, and the test split is read only once.
FLOOR_MARGIN = 1.0
# Of a latency, that two processes differ by however long each measures: the A/A floor with many sessions open.
ANOTHER_PROCESS = 0.01


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The budget, the baseline that its shares refer to, and what to minimize when it limits only accuracy."""

    budget: Budget
    baseline: ModelFacts
    minimize: Metric = Metric.LATENCY

    @property
    def minimizes_cost(self) -> bool:
        """Whether accuracy is only a floor, and a cost is what counts."""
        return not self.budget.costs

    def limits(self, metric: Metric) -> bool:
        """Whether the budget limits ``metric``."""
        return any(limit.metric is metric for limit in self.budget.limits)

    def within_costs(self, facts: ModelFacts) -> bool:
        """Whether every cost limit is met."""
        return all(row.met for row in self.budget.cost_rows(facts, self.baseline))

    def is_surely_within(self, facts: ModelFacts) -> bool:
        """Whether every cost limit is met, and measuring again should find it met, too."""
        return self.within_costs(facts) and self.sure_violation(facts) <= 0

    def sure_violation(self, facts: ModelFacts) -> float:
        """How far beyond the worst cost limit, latencies at the ends of their intervals that speak against the facts.

        At most 0 where measuring again should find the costs met, too. The baseline is at its fastest where the two
        were not measured in turns.
        """
        baseline = _at_its_fastest(self.baseline) if facts.latency_share_interval is None else self.baseline
        against = self.budget.violation(facts.model_copy(update={"latency_ms": self.upper_ms(facts)}), baseline)
        return max(against.values(), default=-1.0)

    def upper_ms(self, facts: ModelFacts) -> float | None:
        """The latency that measuring again should not exceed: of the share, where a share is what the budget limits."""
        share, interval = facts.latency_share_interval, facts.latency_interval_ms
        if share is not None and self.limits_share and self.baseline.latency_ms is not None:
            return share[1] * (1 + ANOTHER_PROCESS) * self.baseline.latency_ms
        return Metric.LATENCY.of(facts) if interval is None else interval[1]

    @property
    def limits_share(self) -> bool:
        """Whether the budget limits a share of the original's latency."""
        return any(limit.relative for limit in self.budget.limits if limit.metric is Metric.LATENCY)

    def violation(self, facts: ModelFacts) -> dict[Metric, float]:
        """Per limit, how far beyond it: at most 0 where met. Accuracy rows by the validation split, where known."""
        found = self.budget.violation(facts, self.baseline)
        if facts.accuracy_val is not None:
            for row in self.budget.rows(facts, self.baseline, "val"):
                if row.metric is Metric.ACCURACY and row.value is not None:
                    found[row.metric] = (row.limit - row.value) / row.limit
                elif row.metric is Metric.ACCURACY_DROP and row.value is not None:
                    found[row.metric] = (row.value - row.limit) / row.limit
        return found

    def clears_floors(self, facts: ModelFacts) -> bool:
        """Whether validation accuracy lies above every accuracy limit by the margin."""
        if facts.accuracy_val is None:
            return False
        lucky = facts.model_copy(update={"accuracy_val": facts.accuracy_val - FLOOR_MARGIN * _standard_error(facts)})
        rows = self.budget.rows(lucky, self.baseline, "val")
        return all(row.met for row in rows if not row.metric.is_cost)

    def objective(self, facts: ModelFacts) -> float | None:
        """The number that the study is told: the cost to minimize, or the validation accuracy to maximize."""
        return self.minimize.of(facts) if self.minimizes_cost else facts.accuracy_val

    def rank(self, facts: ModelFacts) -> tuple[float, ...]:
        """Sorts candidates, the best first: those within the costs, those above the floors, then by the objective."""
        cost = self.minimize.of(facts)
        cost = float("inf") if cost is None else cost
        accuracy = -1.0 if facts.accuracy_val is None else facts.accuracy_val
        order = (cost, -accuracy) if self.minimizes_cost and self.clears_floors(facts) else (-accuracy, cost)
        return (not self.within_costs(facts), not self.clears_floors(facts), *order)


def _at_its_fastest(facts: ModelFacts) -> ModelFacts:
    """With the lower end of the measured latency's interval in its place."""
    interval = facts.latency_interval_ms
    return facts if interval is None else facts.model_copy(update={"latency_ms": interval[0]})


def _standard_error(facts: ModelFacts) -> float:
    """Of the validation accuracy, from its 95 % interval."""
    if facts.accuracy_val_interval is None:
        return 0.0
    low, high = facts.accuracy_val_interval
    return (high - low) / (2 * 1.96)
