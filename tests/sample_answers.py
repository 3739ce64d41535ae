"""What plan, measure, verify, apply, doctor and techniques find, as real commands leave it."""

from sample_result import ASKED, machine, sample_recipe, sample_result

from autocompress.budget import Metric
from autocompress.commands.apply import Applied
from autocompress.commands.doctor import Check, Diagnosis
from autocompress.commands.measure import FileCost
from autocompress.commands.plan import Plan, Reach
from autocompress.commands.technique_costs import LayerCost, Saving, TechniqueCosts
from autocompress.commands.verify import Verification
from autocompress.hardware.kept import circumstances_of
from autocompress.hardware.machine import this_machine
from autocompress.measurement import Accuracy, Latency
from autocompress.result import Status
from autocompress.target import ActivationType, Target


def sample_plan(*, feasible: bool = True) -> Plan:
    result = sample_result()
    return Plan(
        model="resnet18",
        data="digits",
        asked=ASKED[Status.MET],
        feasible=feasible,
        baseline=result.baseline,
        reach=(Reach(metric=Metric.LATENCY, baseline=2.9, least=0.41, least_by="−85% channels · int8"),),
        rows=result.budget[:2],
        binding=() if feasible else (Metric.LATENCY,),
        message="some uniform recipe meets every cost limit" if feasible else "latency<=50% binds",
        dropped={"channels of fc": "its channels are the model's output"},
        needs_training=True,
        steps_per_s=12.5,
        stage_estimate_s={"plan": 10.0, "search": 300.0},
    )


def sample_latency(*, noisy: bool = False, unrest: float = 0.0) -> Latency:
    return Latency(
        median_ms=1.262,
        p95_ms=1.4,
        interval_ms=(1.25, 1.28),
        rounds=12,
        runs=400,
        load_ms=9,
        threads=1,
        noisy=noisy,
        unrest=unrest,
    )


def sample_cost(*, noisy: bool = False, unrest: float = 0.0) -> FileCost:
    return FileCost(
        file="runs/x/best/model.onnx",
        latency=sample_latency(noisy=noisy, unrest=unrest),
        size_bytes=231_904,
        peak_ram_bytes=9_600_000,
        macs=14_000_000,
        params=142_090,
        target=Target(),
        machine=machine(),
    )


def sample_verification(*, met: bool = True, same_file: bool = True) -> Verification:
    result = sample_result()
    assert result.best is not None
    rows = tuple(row.model_copy(update={"met": met}) for row in result.budget)
    return Verification(
        folder="runs/x/best",
        met=met,
        same_file=same_file,
        budget=rows,
        certified=result.best,
        latency=sample_latency(),
        size_bytes=231_904,
        peak_ram_bytes=9_600_000,
        accuracy_test=Accuracy(value=0.9722, interval=(0.95, 0.98), samples=360),
        notes=("certified on another processor",),
    )


def sample_applied() -> Applied:
    result = sample_result()
    assert result.best is not None
    return Applied(
        folder="runs/x/best",
        recipe=sample_recipe(),
        baseline=result.baseline,
        facts=result.best,
        changed={"layer1.0.conv1": "16 of 64 channels go"},
        skipped={"fc": "its channels are the model's output"},
        seconds=12.0,
    )


def sample_health(*, healthy: bool = True) -> Diagnosis:
    return Diagnosis(
        healthy=healthy,
        checks=(
            Check(name="timing", works=healthy, detail="the same file measured as two differs by 0.4% [noise]"),
            Check(name="optional: dashboard", works=False, detail="pip install 'autocompress[dashboard]'"),
        ),
        machine=machine(),
        versions={"torch": "2.14.1"},
    )


def sample_costs(threads: int = 1) -> TechniqueCosts:
    """As if int8 static made the linear layers 4× as fast and small, and channels could not go."""
    linear = {"layer": "linear"}
    return TechniqueCosts(
        circumstances=circumstances_of(this_machine(), threads),
        measured_at="2026-01-02T03:04:05+00:00",
        layers=(
            LayerCost(
                name="linear", detail="two layers", latency_ms=0.14, size_bytes=1000, floor_ratio=0.012, noisy=True
            ),
        ),
        savings=(
            Saving(technique="quantize", setting="int8 static", latency_ratio=0.26, size_ratio=0.25, **linear),
            Saving(technique="prune_channels", setting="half", reason="they are outputs", **linear),
        ),
        int8_activations=ActivationType.U8,
        versions={},
        seconds=41.0,
    )
