"""What a hunt for candidates found, as ``candidates.json`` holds it."""

from pydantic import ConfigDict, Field

from autocompress.budget import BudgetRow, Metric
from autocompress.facts import Facts
from autocompress.measurement import ModelFacts
from autocompress.search.candidates.scores import Scores
from autocompress.students.family import Architecture
from autocompress.target import Machine, Target

EVIDENCE = (
    "Evidence is a rank among the exported architectures that seem to fit the budget: the mean over parameters, MACs, "
    "NASWOT and SynFlow of the share of them that each score lies above. It is not an accuracy: scores without "
    "training order networks roughly, and none is reliably better than counting parameters; --data trains the best "
    "for a while instead"
)


class Candidate(Facts):
    """One architecture with its file. ``rank`` 1 is the best: by accuracy where it was raced, else by evidence.

    ``facts`` hold what was measured and counted on ``folder/model.onnx``, which is untrained, what was predicted of it
    just before it was measured, and after a race the accuracy of its trained twin. ``profile_ms`` is what the machine's
    profile said at first, before files of this run corrected it; ``corrects`` marks those that this began with.
    """

    rank: int = Field(ge=1)
    name: str
    folder: str = Field(description="relative to candidates.json")
    architecture: Architecture
    evidence: float = Field(ge=0, le=1)
    scores: Scores
    facts: ModelFacts
    profile_ms: float | None = None
    corrects: bool = False
    noisy: bool = Field(False, description="its measurement was disturbed")
    race_steps: int | None = Field(None, description="training steps behind the accuracy")
    rows: tuple[BudgetRow, ...] = ()


class Closeness(Facts):
    """How near to the measured latency predictions lay, over ``files`` of them."""

    files: int
    within_a_tenth: int
    median_error: float = Field(description="relative, of the absolute differences")


class Candidates(Facts):
    """Architectures for one budget, the best first; none where nothing in the space meets it, ``message`` says why.

    ``predicted`` judges what was said just before of all files that were measured, delivered or not, but for those that
    corrections began with; ``profiled`` what the profile alone said of all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(1, alias="schema", ge=1, le=1)
    space: str
    families: tuple[str, ...]
    asked: str
    wanted: int
    message: str
    least: dict[Metric, float] = Field(default_factory=dict, description="the least of each limited cost that was seen")
    axis: Metric = Field(description="the cost that they are spread over")
    input_shape: tuple[int, ...]
    n_outputs: int
    data: str | None = None
    metric_name: str = "accuracy"
    drawn: int
    exported: int
    evidence: str = EVIDENCE
    candidates: tuple[Candidate, ...]
    predicted: Closeness | None = None
    profiled: Closeness | None = None
    notes: tuple[str, ...] = ()
    target: Target
    machine: Machine
    seed: int
    seconds: float
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def meets(self) -> int:
        """How many keep every limit."""
        return sum(all(row.met for row in each.rows) for each in self.candidates)


def closeness(pairs: list[tuple[float, float]]) -> Closeness | None:
    """From predicted and measured values; None of none."""
    if not pairs:
        return None
    off = sorted(abs(predicted / measured - 1) for predicted, measured in pairs)
    return Closeness(
        files=len(off), within_a_tenth=sum(each <= 0.1 for each in off), median_error=off[(len(off) - 1) // 2]
    )
