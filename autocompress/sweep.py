"""The account of a sweep, one run for several budgets: its ``result.json``, and what its page is drawn from."""

from pydantic import Field

from autocompress.budget import BudgetRow
from autocompress.facts import Facts
from autocompress.measurement import ModelFacts
from autocompress.result import FrontPoint, Status
from autocompress.target import Machine, Target

SCHEMA = 1


class SweepRow(Facts):
    """How the run for one budget ended; its own account is ``result.json`` in its folder."""

    budget: str = Field(description="as it was given")
    folder: str = Field(description="relative to the sweep's")
    status: Status
    verdict: str = Field(description="one sentence")
    rows: tuple[BudgetRow, ...]
    best: ModelFacts | None = Field(description="its artifact is relative to the sweep's folder")
    pareto: tuple[FrontPoint, ...] = Field((), description="the run's other models; names are folders in the sweep's")
    nearest_budget: str | None = Field(None, description="where the budget is not met, the closest one that is")
    seconds: float = Field(description="of this budget alone")


class Sweep(Facts):
    """One model under several budgets, in the order in which they were given."""

    schema_version: int = Field(SCHEMA, ge=1, le=SCHEMA)
    status: Status = Field(description="met if every budget is")
    verdict: str = Field(description="one sentence")
    budgets: tuple[SweepRow, ...] = Field(min_length=1)
    baseline: ModelFacts
    model: str
    data: str
    metric_name: str = "accuracy"
    samples: dict[str, int] = Field(description="number of samples of each split")
    target: Target
    machine: Machine
    seconds: float = Field(description="in all")
    stage_seconds: dict[str, float] = Field(description="of what was done once for all budgets")
    seed: int
    versions: dict[str, str]
