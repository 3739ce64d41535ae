"""Any two techniques, and all together: applied, recovered, trained with their roundings, written, run."""

from functools import cache
from itertools import combinations, cycle
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, ValueInfoProto, numpy_helper
from pass_examples import Settings, blocks_of, composed, groups_of, layers_of, sharing
from tiny_exports import calibration_of, machine, preprocess_of, run, seen
from tiny_tasks import task_for

from autocompress.export.onnx_file import INPUT_NAME
from autocompress.export.onnx_graph import attribute
from autocompress.export.write_file import Draft, draft
from autocompress.layers.constraint import Constraint, held, held_in
from autocompress.passes import PASSES
from autocompress.passes.compose import Composed
from autocompress.recipe import PassStep, Recovery
from autocompress.recover.quantize_aware import train_draft, trainable
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import recover
from autocompress.task import Array

PRUNED = [
    {"criterion": "l1", "align": 4},
    {"criterion": "random", "align": 2},
    {"criterion": "taylor", "align": 8},
]
SPARSE = [{"sparsity": 0.6}, {"pattern": "2:4"}, {"sparsity": 0.9}, {"pattern": "1:4"}]
FACTORS = [
    {"rank": 1},
    {"method": "tucker2", "ranks": [2, 2]},
    {"method": "cp", "rank": 2},
    {"method": "spatial_svd", "rank": 1},
]
CODEBOOKS = [{"bits": 3}, {"bits": 2, "groups": 2}, {"bits": 4}]
PRECISIONS: list[Settings] = [
    {"default": {"weights": "int8", "activations": "int8"}},
    {"default": {"weights": "int4", "activations": "int8"}, "correct_bias": True, "equalize": True},
    {"default": {"weights": "int8", "activations": "int8_dynamic"}},
    {"default": {"weights": "int8", "block": 16}},
    {"default": {"weights": "int5"}, "correct_bias": True},
    {"default": {"weights": "fp16"}},
    {"default": {"weights": "int8", "activations": "int8"}, "calibration": "mse"},
    {"default": {"weights": "int6", "activations": "int8"}, "calibration": "percentile"},
]
# Of the spread of outputs: how far a file may lie from the network that computes with its roundings, at most; a fifth
# of that in the mean. A number halfway between two integers may be rounded either way, and moves few outputs by steps.
# The network knows nothing of ranges that are found at each inference, of blocks and of half floats.
STEP = {"int8": 0.05, "int8_dynamic": 0.06, "fp16": 0.01, "block": 0.06, "fp32": 2e-3}


def settings_of(kind: str, name: str, turn: int) -> Settings:
    """What the pass is asked to do in its ``turn``-th case; for layers that the pass drop_blocks leaves."""
    dropped = tuple(f"{block.name}." for block in blocks_of(name)[-1:])
    layers = [layer for layer in layers_of(name) if not layer.startswith(dropped)]
    match kind:
        case "drop_blocks":
            return {"blocks": [block.name for block in blocks_of(name)[-1:]]}
        case "prune_channels":
            ratios = {group.name: 0.5 for group in groups_of(name) if not group.name.startswith(dropped)}
            return {"ratios": ratios, **PRUNED[turn % len(PRUNED)]}
        case "prune_weights":
            each = {layer: SPARSE[turn % len(SPARSE)] for layer in layers}
            return {"layers": each, "criterion": ("magnitude", "taylor")[turn % 2]}
        case "factorize":
            return {"layers": dict.fromkeys(layers[1:], FACTORS[turn % len(FACTORS)]), "gain": "smaller"}
        case "share_layers":
            groups = [[b for b in group if not f"{b}.".startswith(dropped)] for group in sharing(name)[0]["groups"]]
            return {"groups": [group for group in groups if len(group) > 1]}
        case "share_weights":
            return {"layers": dict.fromkeys(layers, CODEBOOKS[turn % len(CODEBOOKS)])}
        case "quantize":
            return PRECISIONS[turn % len(PRECISIONS)]
    raise AssertionError(f"{kind} needs settings here")


# A student has other layers than the model whose place it takes; see test_student_pass.
ON_THE_BASE = [kind for kind in PASSES if kind != "student"]
MODELS = ("residual", "depthwise", "grouped", "concat", "tied", "vit blocks", "conv1d", "lstm", "gru")
WITH_BLOCKS = ("deep residual", "vit blocks", "residual")


def cases() -> list[Any]:
    """Every pair on two models, in turns over models and variants; all passes on every model."""
    models, with_blocks = cycle(MODELS), cycle(WITH_BLOCKS)
    turns = dict.fromkeys(ON_THE_BASE, 0)
    found: list[Any] = []

    def add(name: str, kinds: tuple[str, ...]) -> None:
        steps = {kind: turns[kind] for kind in kinds}
        turns.update({kind: turn + 1 for kind, turn in steps.items()})
        found.append(pytest.param(name, steps, id=f"{name}-{'+'.join(kinds)}"))

    for pair in combinations(ON_THE_BASE, 2):
        about_blocks = {"drop_blocks", "share_layers"} & set(pair)
        add("deep residual" if "share_layers" in pair else next(with_blocks if about_blocks else models), pair)
        add(next(models), pair)
    for name in ("deep residual", *MODELS):
        add(name, tuple(ON_THE_BASE))
    return found


def test_all_variants_have_their_turn():
    used = {kind: [case.values[1][kind] for case in cases() if kind in case.values[1]] for kind in ON_THE_BASE}
    assert all(turns == list(range(len(turns))) for turns in used.values())
    assert min(map(len, used.values())) >= max(map(len, (PRUNED, SPARSE, FACTORS, CODEBOOKS, PRECISIONS)))
    assert {case.values[0] for case in cases()} == {"deep residual", *MODELS}


@pytest.mark.parametrize(("name", "turns"), cases())
def test_techniques_together_end_in_a_file_that_computes_what_was_trained(name, turns):
    steps = [PassStep(name=kind, settings=settings_of(kind, name, turn)) for kind, turn in turns.items()]
    result = composed(name, *steps)
    assert changing(name, turns) <= {key.partition(": ")[0] for key in result.changed}
    stream, settings = SampleStream(task_for(name), 0), Recovery(steps=3, batch=16)
    with held(held_in(result.model, result.constraints)):
        recover(result.model, stream, settings, teacher=None)
    x = calibration_of(name)
    in_floats = result.model(x).detach().numpy()

    made = written(name, result)
    network = trainable(made)
    spread = np.ptp(in_floats) + 1e-3
    assert np.abs(network(x).detach().numpy() - in_floats).max() < coarse(turns) * spread

    if result.plan.is_quantized:
        aware = settings.model_copy(update={"quantize_aware": True})
        made, network = train_draft(made, stream, aware, teacher=None)
    file = ModelProto.FromString(made.finished())
    trained = network(x).detach().numpy()
    error = np.abs(run(file, x) - trained)
    assert error.max() < step(turns) * (np.ptp(trained) + 1e-3)
    assert error.mean() < step(turns) / 5 * (np.ptp(trained) + 1e-3)
    check_constraints(file, made, result.constraints)


def written(name: str, result: Composed) -> Draft:
    on = machine()
    return draft(result.model, result.plan, result.constraints, seen(name), preprocess=preprocess_of(name), machine=on)


@cache
def changes_alone(name: str, kind: str, turn: int) -> bool:
    return bool(composed(name, PassStep(name=kind, settings=settings_of(kind, name, turn))).changed)


def changing(name: str, turns: dict[str, int]) -> set[str]:
    """The passes of two that must have something to do after each other too.

    What is smaller may be too small for the second, and a codebook has its own precision.
    """
    order = [kind for kind in turns if changes_alone(name, kind, turns[kind])] if len(turns) == 2 else []
    hands_over = {"prune_channels", "factorize", "drop_blocks", "share_weights"} & set(order[:1])
    return set(order[:1]) if hands_over else set(order)


def precision(turns: dict[str, int]) -> dict[str, str]:
    return (
        settings_of("quantize", "plain", turns["quantize"])["default"] if "quantize" in turns else {"weights": "fp32"}
    )


def step(turns: dict[str, int]) -> float:
    """The tolerance of the file's own arithmetic."""
    form = precision(turns)
    if "block" in form:
        return STEP["block"]
    return STEP["fp16"] if form["weights"] == "fp16" else STEP[form.get("activations", "fp32")]


def coarse(turns: dict[str, int]) -> float:
    """What rounding to so few bits may do to outputs that nothing has been trained for."""
    form = precision(turns)
    bits = {"fp32": 16, "fp16": 10}.get(form["weights"]) or int(form["weights"][3:])
    return 1e-3 if bits == 16 else min(0.6, 0.15 * 2 ** (8 - bits))


def check_constraints(file: ModelProto, made: Draft, constraints: dict[str, Constraint]) -> None:
    """Zeros are zeros and clusters have few values, in the weights that the runtime decodes."""
    scales = {weight.node: weight.channel_scale for weight in made.weights}
    for node, stored, is_whole in decoded_weights(file):
        constraint = constraints.get(node.partition("#")[0])
        if constraint is None:
            continue
        layer, scale = node, scales.get(node)
        factors = scale if is_whole and scale is not None and stored.dtype == np.float32 else np.ones(1)
        weight = stored / factors.reshape(-1, *[1] * (stored.ndim - 1))
        kept = np.ones(weight.shape, bool) if constraint.kept is None else constraint.kept.numpy()
        assert not weight[~kept].any(), layer
        assert weight[kept].any(), layer
        if constraint.indices is not None:
            group = np.arange(len(weight)) * constraint.groups // len(weight)
            for each in range(constraint.groups):
                values = np.sort(weight[group == each][kept[group == each]].astype(float))
                apart = np.diff(values) > 1e-5 * np.abs(values).max()
                assert apart.sum() < 2**constraint.bits, layer


def decoded_weights(file: ModelProto) -> list[tuple[str, Array, bool]]:
    """Name and weight ``[c_out, ...]`` of each node as the file decodes it, unscaled; whether it lies there whole."""
    makers = {output: node for node in file.graph.node for output in node.output}
    stored = {item.name: numpy_helper.to_array(item) for item in file.graph.initializer}
    names = {}
    for node in file.graph.node:
        if node.op_type in {"Conv", "Gemm", "MatMul", "MatMulInteger"}:
            name = node.input[1]
            while name in makers and makers[name].op_type in {"DequantizeLinear", "Mul"}:
                name = makers[name].input[0]
            names[node.name] = name
    opened = ModelProto()
    opened.CopyFrom(file)
    wanted = sorted({name for name in names.values() if name in makers})
    opened.graph.output.extend(ValueInfoProto(name=name) for name in wanted)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    found = stored | dict(
        zip(wanted, session.run(wanted, {INPUT_NAME: np.zeros(shape, "f")}) if wanted else (), strict=True)
    )
    nodes = {node.name: node for node in file.graph.node}
    return [(node, oriented(nodes[node], found[name]), name == nodes[node].input[1]) for node, name in names.items()]


def oriented(node: NodeProto, weight: Array) -> Array:
    turned = node.op_type == "Gemm" and not attribute(node, "transB", 0)
    return weight.T if turned or node.op_type.startswith("MatMul") else weight
