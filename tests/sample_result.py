"""A result as a real run leaves it: 30 trials, 4 controls, 20 layers, one failed trial."""

import math
import random
from typing import Any

from autocompress.budget import Budget, Metric
from autocompress.hardware.machine import this_machine
from autocompress.measurement import ModelFacts
from autocompress.recipe import Base, PassStep, Recipe, Recovery
from autocompress.result import (
    ControlRow,
    Diagnosis,
    FrontPoint,
    LayerRow,
    Result,
    Status,
    TrialCounts,
    TrialKind,
    TrialRecord,
    TrialState,
)
from autocompress.target import ActivationType, Machine, Target
from autocompress.task import Layout, Preprocess

ASKED = {
    Status.MET: "latency<=50%,size<=300kB,accuracy_drop<=1%",
    Status.INFEASIBLE: "latency<=0.3ms,size<=40kB,accuracy>=0.98",
}
SAMPLES = {"train": 1149, "val": 288, "test": 360}
TRACEBACK = """Traceback (most recent call last):
  File "autocompress/trial.py", line 84, in run
    model = apply(recipe, base)
  File "autocompress/passes/prune_channels.py", line 131, in apply
    raise RecipeError(message)
autocompress.errors.RecipeError: prune_channels.ratio must lie in [0, 0.95], got 0.97 for layer4.1.conv1; lower it
"""


def sample_result(status: Status = Status.MET, **changes: Any) -> Result:
    """A whole result; ``changes`` replace fields of it."""
    status = Status(status)
    baseline = _facts((0.9792, 0.9750), 2.913, 1_118_270, 280_186, "baseline/model.onnx")
    best = _facts((0.9757, 0.9722), 1.262, 231_904, 142_090, "best/model.onnx") if status is Status.MET else None
    asked = ASKED[status]
    log = trial_log()
    rows = Budget.parse(asked).rows(best or log[11].facts or baseline, baseline, "test")
    if best is None:
        rows = tuple(
            row.model_copy(update={"value": None, "met": None}) if not row.metric.is_cost else row for row in rows
        )
    result = Result(
        status=status,
        verdict=VERDICTS[status],
        asked=asked,
        budget=rows,
        baseline=baseline,
        best=best,
        recipe=sample_recipe() if best else None,
        layers=layer_rows() if best else (),
        controls=control_rows(baseline),
        pareto=tuple(
            FrontPoint(name=f"pareto/{i:02d}", summary=t.summary, facts=t.facts)
            for i, t in enumerate(t for t in log if t.kind is TrialKind.FINALIST)
            if t.facts
        ),
        trials=TrialCounts(total=len(log), complete=len(log) - 5, pruned=4, failed=1),
        trial_log=log,
        diagnosis=None if best else diagnosis(),
        model="resnet18 (width 0.25)",
        data="digits",
        samples=SAMPLES,
        input=image_input(),
        target=Target(),
        machine=machine(),
        notes=(
            "the test split was cut from train: 360 of 1,797 samples, stratified, seed 0",
            "fc stays fp32: int8 is slower for it on this machine (0.011 ms against 0.009 ms)",
            "Trained the baseline first: 40 epochs, no checkpoint was given",
        ),
        seconds=512.4,
        stage_seconds={"baseline": 61.0, "sensitivity": 48.2, "search": 301.5, "finish": 88.0, "certify": 13.7},
        seed=0,
        versions={
            "autocompress": "0.1.0",
            "torch": "2.14.1",
            "onnxruntime": "1.31.0",
            "onnx": "1.23.0",
            "optuna": "5.0.0",
        },
    )
    return Result.model_validate(result.model_dump() | changes)


VERDICTS = {
    Status.MET: "2.3× faster and 4.8× smaller at 0.9722 test accuracy: every limit is met.",
    Status.INFEASIBLE: "No candidate meets latency≤0.3 ms and size≤40 kB together with accuracy≥0.98.",
}


def bare_infeasible() -> Result:
    """What is left when the budget is known to be out of reach before any training."""
    baseline = ModelFacts(size_bytes=46_800_000, macs=1_820_000_000, params=11_689_512, latency_ms=21.4)
    rows = Budget.parse("latency<=0.01ms,size<=1kB,accuracy>=0.9").rows(baseline, baseline, "test")
    return sample_result(
        Status.INFEASIBLE,
        verdict="No candidate can meet latency<=0.01ms: the smallest one takes 0.8 ms.",
        asked="latency<=0.01ms,size<=1kB,accuracy>=0.9",
        baseline=baseline.model_dump(),
        budget=[row.model_dump() | {"value": None, "met": None} for row in rows],
        controls=(),
        pareto=(),
        trials=TrialCounts().model_dump(),
        trial_log=(),
        notes=(),
        stage_seconds={},
        versions={},
        samples={},
    )


def sample_recipe() -> Recipe:
    return Recipe(
        base=Base(model="resnet18", sha256="5c1f" * 16),
        passes=(
            PassStep(name="prune_channels", settings={"ratios": {"layer1.0.conv1": 0.25}, "criterion": "taylor"}),
            PassStep(name="quantize", settings={"default": {"weights": "int8", "activations": "int8"}}),
        ),
        recovery=Recovery(steps=600),
    )


def image_input() -> Preprocess:
    return Preprocess(layout=Layout.IMAGE, shape=(1, 8, 8), mean=(0.3053,), std=(0.3764,))


def machine() -> Machine:
    return Machine(
        cpu="AMD EPYC 9R14 96-Core Processor",
        architecture="x86_64",
        isa=("avx2", "avx512f", "avx512_vnni"),
        cores=2,
        ram_bytes=8_200_000_000,
        os="Linux 6.1",
        int8_activations=ActivationType.U8,
        reduce_range=this_machine().reduce_range,  # files made for it are run here
        channel_block=16,
    )


def trial_log() -> tuple[TrialRecord, ...]:
    draw = random.Random(7)
    controls = ("original", "uniform int8", "uniform pruning + int8", "random feasible")
    trials = [
        _trial(i, TrialKind.CONTROL, name, values, control=name)
        for i, (name, values) in enumerate(
            zip(
                controls,
                ((0.9792, 2.913, 1118), (0.9757, 1.61, 330), (0.9479, 1.24, 235), (0.9062, 1.31, 262)),
                strict=True,
            )
        )
    ]
    for number in range(4, 22):
        ms = 0.55 + 1.5 * draw.random() ** 1.3
        accuracy = 0.985 - 0.11 * math.exp(-1.9 * (ms - 0.3)) - 0.03 * draw.random() ** 2
        cut, bits = round(100 * (1 - ms / 2.9)), draw.choice((4, 6, 8))
        text = f"channels −{cut} %, {bits}-bit weights from layer2 on, rank 32 fc, 1 block dropped"
        accuracy = 0.3611 if number == 17 else accuracy
        trials.append(_trial(number, TrialKind.SEARCH, text, (accuracy, ms, 90 + 130 * ms * bits / 8)))
    for number, ms in enumerate((0.21, 0.27, 2.4, 3.3), start=22):
        facts = ModelFacts(latency_predicted_ms=ms, size_bytes=int(9e4 * ms), macs=int(6e6 * ms), params=int(5e4 * ms))
        trials.append(
            TrialRecord(
                number=number, kind=TrialKind.SEARCH, state=TrialState.PRUNED, summary="predicted to break the budget",
                recipe=sample_recipe(), facts=facts, within_budget=False,
            )
        )  # fmt: skip
    trials.append(
        TrialRecord(
            number=26, kind=TrialKind.SEARCH, state=TrialState.FAILED, summary="channels −97 %", recipe=sample_recipe(),
            seconds=1.2, error=TRACEBACK,
        )
    )  # fmt: skip
    finals = ((0.9722, 1.05, 205), (0.9757, 1.262, 232), (0.9653, 0.83, 170))
    trials += [
        _trial(27 + i, TrialKind.FINALIST, "channels −38 %, int8, 6-bit layer4", f) for i, f in enumerate(finals)
    ]
    return tuple(trials)


def control_rows(baseline: ModelFacts) -> tuple[ControlRow, ...]:
    log = {trial.control: trial for trial in trial_log() if trial.control}
    return (
        ControlRow(name="original", facts=baseline, met=False, note="latency and size are above their limits"),
        ControlRow(name="uniform int8", facts=log["uniform int8"].facts, met=False, note="size is above its limit"),
        ControlRow(
            name="uniform pruning + int8", facts=log["uniform pruning + int8"].facts, met=False, note="accuracy"
        ),
        ControlRow(name="random feasible", facts=log["random feasible"].facts, met=False),
        ControlRow(name="uniform 4-bit", facts=None, met=None, note="could not be exported: fc has no 4-bit kernel"),
    )


def layer_rows() -> tuple[LayerRow, ...]:
    stem = LayerRow(
        layer="conv1", before="Conv2d 1→16 3×3", after="Conv2d 1→16 3×3", precision="fp32/fp32",
        params_before=144, params_after=144, note="kept in fp32: the first layer is sensitive",
    )  # fmt: skip
    blocks = [
        LayerRow(
            layer=f"layer{stage}.{block}.conv{conv}",
            before=f"Conv2d {8 * 2**stage}→{8 * 2**stage} 3×3",
            after=f"Conv2d {8 * 2**stage - 4 * stage}→{8 * 2**stage} 3×3",
            precision="int8/uint8" if stage < 4 else "6-bit codebook/uint8",
            params_before=9 * 64 * 4**stage,
            params_after=9 * (8 * 2**stage - 4 * stage) * 8 * 2**stage,
        )
        for stage in (1, 2, 3, 4)
        for block in (0, 1)
        for conv in (1, 2)
    ]
    ends = [
        LayerRow(
            layer=name, before="Conv2d 64→128 1×1", after="removed", precision="–", params_before=8192, params_after=0,
            note="block dropped",
        )
        for name in ("layer4.0.downsample.0", "layer4.2.conv1")
    ]  # fmt: skip
    head = LayerRow(
        layer="fc", before="Linear 128→10", after="Linear 128→8→10", precision="fp32/fp32", params_before=1290,
        params_after=1114,
    )  # fmt: skip
    return (stem, *blocks, *ends, head)


def diagnosis() -> Diagnosis:
    return Diagnosis(
        binding=(Metric.SIZE, Metric.LATENCY),
        reachable={Metric.LATENCY: 0.41, Metric.SIZE: 61_300.0, Metric.ACCURACY: 0.9792},
        nearest_budget="latency<=0.83ms,size<=170kB,accuracy>=0.96",
        message="The smallest candidate that still scores 0.96 has 170 kB; 40 kB would need a fifth of its weights.",
    )


def _trial(
    number: int, kind: TrialKind, text: str, values: tuple[float, float, float], *, control: str | None = None
) -> TrialRecord:
    accuracy, ms, kilobytes = values
    size = round(kilobytes * 1000)
    facts = ModelFacts(
        accuracy_val=round(accuracy, 4), latency_ms=ms, size_bytes=size, macs=round(14e6 * ms), params=size // 2
    )
    return TrialRecord(
        number=number, kind=kind, state=TrialState.COMPLETE, summary=text, recipe=sample_recipe(), facts=facts,
        within_budget=ms <= 1.4565 and size <= 300_000, seconds=11.0 + number / 7, control=control,
        notes=("prune_channels skipped layer1.0.conv2: its width is tied to the residual sum",) if number == 9 else (),
    )  # fmt: skip


def _facts(scores: tuple[float, float], ms: float, size: int, params: int, artifact: str) -> ModelFacts:
    val, test = scores
    return ModelFacts(
        accuracy_val=val,
        accuracy_val_interval=(val - 0.021, min(1.0, val + 0.012)),
        accuracy_test=test,
        accuracy_test_interval=(test - 0.022, min(1.0, test + 0.012)),
        latency_ms=ms,
        latency_p95_ms=ms * 1.08,
        latency_interval_ms=(ms * 0.99, ms * 1.012),
        latency_predicted_ms=ms * 1.04,
        size_bytes=size,
        peak_ram_bytes=9_000_000 + 3 * size,
        macs=round(14.2e6 * ms),
        params=params,
        artifact=artifact,
    )
