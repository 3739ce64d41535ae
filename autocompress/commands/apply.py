"""One recipe carried out, without a search."""

import time
from dataclasses import replace
from pathlib import Path

from pydantic import Field
from torch import nn

from autocompress.budget import Budget
from autocompress.clock import Clock
from autocompress.commands.baseline import ensure_trained, measure_pace, measured_baseline
from autocompress.commands.certify import certificate_of
from autocompress.commands.config import RunConfig
from autocompress.commands.folder import BASELINE, BEST, check_folder, open_folder
from autocompress.commands.prepare import Prepared, prepare
from autocompress.commands.survey import look
from autocompress.delivery.bundle import write_bundle
from autocompress.errors import RecipeError
from autocompress.events import Observer
from autocompress.facts import Facts, write_whole
from autocompress.measurement import ModelFacts
from autocompress.models.config import weights_digest
from autocompress.passes.compose import compose, read_passes
from autocompress.recipe import Base, Recipe
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import training_losses
from autocompress.search.costing import measure_files, measure_ram
from autocompress.task import Task
from autocompress.trial import Bench, accuracy_of, export_base, finalist_of, pass_context, run_trial

TRIED_SAMPLES = 2  # BatchNorm in training mode needs more than one


class Applied(Facts):
    """What a recipe made of a model. Accuracies are of the exported files."""

    folder: str
    recipe: Recipe
    baseline: ModelFacts
    facts: ModelFacts
    changed: dict[str, str]
    skipped: dict[str, str]
    seconds: float = Field(description="of recovery, export and judging")


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a YAML file, its passes checked.

    Raises:
        RecipeError: no such file, or not a recipe.
    """
    file = Path(path)
    if not file.is_file():
        raise RecipeError(f"a recipe is a YAML file; there is no {file}")
    recipe = Recipe.from_yaml(file.read_text())
    read_passes(recipe)
    return recipe


def apply(
    recipe: Recipe,
    config: RunConfig,
    out: Path,
    *,
    observer: Observer,
    overwrite: bool = False,
    model: nn.Module | None = None,
    task: Task | None = None,
) -> Applied:
    """Compress one model exactly as ``recipe`` says; the bundle ends in ``out/best``.

    The same recipe on the same weights, machine, package versions and seed gives the same file, byte for byte.

    Raises:
        InputError: recipe, model or data cannot be used; nothing has been written then.
    """
    check_folder(out, config, resume=False, overwrite=overwrite)
    read_passes(recipe)
    prepared = prepare(config, observer, model=model, task=task)
    bench, _ = look(prepared, observer, {step.name for step in recipe.passes})
    try_recipe(recipe, bench)
    weights_bytes = 4 * sum(parameter.numel() for parameter in prepared.model.parameters())
    open_folder(out, config, weights_bytes, overwrite=overwrite)
    _train_base(prepared, out, observer)
    file = export_base(bench)
    baseline = measured_baseline(file, bench, accuracy=True)
    write_whole(out / BASELINE / "model.onnx", file)
    digest = weights_digest(prepared.model)
    if recipe.base is not None and recipe.base.sha256 not in ("", digest):
        observer.note("the recipe was made for other weights of this model; the file will differ from the original's")
    recipe = recipe.model_copy(update={"base": Base(model=config.model, sha256=digest)})
    started = time.monotonic()
    observer.stage("apply", f"{recipe.recovery.steps} recovery steps")
    made = run_trial(bench, recipe, threads=prepared.machine.cores)
    product = finalist_of(made, bench)
    seconds = time.monotonic() - started
    observer.stage("measure", "the file beside the baseline")
    before, latencies = measure_files(file, {0: made.file}, config.target, rounds=12, window_ms=60.0)
    facts = made.facts.with_latency(latencies[0])
    test = accuracy_of(made.file, prepared.task, "test", threads=prepared.machine.cores)
    facts = facts.model_copy(
        update={
            "peak_ram_bytes": measure_ram(made.file, config.target),
            "accuracy_test": test.value,
            "accuracy_test_interval": test.interval,
            "artifact": f"{BEST}/model.onnx",
        }
    )
    baseline = _with_test(baseline.with_latency(before), file, prepared)
    rows = Budget.parse(config.budget).rows(facts, baseline, "test") if config.budget else ()
    certificate = certificate_of(
        prepared, made.file, recipe, facts=facts, baseline=baseline, rows=rows, latency=latencies[0]
    )
    assert product.portable is not None
    write_bundle(out / BEST, made.file, product.portable, recipe, certificate)
    return Applied(
        folder=str(out / BEST),
        recipe=recipe,
        baseline=baseline,
        facts=facts,
        changed=made.composed.changed,
        skipped=made.composed.skipped,
        seconds=seconds,
    )


def try_recipe(recipe: Recipe, bench: Bench) -> None:
    """Apply the passes once to the network as it is, trained or not: what cannot be is found before any work.

    Cost: one forward pass or so per pass; criteria that rank by gradients do so on two samples.

    Raises:
        RecipeError: the recipe does not fit the network.
    """
    stream = SampleStream(bench.task, bench.stream_seed)
    context = replace(
        pass_context(bench, recipe.seed),
        losses=lambda model: training_losses(model, stream, batches=1, batch=TRIED_SAMPLES),
        shapes_only=True,
    )
    compose(bench.base, recipe, context)


def _train_base(prepared: Prepared, out: Path, observer: Observer) -> None:
    stream = SampleStream(prepared.task, prepared.config.seed)
    pace = measure_pace(prepared.model, stream, prepared.machine.cores)
    ensure_trained(prepared, stream, pace, Clock(prepared.config.time_s), folder=out / BASELINE, observer=observer)


def _with_test(facts: ModelFacts, file: bytes, prepared: Prepared) -> ModelFacts:
    test = accuracy_of(file, prepared.task, "test", threads=prepared.machine.cores)
    return facts.model_copy(update={"accuracy_test": test.value, "accuracy_test_interval": test.interval})
