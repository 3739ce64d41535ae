"""Weights in the file in the fewest bytes."""

import numpy as np
import pytest
from onnx import ModelProto
from pass_examples import Settings, composed, layers_of
from tiny_exports import calibration_of, machine, preprocess_of, run, seen

from autocompress.export.compact import compact, drop_unused
from autocompress.export.write_file import Draft, draft
from autocompress.precision import INT8, Activations, FilePlan, Format, Precision
from autocompress.recipe import PassStep


def drafted(name: str, plan: FilePlan, **passes: Settings) -> Draft:
    result = composed(name, *(PassStep(name=kind, settings=settings) for kind, settings in passes.items()))
    return draft(
        result.model, plan, result.constraints, seen(name), preprocess=preprocess_of(name), machine=machine()
    )  # fmt: skip


def unpacked_bytes(made: Draft) -> int:
    proto = ModelProto()
    proto.CopyFrom(made.proto)
    drop_unused(proto)
    return compact(proto).ByteSize()


def every(name: str, **settings: object) -> Settings:
    return {"layers": dict.fromkeys(layers_of(name), settings)}


FORMS = {
    "4 bits": (Precision(weights=Format.INT4, activations=Activations.INT8), {}),
    "sparse integers": (INT8, {"prune_weights": every("residual", sparsity=0.8)}),
    "sparse 5 bits in float": (Precision(weights=Format.INT5), {"prune_weights": every("residual", sparsity=0.8)}),
    "sparse floats": (Precision(), {"prune_weights": every("residual", sparsity=0.8)}),
    "integer codebook": (INT8, {"share_weights": every("residual", bits=3)}),
    "sparse integer codebook": (
        INT8,
        {"prune_weights": every("residual", pattern="2:4"), "share_weights": every("residual", bits=2)},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_smaller_file_computes_the_same(form):
    precision, passes = FORMS[form]
    made = drafted("residual", FilePlan(default=precision), **passes)
    file = ModelProto.FromString(made.finished())
    x = calibration_of("residual")
    assert file.ByteSize() < 0.97 * unpacked_bytes(made)
    expected = run(made.proto, x)
    # A float kernel may sum in another order when its weight is a constant.
    atol = 1e-6 * np.ptp(expected) if precision.weights is Format.INT5 else 0
    np.testing.assert_allclose(run(file, x), expected, rtol=0, atol=atol)


def test_a_codebook_of_floats_computes_the_same_but_for_the_rounding_of_its_factors():
    made = drafted("residual", FilePlan(), share_weights=every("residual", bits=3))
    x = calibration_of("residual")
    file = ModelProto.FromString(made.finished())
    expected = run(made.proto, x)
    assert file.ByteSize() < 0.5 * unpacked_bytes(made)
    np.testing.assert_allclose(run(file, x), expected, atol=1e-5 * np.ptp(expected))


def test_half_floats_are_half_the_bytes_and_right_to_eleven_bits():
    made = drafted("padded shortcut", FilePlan(default=Precision(weights=Format.FP16)))
    file = ModelProto.FromString(made.finished())
    x = calibration_of("padded shortcut")
    expected = run(made.proto, x)
    assert 0.5 < file.ByteSize() / unpacked_bytes(made) < 0.56
    assert 0 < np.abs(run(file, x) - expected).max() < 2e-3 * np.ptp(expected)


def test_a_weight_stays_as_it_is_where_that_is_smaller():
    plan = FilePlan(layers={"features.4.0": Precision(weights=Format.INT4, activations=Activations.INT8)})
    made = drafted("depthwise", plan)  # 9 weights in each of 24 channels
    file = ModelProto.FromString(made.finished())
    assert file.ByteSize() <= unpacked_bytes(made)
    assert "BitwiseAnd" not in {node.op_type for node in file.graph.node}


@pytest.mark.parametrize(
    "precision", [Precision(), Precision(weights=Format.FP16), INT8, Precision(weights=Format.INT6)], ids=str
)
def test_blocks_that_share_their_kernels_have_them_once(precision):
    """BatchNorm is folded into each use of a kernel by other factors."""
    name, plan = "deep residual", FilePlan(default=precision)
    groups = {"groups": [["features.2", "features.3", "features.4"]]}
    alone, shared = drafted(name, plan), drafted(name, plan, share_layers=groups)
    saved = len(alone.finished()) - len(shared.finished())
    weight_bytes = {None: 4, 8: 1, 6: 6 / 8}[precision.weights.bits] / (2 if precision.weights is Format.FP16 else 1)
    assert saved > 4 * 8 * 8 * 9 * weight_bytes - 4 * (8 * 4 + 180)  # two kernels of two blocks; factors, nodes instead
    x = calibration_of(name)
    expected = run(shared.proto, x)
    error = np.abs(run(ModelProto.FromString(shared.finished()), x) - expected).max()
    assert error <= (2e-3 if precision.weights is Format.FP16 else 1e-5) * np.ptp(expected)


def test_the_draft_is_left_alone():
    made = drafted("mlp", FilePlan(default=Precision(weights=Format.INT4)))
    before = made.proto.SerializeToString(deterministic=True)
    assert made.finished() == made.finished()
    assert made.proto.SerializeToString(deterministic=True) == before
