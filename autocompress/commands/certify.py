"""The certificate of one file of a run."""

from autocompress.budget import BudgetRow
from autocompress.clock import now
from autocompress.commands.prepare import Prepared
from autocompress.delivery.certificate import Certificate, OutputFacts, identity_of, input_facts
from autocompress.export.onnx_file import INPUT_NAME, OUTPUT_NAME
from autocompress.hardware.machine import package_versions
from autocompress.measurement import Accuracy, Latency, ModelFacts
from autocompress.recipe import Recipe
from autocompress.trial import more_metrics_of

FILE = "model.onnx"


def certificate_of(
    prepared: Prepared,
    file: bytes,
    recipe: Recipe,
    *,
    facts: ModelFacts,
    baseline: ModelFacts,
    rows: tuple[BudgetRow, ...],
    latency: Latency,
) -> Certificate:
    """The certificate of one file of this run; more metrics only where its test accuracy has been read."""
    task, config = prepared.task, prepared.config
    tested = None
    if facts.accuracy_test is not None:
        tested = _accuracy(facts.accuracy_test, facts.accuracy_test_interval, len(task.test))
    meaning = {} if task.loss is None else {"meaning": f"as {task.name} defines it"}
    return Certificate(
        met=all(row.met for row in rows),
        budget=rows,
        file=identity_of(FILE, file),
        facts=facts,
        baseline=baseline,
        latency=latency,
        metric_name=task.metric_name,
        accuracy_val=_accuracy(facts.accuracy_val, facts.accuracy_val_interval, len(task.val)),
        accuracy_test=tested,
        more_metrics=more_metrics_of(file, task, prepared.machine.cores) if tested else {},
        input=input_facts(task.preprocess, INPUT_NAME, config.target.batch),
        output=OutputFacts(name=OUTPUT_NAME, class_names=task.class_names, **meaning),
        data=config.data,
        target=config.target,
        machine=prepared.machine,
        versions=package_versions(),
        recipe_digest=recipe.digest(),
        measured_at=now(),
    )


def _accuracy(value: float | None, interval: tuple[float, float] | None, samples: int) -> Accuracy:
    assert value is not None
    assert interval is not None
    return Accuracy(value=value, interval=interval, samples=samples)
