"""Networks to profile by: the same from the same seed, of every declared kind, and all of them run."""

from math import prod

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from autocompress.errors import SpaceError
from autocompress.hardware.drawn import images
from autocompress.hardware.drawn.draw import draw, draw_student, draw_timm
from autocompress.hardware.drawn.kinds import FLOAT_ONLY, KINDS
from autocompress.hardware.drawn.net import Activation, Net, repeated
from autocompress.hardware.drawn.space import NetworkSpace, profile_space, read_space
from autocompress.hardware.drawn.style import Style
from autocompress.hardware.machine import this_machine
from autocompress.paths import spaces_folder
from autocompress.search.space import shipped_spaces

FILE = spaces_folder() / "networks" / "profile.yaml"


def of_kind(kind: str, int8: float, mixed: float = 0.0) -> NetworkSpace:
    return profile_space().model_copy(update={"kinds": {kind: 1.0}, "int8": int8, "mixed": mixed})


def operators(proto: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(proto).graph.node}


def test_the_same_seed_gives_the_same_file_and_another_another():
    machine = this_machine()
    assert draw(3, machine) == draw(3, machine)
    assert draw(3, machine).proto != draw(4, machine).proto


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs(kind):
    drawn = draw(0, this_machine(), of_kind(kind, 0.0))
    assert (drawn.family, drawn.precision, drawn.name) == (kind, "fp32", "drawn-0")
    session = ort.InferenceSession(drawn.proto, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    (made,) = session.run(None, {given.name: np.zeros(given.shape, np.float32)})
    assert np.isfinite(made).all()


@pytest.mark.parametrize("kind", ["perceptron", "series"])
def test_int8_rounds_and_is_called_so(kind):
    drawn = draw(0, this_machine(), of_kind(kind, 1.0))
    assert drawn.precision == "int8"
    assert "DequantizeLinear" in operators(drawn.proto)


def test_layers_of_low_rank_are_two_that_make_the_same_shape():
    made = []
    for share in (0.0, 1.0):
        net = Net(np.random.default_rng(0), (1, 8, 6, 6), share)
        x = net.conv(net.conv(net.input, 12, 3, 2, act=Activation.RELU), 12, 3, groups=12)
        proto = net.model(net.linear(net.reshape(x, 1, 108), 10))
        onnx.checker.check_model(proto)
        made.append(proto)
    plain, factored = ([node.op_type for node in each.graph.node] for each in made)
    assert plain == ["Conv", "Relu", "Conv", "Reshape", "Gemm", "Identity"]
    assert factored == ["Conv", "Conv", "Relu", "Conv", "Reshape", "Gemm", "Gemm", "Identity"]
    assert [len(node.input) for node in made[1].graph.node if node.op_type == "Conv"] == [2, 3, 3], "as SVD leaves them"
    weights = {item.name: item.dims for item in made[1].graph.initializer}
    first, second, depthwise = (weights[node.input[1]] for node in made[1].graph.node if node.op_type == "Conv")
    assert (first[1:], second[2:], depthwise) == ([8, 3, 3], [1, 1], [12, 1, 3, 3])
    assert 1 <= first[0] == second[1] <= 6


def test_a_head_may_widen_the_means_first():
    net = Net(np.random.default_rng(0), (1, 8, 4, 4))
    nodes = net.model(net.head(net.input, 3, hidden=20, act=Activation.RELU)).graph.node
    assert [node.op_type for node in nodes][-5:] == ["Conv", "Relu", "Reshape", "Gemm", "Identity"]


def test_small_networks_compute_a_fraction_of_what_others_do(monkeypatch):
    def total_macs(seed: int, small: float) -> int:
        monkeypatch.setattr(images, "SMALL", small)
        rng = np.random.default_rng(seed)
        net, last = images.image_net("residual", Style.drawn(rng), rng)
        graph = onnx.shape_inference.infer_shapes(net.model(last)).graph
        made = {value.name: prod(d.dim_value for d in value.type.tensor_type.shape.dim) for value in graph.value_info}
        weights = {item.name: item.dims for item in graph.initializer}
        return sum(
            made[node.output[0]] * prod(weights[node.input[1]][1:]) for node in graph.node if node.op_type == "Conv"
        )

    small, others = (np.median([total_macs(seed, share) for seed in range(8)]) for share in (1.0, 0.0))
    assert small < others / 4


def test_every_way_of_resizing_runs():
    modes = set()
    for seed in range(30):
        net = Net(np.random.default_rng(seed), (1, 3, 4, 4))
        proto = net.model(net.larger(net.input, (8, 8)))
        modes |= {attribute.s for attribute in proto.graph.node[0].attribute if attribute.name == "mode"}
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        assert session.run(None, {"input": np.ones((1, 3, 4, 4), np.float32)})[0].shape == (1, 3, 8, 8)
    assert modes == {b"nearest", b"linear", b"cubic"}


def test_mixed_networks_leave_stretches_of_layers_float():
    """Told by where the second input of each layer comes from: rounded weights are decoded first."""

    def is_int8(seed: int) -> list[bool]:
        graph = onnx.load_model_from_string(draw(seed, this_machine(), of_kind("perceptron", 1.0, 1.0)).proto).graph
        decoded = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        return [node.input[1] in decoded for node in graph.node if node.op_type in {"Gemm", "MatMul"}]

    found = [is_int8(seed) for seed in range(8)]
    assert all(any(each) for each in found)
    assert sum(not all(each) for each in found) >= 4


def test_recurrent_networks_stay_float():
    assert {draw(seed, this_machine(), of_kind(next(iter(FLOAT_ONLY)), 1.0)).precision for seed in range(3)} == {"fp32"}


def test_kinds_are_drawn_in_their_shares():
    space = profile_space().model_copy(update={"kinds": {"perceptron": 3.0, "recurrent": 1.0}, "int8": 0.0})
    families = [draw(seed, this_machine(), space).family for seed in range(60)]
    assert 0.6 < families.count("perceptron") / 60 < 0.9


def test_the_space_names_every_kind_and_is_no_search_space():
    space = read_space(FILE)
    assert set(space.kinds) == set(KINDS)
    assert space.timm.share <= 0.1
    assert space.timm.share + space.students.share <= 0.5, "odd widths and factors come from the random ones"
    assert {about.family for about in space.timm.models.values()} == {
        *("resnet", "mobilenetv2", "mobilenetv3", "vit", "convnext"),
    }
    assert "profile" not in shipped_spaces()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("  plain:", "  plane:", r"at kinds: kinds of networks are .*, not 'plane'; near: plain"),
        ("int8: 0.5", "int8: 42", r"at int8: Input should be less than or equal to 1, got 42"),
        ("  plain: 0.06", "  plain: 0", r"at kinds.plain: Input should be greater than 0"),
        ("kinds:", "kinds: [", r"must be YAML"),
        ("sizes: [64, 96, 128, 160]}", "sizes: []}", r"at timm.models.resnet10t.sizes: .*at least 1 item"),
    ],
)
def test_a_space_that_does_not_hold_together_is_refused(tmp_path, before, after, message):
    text = FILE.read_text()
    assert before in text
    (tmp_path / "s.yaml").write_text(text.replace(before, after, 1))
    with pytest.raises(SpaceError, match=message):
        read_space(tmp_path / "s.yaml")


def test_numbers_repeat_but_neither_rows_nor_weights_are_equal():
    first, second = repeated((64, 64), 0, 1.0), repeated((64, 64), 1, 1.0)
    assert len(np.unique(first)) <= 1021
    assert len(np.unique(first, axis=0)) == 64
    assert not np.array_equal(first, second)
    assert abs(first.std() - 1) < 0.1


@pytest.mark.slow
def test_models_of_timm_come_in_both_precisions():
    models = {"mobilenetv3_small_050": {"family": "mobilenetv3", "sizes": [32]}}
    timm = type(profile_space().timm).model_validate({"share": 0.1, "classes": 5, "models": models})
    fp32, int8 = draw_timm(7, this_machine(), profile_space().model_copy(update={"timm": timm}))
    assert fp32.name == "timm-7-mobilenetv3_small_050-32-fp32"
    assert (fp32.family, fp32.precision, int8.precision) == ("mobilenetv3", "fp32", "int8")
    assert "DequantizeLinear" in operators(int8.proto) - operators(fp32.proto)


@pytest.mark.parametrize("family", ["resnet", "mbconv", "convnext", "vit", "conv1d", "mlp"])
def test_students_come_in_both_precisions_and_a_seed_repeats(family):
    students = {"share": 0.1, "families": {family: 1.0}}
    space = profile_space().model_copy(update={"students": type(profile_space().students).model_validate(students)})
    fp32, int8 = draw_student(3, this_machine(), space)
    assert fp32.name == f"student-3-{family}-fp32"
    assert (fp32.family, fp32.precision, int8.precision) == (family, "fp32", "int8")
    assert "DequantizeLinear" in operators(int8.proto) - operators(fp32.proto)
    assert draw_student(3, this_machine(), space)[0].proto == fp32.proto
