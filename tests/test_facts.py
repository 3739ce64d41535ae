"""Records and files: whole or not at all, and the same after a round trip."""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest
from made_up_profile import observation
from pydantic import ValidationError
from sample_answers import sample_costs
from sample_result import sample_result

import autocompress
from autocompress.budget import Budget
from autocompress.clock import now
from autocompress.commands.config import RunConfig
from autocompress.delivery.certificate import Certificate, OutputFacts, identity_of, input_facts
from autocompress.facts import Facts, write_whole
from autocompress.graph.blocks import Block
from autocompress.graph.channel_groups import ChannelGroup
from autocompress.hardware.drawn.space import profile_space
from autocompress.hardware.int8_activations import ActivationChoice
from autocompress.hardware.kept import Circumstances
from autocompress.hardware.predictor.card import AccuracyCard
from autocompress.hardware.predictor.energy import EnergyCoefficients
from autocompress.hardware.predictor.figures import Figures
from autocompress.hardware.predictor.kernel_times import ProfilerCost
from autocompress.hardware.predictor.memory import RamCoefficients
from autocompress.hardware.predictor.predictor import Transfer
from autocompress.measurement import Accuracy, Latency
from autocompress.passes import PASSES, DropBlocks, PruneWeights, ShareLayers, ShareWeights, Student
from autocompress.passes.factorize import Factorize, Factors
from autocompress.passes.prune_weights import Sparsity
from autocompress.passes.share_weights import Codebook
from autocompress.precision import FP32, INT8, FilePlan
from autocompress.result import AttributionRow, Status, TrialRecord
from autocompress.search.allocation.choices import Choice
from autocompress.search.allocation.layer_times import FileTimes
from autocompress.search.allocation.table import SensitivityTable
from autocompress.search.candidate import Reached
from autocompress.search.candidates.facts import Closeness
from autocompress.search.candidates.scores import Scores
from autocompress.search.finalist import KeptRecord, LayersOfFile
from autocompress.search.space import load_space
from autocompress.students.architecture_file import ArchitectureFile
from autocompress.students.family import load_family, smallest
from autocompress.sweep import Sweep, SweepRow
from autocompress.target import ActivationType, Target

RESULT = sample_result(Status.MET)
LATENCY = Latency(
    median_ms=1.1, p95_ms=1.2, interval_ms=(1.0, 1.15), rounds=5, rejected_rounds=1, runs=99, load_ms=3.5, threads=2
)
ACCURACY = Accuracy(value=0.9, interval=(0.85, 0.93), samples=100)
PLAN = FilePlan(default=INT8, layers={"head": FP32})
CERTIFICATE = Certificate(
    met=True,
    budget=RESULT.budget,
    file=identity_of("model.onnx", b"bytes"),
    facts=RESULT.best,
    baseline=RESULT.baseline,
    latency=LATENCY,
    metric_name="accuracy",
    accuracy_val=ACCURACY,
    accuracy_test=None,
    more_metrics={"balanced_accuracy": 0.88},
    input=input_facts(RESULT.input, "input", 1),
    output=OutputFacts(name="output", class_names=("a", "b")),
    data="digits",
    target=Target(threads=4, batch=8),
    machine=RESULT.machine,
    versions={"torch": "2"},
    recipe_digest=RESULT.recipe.digest(),
    measured_at=now(),
)
FIGURES = Figures(
    files=3, mape=0.1, within_5=0.3, within_10=0.6, bias=-0.1, spearman=0.9, coverage=0.9, width=0.2, fastest_ms=0.1,
    slowest_ms=9.0,
)  # fmt: skip
SAMPLES: list[Facts] = [
    RESULT,
    sample_result(Status.INFEASIBLE),
    *RESULT.trial_log[:12],
    Budget.parse("latency<=5ms,size<=50%,accuracy_drop<=1%"),
    CERTIFICATE,
    PLAN,
    KeptRecord(
        record=RESULT.trial_log[0],
        layers={"a": "rank 3"},
        layer_params={"a": 7},
        stored={"a": "int8"},
        changed={"a": "b"},
    ),
    LayersOfFile(layers={"a": "rank 3"}, layer_params={"a": 7}, stored={"a": "int8"}, changed={"a": "b"}),
    RunConfig(model="m", data="d", budget="size<=50%", trials=3, techniques=("quantize",), input=RESULT.input),
    load_space("default"),
    load_space("everything"),
    ChannelGroup(name="a", width=8, chunks=2, outs=("a", "b"), ins=("c",), feeds={"c": 4}, reason="none"),
    Block(name="a", params=3, reason="none"),
    sample_costs(),
    ActivationChoice(
        circumstances=Circumstances(cpu="a", isa=("b",), onnxruntime="1.31.1"),
        measured_at=now(),
        chosen=ActivationType.S8,
        usual=ActivationType.U8,
        uint8_ms=0.2,
        int8_ms=0.1,
        floor_ratio=0.01,
        conclusive=True,
        reason="2.00× the speed",
    ),
    Factorize(layers={"a": Factors(rank=3)}),
    DropBlocks(blocks=("a",)),
    ShareLayers(groups=(("a", "b"), ("c", "d"))),
    PruneWeights(layers={"a": Sparsity(sparsity=0.5), "b": Sparsity(pattern="2:4")}),
    ShareWeights(layers={"a": Codebook(bits=3, groups=2)}),
    observation(3),
    profile_space(),
    FIGURES,
    AccuracyCard(
        judged_at=now(),
        files=3,
        folds=4,
        all=FIGURES,
        by_family={"plain": FIGURES},
        by_precision={},
        baselines={"flops": FIGURES},
        a_a_floor=0.01,
    ),
    EnergyCoefficients(),
    RamCoefficients(),
    ProfilerCost(call_us=5.0, kernel_us=2.0, input_us=0.1),
    Transfer(curve=(0.3, 0.0, -0.6), kinds={"move": 0.1}),
    SensitivityTable(
        units=("a",),
        choices=((Choice(), Choice(prune=0.5, codebook=4)),),
        loss=((0.0, 0.2),),
        measured=((True, False),),
        notes=("one of two",),
    ),
    Reached(rung=1, steps=9, recipe="0123", facts=RESULT.baseline, notes=("a: b: c",), work_s=1.5),
    FileTimes(weighted_ms=(0.1, 0.2), around_ms=(0.0, 0.1), beside_ms=0.05),
    Closeness(files=3, within_a_tenth=2, median_error=0.04),
    Scores(params=10, macs=100, naswot=1.5, synflow=-2.0),
    load_family("mlp"),
    smallest(load_family("mlp")),
    ArchitectureFile(architecture=smallest(load_family("mlp")), shape=(4,), n_outputs=2, seed=1),
    Student(family="mlp", values=smallest(load_family("mlp")).values),
    AttributionRow(
        technique="quantize",
        trials_with=3,
        trials_without=0,
        accuracy_with=0.9,
        accuracy_without=None,
        table_loss=0.1,
        table_loss_without=None,
    ),
    Sweep(
        status=Status.MET,
        verdict="1 of 1 is met",
        budgets=(
            SweepRow(
                budget="size<=50%",
                folder="01",
                status=Status.MET,
                verdict="met",
                rows=RESULT.budget,
                best=RESULT.best,
                seconds=3.0,
            ),
        ),
        baseline=RESULT.baseline,
        model="m",
        data="d",
        metric_name="accuracy",
        samples=RESULT.samples,
        target=RESULT.target,
        machine=RESULT.machine,
        seconds=4.0,
        stage_seconds={"search": 3.0},
        seed=0,
        versions={},
    ),
]
# Answers of commands and what they are made of: printed as JSON, never read back.
ONLY_SHOWN = {
    "Applied",
    "Candidate",
    "Candidates",
    "Check",
    "CountedFamily",
    "CountedSpace",
    "Diagnosis",
    "FileCost",
    "FileFacts",
    "FilePrediction",
    "KernelRow",
    "KitSummary",
    "Plan",
    "PredictedKernel",
    "Prediction",
    "ProfileSummary",
    "RamFeatures",
    "RamPrediction",
    "Reach",
    "Request",
    "Spaces",
    "Technique",
    "TechniqueTable",
    "Verification",
    "Work",
}
# Read from files and arguments by tests of their own.
TESTED_ELSEWHERE = {"ModelSource", "Pass", "ProfileFacts", "PruneChannels", "Quantize", "Record"}


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_is_the_same_after_json_and_yaml(record):
    kind = type(record)
    assert kind.from_json(record.to_json()) == record
    assert kind.from_yaml(record.to_yaml()) == record
    assert kind.from_json(record.to_json()).digest() == record.digest()


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_is_frozen_and_refuses_what_it_does_not_know(record):
    with pytest.raises(ValidationError, match="Instance is frozen"):
        setattr(record, next(iter(type(record).model_fields)), None)
    if not isinstance(record, Budget):  # whose keywords are metrics
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            type(record).model_validate({"nonsense": 1})


def every_kind_of_record() -> set[type[Facts]]:
    for module in pkgutil.walk_packages(autocompress.__path__, "autocompress."):
        if not module.name.startswith(("autocompress.cli", "autocompress.delivery.report_snippet")):
            importlib.import_module(module.name)
    found: set[type[Facts]] = set()
    queue: list[type[Facts]] = [Facts]
    while queue:
        kinds = [kind for kind in queue.pop().__subclasses__() if kind.__module__.startswith("autocompress.")]
        found.update(kinds)
        queue += kinds
    return found


def kinds_within(value: object) -> set[type]:
    if isinstance(value, Facts):
        return {type(value)}.union(*(kinds_within(getattr(value, name)) for name in type(value).model_fields))
    if isinstance(value, dict):
        return set().union(*(kinds_within(item) for item in value.values()))
    return set().union(*(kinds_within(item) for item in value)) if isinstance(value, tuple | list) else set()


def test_every_kind_of_record_is_frozen_and_closed_and_has_its_round_trip_here():
    sampled = kinds_within(tuple(SAMPLES))
    for kind in every_kind_of_record():
        assert kind.model_config["frozen"], kind
        assert kind.model_config["extra"] == "forbid", kind
        assert kind in sampled or kind.__name__ in ONLY_SHOWN | TESTED_ELSEWHERE, f"{kind} needs a sample"


@pytest.mark.parametrize("name", list(PASSES))
def test_a_pass_with_its_defaults_is_the_same_after_json_and_yaml(name):
    settings = PASSES[name]()
    assert PASSES[name].from_json(settings.to_json()) == settings
    assert PASSES[name].from_yaml(settings.to_yaml()) == settings


def test_a_digest_depends_on_the_values_alone():
    assert Target(threads=2).digest() == Target(threads=2, batch=1).digest()
    assert Target(threads=2).digest() != Target(threads=3).digest()
    assert len(Target().digest()) == 16


def test_a_trial_record_without_facts_keeps_its_nothing():
    record = TrialRecord.from_json(SAMPLES[2].to_json())
    empty = record.model_copy(update={"facts": None, "error": "Traceback ä\n  …"})
    assert TrialRecord.from_json(empty.to_json()) == empty


def test_yaml_cannot_run_anything():
    with pytest.raises(Exception, match="could not determine a constructor"):
        Target.from_yaml("!!python/object/apply:os.getcwd []")


@pytest.mark.parametrize("content", ["text äµ\n", b"\x00bytes\r\n"])
def test_a_file_is_written_as_it_is_into_folders_that_are_made(tmp_path, content):
    path = tmp_path / "a" / "b" / "file"
    write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "file"
    write_whole(path, "old")

    def fail(self, content):
        with self.open("wb") as half:
            half.write(b"ne")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_whole(path, "[1]")
    seen = []
    write = Path.write_bytes

    def watched(self, content):
        written = write(self, content)
        seen.append(json.loads(path.read_text()))
        return written

    monkeypatch.setattr(Path, "write_bytes", watched)
    write_whole(path, "[2]")
    assert (seen, json.loads(path.read_text())) == ([[1]], [2])
