"""Which type int8 activations take: what times decide, when they are taken, and what a run does with the answer."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from sample_result import machine
from tiny_runs import brief_measuring, costs_by_size, one_core, tiny_task, trained_net

import autocompress as ac
from autocompress.api import config_of
from autocompress.commands.prepare import prepare
from autocompress.commands.survey import look
from autocompress.delivery.bundle import read_certificate
from autocompress.errors import MeasurementError
from autocompress.events import Silence
from autocompress.hardware import int8_activations
from autocompress.hardware.int8_activations import ActivationChoice, choice_for, decide, two_layers
from autocompress.hardware.int8_activations import with_measured_activations as settled
from autocompress.hardware.kept import FOLDER, circumstances_of, keep
from autocompress.hardware.machine import this_machine
from autocompress.measurement import Latency
from autocompress.target import ActivationType, Machine

U8, S8 = ActivationType.U8, ActivationType.S8


def took(ms: float, *, spread: float = 0.005, noisy: bool = False) -> Latency:
    ends = ms * (1 - spread), ms * (1 + spread)
    return Latency(median_ms=ms, p95_ms=ms, interval_ms=ends, rounds=8, runs=99, load_ms=1, threads=1, noisy=noisy)


def usually(kind: ActivationType) -> Machine:
    return machine().model_copy(update={"int8_activations": kind})


class Listener(Silence):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Injected times: ``timed(ms of uint8, ms of int8)``; counts how often they are asked for."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))

    def use(uint8_ms: float, int8_ms: float, **how) -> list[int]:
        asked: list[int] = []

        def times(kinds):
            asked.append(len(kinds))
            return [took(uint8_ms if kind is U8 else int8_ms, **how) for kind in kinds]

        monkeypatch.setattr(int8_activations, "_times", times)
        return asked

    return use


@pytest.mark.parametrize(
    ("usual", "uint8_ms", "int8_ms", "chosen"),
    [
        (U8, 1.0, 2.0, U8),
        (U8, 2.0, 1.0, S8),
        (S8, 2.0, 1.0, S8),
        (S8, 1.0, 2.0, U8),
        (U8, 1.04, 1.0, U8),  # less than is worth it
        (S8, 1.0, 1.04, S8),
    ],
)
def test_the_usual_type_stays_unless_the_other_is_clearly_faster(usual, uint8_ms, int8_ms, chosen):
    mine, others = (uint8_ms, int8_ms) if usual is U8 else (int8_ms, uint8_ms)
    found = decide(usually(usual), took(mine), took(mine), took(others))
    assert found.chosen is chosen
    assert (found.uint8_ms, found.int8_ms) == (uint8_ms, int8_ms)
    assert found.conclusive


@pytest.mark.parametrize(
    ("mine", "copy", "others"),
    [
        (took(1.0), took(1.3), took(0.8)),  # two copies of one file differ by as much
        (took(1.0, spread=0.3), took(1.0, spread=0.3), took(0.8, spread=0.3)),
        (took(2.0, noisy=True), took(2.0), took(1.0)),
        (took(2.0), took(2.0), took(1.0, noisy=True)),
    ],
)
def test_within_the_noise_nothing_changes(mine, copy, others):
    found = decide(usually(U8), mine, copy, others)
    assert found.chosen is U8


def test_a_choice_is_measured_once_told_once_and_kept(timed):
    asked, listener = timed(2.0, 1.0), Listener()
    first = settled(usually(U8), listener)
    timed(1.0, 2.0)
    assert first.int8_activations is settled(usually(U8), listener).int8_activations is S8
    assert asked == [3]
    assert listener.notes == [
        "int8 layers take int8 activations: 2.00× the speed of uint8 on a 3×3 convolution with ReLU"
    ]
    assert first == usually(S8)


def test_another_processor_or_runtime_is_measured_for_itself(timed):
    timed(2.0, 1.0)
    settled(usually(U8), Silence())
    asked = timed(1.0, 2.0)
    other = usually(U8).model_copy(update={"cpu": "another"})
    assert settled(other, Silence()).int8_activations is U8
    assert asked == [3]


def test_a_noisy_measurement_keeps_the_usual_type_says_so_and_only_the_doctor_tries_again(timed):
    timed(2.0, 1.0, noisy=True)
    listener = Listener()
    assert settled(usually(U8), listener).int8_activations is U8
    asked = timed(2.0, 1.0)
    assert settled(usually(U8), listener).int8_activations is U8
    assert asked == []
    assert len(listener.notes) == 2
    assert all("something else was running" in note and "autocompress doctor" in note for note in listener.notes)
    assert choice_for(usually(U8), listener, try_again=True).chosen is S8
    assert settled(usually(U8), listener).int8_activations is S8


def test_a_failed_measurement_keeps_the_usual_type_and_says_why(timed, monkeypatch):
    timed(1, 1)

    def fails(kinds):
        raise MeasurementError("no session")

    monkeypatch.setattr(int8_activations, "_times", fails)
    found = choice_for(usually(S8), Silence())
    assert found.chosen is S8
    assert "no session" in str(found)


def test_what_cannot_be_kept_is_not_used_so_that_the_next_run_does_the_same(timed, monkeypatch, tmp_path):
    timed(2.0, 1.0)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file" / "cache"))
    listener = Listener()
    assert settled(usually(U8), listener).int8_activations is U8
    assert "cannot be kept" in listener.notes[0]


def unusual() -> ActivationType:
    return S8 if this_machine().int8_activations is U8 else U8


@pytest.fixture
def kept_unusual(monkeypatch, tmp_path):
    """As if this machine had been found to prefer the other type."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    keep(
        ActivationChoice(
            circumstances=circumstances_of(this_machine()),
            measured_at="2026-01-01T00:00:00+00:00",
            chosen=unusual(),
            usual=this_machine().int8_activations,
            conclusive=True,
            reason="a test says so",
        )
    )


@pytest.mark.usefixtures("kept_unusual")
def test_a_run_takes_the_kept_choice_for_all_its_files():
    assert this_machine().int8_activations is not unusual()  # stays what the architecture says
    config = config_of(trained_net(), tiny_task(), "size<=50%", {})
    prepared = prepare(config, Silence(), model=trained_net(), task=tiny_task())
    assert prepared.machine.int8_activations is unusual()
    bench, _ = look(prepared, Silence(), ())
    assert bench.machine == prepared.machine


@pytest.mark.slow
@pytest.mark.usefixtures("kept_unusual")
def test_a_recipe_gives_the_same_file_by_the_kept_choice_and_its_certificate_shows_it(tmp_path):
    recipe = ac.Recipe.from_yaml("{schema: 1, passes: [quantize: {}]}")
    files = []
    with brief_measuring(), costs_by_size():
        for name in ("first", "again"):
            ac.apply(recipe, trained_net(), tiny_task(), tmp_path / name, time=100)
            files.append((tmp_path / name / "best" / "model.onnx").read_bytes())
    assert files[0] == files[1]
    assert read_certificate(tmp_path / "first" / "best").machine == one_core().model_copy(
        update={"int8_activations": unusual()}
    )
    graph = onnx.load_from_string(files[0]).graph
    stored = {item.name: item.data_type for item in graph.initializer}
    rounding = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    expected = onnx.TensorProto.INT8 if unusual() is S8 else onnx.TensorProto.UINT8
    assert stored[rounding.input[2]] == expected


def test_a_choice_crosses_the_disk():
    found = decide(usually(U8), took(1.0), took(1.01), took(3.0))
    assert ActivationChoice.from_json(found.to_json()) == found


def test_both_files_compute_the_same_by_integer_kernels(tmp_path):
    """Far from the ends of both types. If the runtime did not fuse the convolutions, floats would be timed."""
    inputs = np.random.default_rng(0).choice(np.float32([0, 0.05, 0.1]), (1, 64, 28, 28))
    outputs = []
    for kind in ActivationType:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        fused = tmp_path / f"{kind}.onnx"
        options.optimized_model_filepath = str(fused)
        session = ort.InferenceSession(
            two_layers(kind).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        assert fused.read_bytes().count(b"QLinearConv") >= 2
        outputs += session.run(None, {"input": inputs})
    assert 0.1 < outputs[0].max() < 6
    np.testing.assert_array_equal(*outputs)


def test_measuring_for_real_gives_times_of_both(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    found = choice_for(machine(), Silence())
    assert found.uint8_ms
    assert found.int8_ms
    assert found.floor_ratio is not None
