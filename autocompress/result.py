"""The account of one run: ``result.json``, and what the report is drawn from."""

from enum import StrEnum

from pydantic import Field

from autocompress.budget import BudgetRow, Metric
from autocompress.facts import Facts
from autocompress.measurement import ModelFacts
from autocompress.recipe import Recipe
from autocompress.target import Machine, Target
from autocompress.task import Preprocess

SCHEMA = 1
SCORED_SAMPLES = 3000  # of a trial, at most: its accuracy is then known to about a point, and judging stays cheap


class Status(StrEnum):
    """How a run ended."""

    MET = "met"
    INFEASIBLE = "infeasible"


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"  # known to break the budget before any training, or behind others at an early rung
    FAILED = "failed"


class TrialKind(StrEnum):
    """Why a trial was run."""

    SEARCH = "search"
    CONTROL = "control"
    FINALIST = "finalist"  # recovered in full, or as tried where there was no time for that


class TrialRecord(Facts):
    """One candidate: what it was, what it cost, how good it came out.

    Its costs are counted on its file, its latency is measured or predicted there.
    """

    number: int = Field(ge=0)
    kind: TrialKind
    state: TrialState
    summary: str = Field(description="the recipe in a few words")
    recipe: Recipe
    facts: ModelFacts | None = None
    forecast_ms: float | None = Field(None, description="predicted, where that ruled it out before it was built")
    within_budget: bool | None = Field(None, description="whether every cost limit is met")
    seconds: float = Field(0.0, ge=0, description="of work on this trial, all stages")
    rung: int | None = Field(None, ge=1, description="the last rung that was trained; its accuracy is that of facts")
    steps: int | None = Field(None, ge=0, description="of recovery that were taken")
    step_s: float | None = Field(
        None, ge=0, description="seconds of one step, after the first; of the last rung that has several"
    )
    control: str | None = Field(None, description="name of the control, for controls")
    picks: tuple[int, ...] | None = Field(None, description="place of each unit's choice, where units were chosen for")
    parameters: dict[str, float | str] | None = Field(None, description="of the study, that led to the picks")
    notes: tuple[str, ...] = Field((), description="what passes skipped and why")
    error: str | None = Field(None, description="traceback, for failed trials")

    @property
    def is_behind(self) -> bool:
        """Whether its recovery ended early, as others were better by then."""
        return self.state is TrialState.PRUNED and self.rung is not None


class LayerRow(Facts):
    """What was done to one layer."""

    layer: str
    before: str = Field(description="kind and shape, e.g. Conv2d 64→128 3×3")
    after: str
    precision: str = Field(description="weights/activations in the file, e.g. int8/uint8")
    params_before: int
    params_after: int
    note: str = ""


class FrontPoint(Facts):
    """A non-dominated model that was exported and measured."""

    name: str
    summary: str
    facts: ModelFacts
    note: str = Field("", description="what was not done to it that was done to the returned one")


class ControlRow(Facts):
    """A simple alternative that ran under the same rules; ``facts`` is None when it could not be made."""

    name: str
    facts: ModelFacts | None
    met: bool | None = Field(description="whether it meets the whole budget; accuracy rows on the validation split")
    note: str = ""


class AttributionRow(Facts):
    """What one technique brought.

    Accuracies are measured: on the validation split, of the best trial within the budget that used it and of the best
    one that did not, each after the short recovery of trials. Losses are estimated: of the sensitivity table's own
    allocation of the budget, in nats per sample before any recovery, set right by the trials.
    """

    technique: str = Field(description="a pass, or few_bits: integers of less than eight")
    accuracy_with: float | None
    accuracy_without: float | None
    cost_with: float | None = Field(
        None, description="of the same trials, where accuracy is a floor: what is minimized"
    )
    cost_without: float | None = None
    trials_with: int = Field(0, ge=0, description="trials within the budget that came to their end")
    trials_without: int = Field(0, ge=0)
    table_loss: float | None = Field(None, description="with every technique")
    table_loss_without: float | None = Field(None, description="without this one; None: see the note")
    note: str = ""


class Diagnosis(Facts):
    """Why no model meets the budget, and what could be had instead."""

    binding: tuple[Metric, ...] = Field(description="the limits that the nearest candidate misses, worst first")
    reachable: dict[Metric, float] = Field(description="best value of each metric over all candidates, in its unit")
    nearest_budget: str = Field(description="the closest that a candidate meets; says no accuracy where none is known")
    message: str
    estimated: dict[Metric, float] = Field(
        default_factory=dict, description="least value of each cost alone, by calculation, over all choices of parts"
    )
    estimated_together: dict[Metric, float] = Field(
        default_factory=dict, description="costs of the one selection that comes nearest to all limits, by calculation"
    )


class TrialCounts(Facts):
    """How many trials ended how."""

    total: int = 0
    complete: int = 0
    pruned: int = 0
    failed: int = 0


class Result(Facts):
    """Everything a run found. ``budget`` holds the rows of ``best``, on the test split where accuracy is concerned."""

    schema_version: int = Field(SCHEMA, ge=1, le=SCHEMA)
    status: Status
    verdict: str = Field(description="one sentence")
    asked: str = Field(description="the budget as it was given")
    budget: tuple[BudgetRow, ...]
    baseline: ModelFacts
    best: ModelFacts | None
    recipe: Recipe | None
    layers: tuple[LayerRow, ...] = ()
    controls: tuple[ControlRow, ...] = ()
    attribution: tuple[AttributionRow, ...] = ()
    pareto: tuple[FrontPoint, ...] = ()
    trials: TrialCounts
    trial_log: tuple[TrialRecord, ...] = ()
    diagnosis: Diagnosis | None = None
    model: str
    data: str
    metric_name: str = "accuracy"
    samples: dict[str, int] = Field(description="number of samples of each split")
    input: Preprocess
    target: Target
    machine: Machine
    notes: tuple[str, ...] = Field((), description="what was decided on the user's behalf, skipped, or went wrong")
    seconds: float
    stage_seconds: dict[str, float] = Field(default_factory=dict)
    seed: int
    versions: dict[str, str]
