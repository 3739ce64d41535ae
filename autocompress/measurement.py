"""Numbers that were measured, counted or evaluated, each with its spread and what it is of."""

from pydantic import Field

from autocompress.facts import Facts

Interval = tuple[float, float]


class Latency(Facts):
    """Milliseconds of one inference, measured in the runtime.

    ``median_ms`` is the median over rounds of the round's median; ``interval_ms`` its 95 % bootstrap interval over
    rounds; ``p95_ms`` the 95th percentile of single inferences in the kept rounds. ``noisy`` says that the interval is
    wider than the protocol accepts (3 % to either side), or that the machine was disturbed in most rounds. ``unrest``
    says whether other guests of the machine took its caches or half of its core: up to 1 they did not.
    ``share_interval`` is, where asked for, the 95 % interval of its time as a share of the time of the file that was
    measured first, round by round: a machine that gets slower for both leaves it alone.
    """

    median_ms: float = Field(gt=0)
    p95_ms: float = Field(gt=0)
    interval_ms: Interval
    share_interval: Interval | None = None
    rounds: int = Field(ge=1)
    rejected_rounds: int = Field(0, ge=0)
    runs: int = Field(ge=1)
    load_ms: float = Field(ge=0, description="time to create the session, measured")
    threads: int = Field(ge=1)
    noisy: bool = False
    unrest: float = Field(0.0, ge=0)


class Accuracy(Facts):
    """The task's metric of one file on one whole split, evaluated in the runtime.

    ``interval`` is the 95 % interval: Wilson for top-1 accuracy, bootstrap over samples for any other metric.
    """

    value: float
    interval: Interval
    samples: int = Field(ge=1)


class ModelFacts(Facts):
    """Everything known of one exported file; ``None`` is a thing not measured (yet).

    Latency and RAM are measured, size, MACs and parameters counted, accuracies evaluated on the file in the runtime.
    What is predicted of the latency says so in its name.
    """

    accuracy_val: float | None = None
    accuracy_val_interval: Interval | None = None
    accuracy_test: float | None = None
    accuracy_test_interval: Interval | None = None
    latency_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_interval_ms: Interval | None = None
    latency_share_interval: Interval | None = Field(
        None, description="95 %, as a share of the original's, by rounds in which both were measured"
    )
    latency_predicted_ms: float | None = None
    latency_predicted_interval_ms: Interval | None = Field(None, description="holds the measured one nine times in ten")
    size_bytes: int
    peak_ram_bytes: int | None = None
    macs: int
    params: int
    artifact: str | None = Field(None, description="path of the file, relative to the run's folder")

    def with_prediction(self, ms: float, interval_ms: Interval) -> "ModelFacts":
        """A copy with the predicted latency filled in."""
        return self.model_copy(update={"latency_predicted_ms": ms, "latency_predicted_interval_ms": interval_ms})

    def with_latency(self, latency: Latency) -> "ModelFacts":
        """A copy with the latency fields filled."""
        return self.model_copy(
            update={
                "latency_ms": latency.median_ms,
                "latency_p95_ms": latency.p95_ms,
                "latency_interval_ms": latency.interval_ms,
                "latency_share_interval": latency.share_interval,
            }
        )
